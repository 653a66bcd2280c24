//! The network with every number worked out, for readers that do not know pixtok's defaults.

use serde::Serialize;

use super::config::Config;
use super::plan::{EPS, Plan};
use pixtok_tokens::Grid;

/// The settings with absent ones filled in, and what follows from them.
#[derive(Serialize)]
pub(super) struct Description {
    kind: &'static str,
    /// As in a config, in numbers: `width`, `depth`, `heads`, those of the decoder and
    /// `latent_channels` are there always.
    #[serde(flatten)]
    settings: Config,
    /// The width inside the encoder's feed-forward parts.
    hidden: i64,
    /// The same in the decoder.
    decoder_hidden: i64,
    /// The epsilon of every normalisation.
    eps: f64,
    /// The most rows and columns of patches in training, from which positions are extended.
    trained_grid: [u32; 2],
}

impl Description {
    /// Describes a planned network.
    pub fn of(plan: &Plan) -> Self {
        let Grid { h, w } = plan.common.trained_grid();
        Self {
            kind: "vit",
            settings: Config {
                // Only training uses these.
                stochastic_depth: 0.0,
                checkpoint_blocks: false,
                ..plan.settings.clone().in_numbers(plan.common.latent_channels)
            },
            hidden: plan.settings.hidden(plan.common.encoder.width),
            decoder_hidden: plan.settings.hidden(plan.common.decoder.width),
            eps: EPS,
            trained_grid: [h, w],
        }
    }
}
