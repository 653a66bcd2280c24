//! Comparisons: tokenizers on equal terms, taken as they are, or trained as a sweep says, which is
//! one TOML file.
//!
//! ```toml
//! base = "../photos96-fsq.toml"           # beside this file
//! seeds = [0, 1]
//! set = { "train.steps" = 300 }           # for every arm; keys as of `--set`
//!
//! [grid]                                  # an arm per quantizer and size: fsq-256, vq-256, …
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
//!
//! `subject` tells a sweep from a tokenizer. `file` is a sweep's file, and `plan` the configs made
//! from it; `given` plans the comparison of tokenizers as they are. `layout` defines the paths in
//! the comparison's folder, `jobs` lists the jobs, and `job` trains and evaluates one arm with one
//! seed in processes of their own (`child`, which get their `work`). `existing` tries tokenizers
//! that are not trained, `problems` are told all at once before anything runs, `diverged` records
//! trainings that would only fail again, `queue` runs the jobs, and `speeds` measures all arms in
//! turn after them. `collect` gathers their results: `shared` determines over which images, `pairs`
//! compares every two arms, and `exhibits` prepares the page. `compare` calls these in turn, and
//! `dry_run` describes what it would do.

mod child;
mod collect;
mod compare;
mod diverged;
mod dry_run;
mod exhibits;
mod existing;
mod file;
mod given;
mod job;
mod jobs;
mod layout;
mod pairs;
mod plan;
mod problems;
mod queue;
mod shared;
mod speeds;
mod subject;
mod work;

pub use compare::{CompareOptions, Compared, compare, describe};
pub use file::{ArmEntry, Grid, SweepFile};
pub use plan::{Changes, Plan, PlannedArm, Recipe, Source, SweepError};
pub use work::{Assignment, WORK_COMMAND, Work};
