//! The plan of a comparison: which tokenizers are trained or taken as they are, from one TOML file.
//!
//! ```toml
//! base = "../photos96-fsq.toml"           # beside this file
//! seeds = [0, 1]
//! set = { "train.steps" = 300 }           # for every arm; keys as of `--set`
//!
//! [grid]                                  # an arm for each quantizer at each size: fsq-256, vq-256, …
//! codebook_sizes = [256, 1024]
//! quantizers = { fsq = { kind = "fsq" }, vq = { kind = "vq" } }
//!
//! [[arms]]
//! name = "vq-restart"
//! set = { quantizer = { kind = "vq", restart_threshold = 1.0 } }
//!
//! [[arms]]                                # taken as it is: whatever `pixtok eval` measures
//! name = "cosmos"
//! path = "../cosmos.toml"
//! ```

mod file;
mod plan;

pub use file::{ArmEntry, Grid, SweepFile};
pub use plan::{Plan, PlannedArm, Source, SweepError};
