//! Uses a trained tokenizer: figures on images, its speed beside others', reconstructions, its codes
//! as a table; and the originals that other programs reconstruct.

mod codebook;
mod evaluation;
mod prepare;
mod reconstruct;
mod speed;

pub use codebook::{CodebookOptions, write_codebook};
pub use evaluation::{
    AbsentPrefix, EVALUATION_TIMEOUT, EvaluateOptions, MeasureOptions, Measured, TrainingSearch, evaluate,
};
pub use prepare::{OriginalFit, PrepareOptions, prepare};
pub use reconstruct::{ReconstructOptions, reconstruct};
pub use speed::{SpeedOptions, SpeedRecord, Speeds, Spread, first_batch, measure_speeds};
