//! The names of the files that a command writes, and how they are written.

mod names;
mod write;

pub use names::{Clash, Names, Naming, is_inside, png_of, refuse_clashes};
pub use write::{make_empty, write, write_png};
