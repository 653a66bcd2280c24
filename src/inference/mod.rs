//! Uses a trained tokenizer: figures on images, reconstructions, its codes as a table; and the
//! originals that other programs reconstruct.

mod codebook;
mod evaluation;
mod prepare;
mod reconstruct;

pub use codebook::{CodebookOptions, write_codebook};
pub use evaluation::{EvaluateOptions, MeasureOptions, Measured, evaluate};
pub use prepare::{OriginalFit, PrepareOptions, prepare};
pub use reconstruct::{ReconstructOptions, reconstruct};
