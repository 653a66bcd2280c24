//! The foundation of all parts of pixtok: seeds, paths, caught panics, JSON that keeps its
//! spelling, and recognising files by their first bytes.

mod carried;
mod misuse;
pub mod panics;
pub mod paths;
pub mod seed;
pub mod sniff;

pub use carried::Carried;
pub use misuse::Misuse;

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The largest side of an image in pixels: a picture of this size has 2^28 pixels, as many as are
/// decoded at most.
pub const MAX_SIDE: u32 = 1 << 14;
