//! The files that a command writes: their names, sheets of pictures, and how they are written.

mod names;
mod sheet;
mod write;

pub use names::{Clash, Names, Naming, is_inside, png_of, refuse_clashes};
pub use sheet::{caption, comparison};
pub use write::{make_empty, write, write_png};
