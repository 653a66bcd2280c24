//! The folder of a run: how it is started, resumed, opened and published.
//!
//! `folder` recognises run and model folders strictly and reads their configs. `trained` opens the
//! tokenizer of such a folder; `maker` finds the weights of a run that made tokens; `opened` opens
//! whatever a path names, also tokenizers of other programs.
//!
//! `training` starts or resumes a run of any task: `settings` makes its config, `resume` checks
//! what is there, `precision` decides in what it trains, and `task` says what it needs of its task.
//! `together` is what only several processes do. Of a tokenizer, that is `tokenizer`: `init` takes
//! the weights of a different run, `networks` and `loss` decide what is trained, `summary` says so in
//! four lines, and `dry_run` and `memory` describe the run in advance. `images` finds the images of a
//! config, and `check_data` reads them all once. `publish` makes a folder to share from a run.
//!
//! Messages for the user, and progress, are handed to a [`Tell`]; nothing here prints.

mod as_text;
mod check_data;
mod compute;
mod dry_run;
mod folder;
mod images;
mod init;
pub mod libtorch;
mod loss;
mod maker;
mod memory;
mod networks;
mod opened;
mod other_settings;
mod precision;
mod publish;
mod resume;
mod settings;
mod summary;
mod task;
mod tell;
mod together;
mod tokenizer;
mod trained;
mod training;
pub mod weights;

pub use compute::{Compute, ModelChoice};
pub use folder::{CONFIG, DESCRIPTION, MODEL, Run};
pub(crate) use images::validation_images;
pub use images::{
    Pick, check_batch, drop_those_of_config, tell_omitted, tell_overlap, training_set, validation_set,
    words_of_validation,
};
pub use loss::loss_weights_among;
pub use maker::WeightsChoice;
pub use opened::{Found, Opened, adapter};
#[cfg(test)]
pub(crate) use publish::publish_toy;
pub use publish::{DECODER, ENCODER, Published};
pub use settings::TrainOptions;
pub use tell::{Meter, Tell, Work};
pub use trained::{ChosenBy, Trained};
pub use training::{Described, describe, train};
