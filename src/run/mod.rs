//! The folder of a run: begun, gone on with, opened, started from, published.
//!
//! `folder` is strict about what a run or a model folder is and reads its config. `trained` opens
//! its tokenizer; `opened` opens whatever a path names, ours or another's. `training` begins a run
//! or goes on with one: `settings` makes its config, `resume` checks what is there, `init` takes
//! another run's weights, `networks`, `loss` and `precision` decide what trains, and `dry_run` and
//! `memory` say what it will be. `images` are those that a config names. `publish` makes a folder
//! to share of a run.
//!
//! What the user should know on the way is handed to a [`Tell`]; nothing here prints.

mod as_text;
mod compute;
mod dry_run;
mod folder;
mod images;
mod init;
pub mod libtorch;
mod loss;
mod memory;
mod networks;
mod opened;
mod other_settings;
mod precision;
mod publish;
mod resume;
mod settings;
mod tell;
mod trained;
mod training;
pub mod weights;

pub use compute::{Compute, ModelChoice};
pub use folder::{CONFIG, DESCRIPTION, MODEL, Run};
pub use images::{
    Pick, check_batch, tell_omitted, tell_shared, training_set, validation_set, words_of_validation,
};
pub use loss::loss_weights_among;
pub use opened::{Found, Opened, adapter};
pub use publish::{DECODER, ENCODER, Published};
pub use settings::TrainOptions;
pub use tell::Tell;
pub use trained::{ChosenBy, Trained};
pub use training::{describe, train};
