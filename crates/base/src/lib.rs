//! What every part of pixtok rests on: seeds, paths, caught panics, classes of errors, suggestions for
//! misspelt names, JSON that stays as it was written, and what a file is by its first bytes.

mod action;
mod carried;
mod class;
mod misuse;
pub mod panics;
pub mod paths;
pub mod seed;
pub mod sniff;
pub mod suggest;

pub use action::Action;
pub use carried::Carried;
pub use class::{Class, Classified};
pub use misuse::Misuse;

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The largest side of an image in pixels: a picture of this size has 2^28 pixels, as many as are
/// decoded at most.
pub const MAX_SIDE: u32 = 1 << 14;
