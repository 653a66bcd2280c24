//! The run folder on disk: checkpoints that are saved whole or not at all, verified when they are
//! read, and kept by rule.
//!
//! ```text
//! RUN/
//!   .lock                  held by the trainer, dropped with its process
//!   .pixtok-output         marks the folder, so that searches for images skip it
//!   best.json              which checkpoint is best, by which metric, on which images
//!   step-000600/           one checkpoint
//!     model.safetensors      parameters and buffers
//!     ema.safetensors        the averaged weights, when the run keeps them
//!     optimizer.safetensors  moments
//!     state.json             counters and whatever else the trainer resumes from
//!     manifest.json          size and blake3 of each file above; written last
//!     kept-for-tokens.txt    keeps the checkpoint, since `pixtok encode` made tokens with it
//! ```
//!
//! Only files that the manifest lists are read. Nothing is patched or guessed on load: a checkpoint
//! that differs from what was saved is an error. Only a resume falls back to an older one, and it
//! reports that. The other files of a run folder (config, logs, samples) belong to the code that
//! writes them, with [`write_atomic`].

mod atomic;
mod error;
mod kept;
mod lock;
mod manifest;
mod retention;
mod run_folder;
mod saver;
mod snapshot;
mod which;
mod writer;

pub use atomic::{create_folder, sync_folder, write_atomic, write_atomic_with};
pub use error::{Error, SaveCause};
pub use lock::Lock;
pub use retention::{Best, Candidate, ValidationImages};
pub use run_folder::{DamagedCheckpoint, Resumed, RunFolder};
pub use saver::{Saved, Saver};
pub use snapshot::{Loaded, SavedModel, Snapshot, copy_into};
pub use which::{Which, WhichError};
pub use writer::RunWriter;
