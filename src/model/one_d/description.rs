//! The network with every number worked out, for readers that do not know pixtok's defaults.

use serde::Serialize;

use super::config::Config;
use super::plan::Plan;
use pixtok_tokens::Grid;

/// The settings with absent ones filled in, and what follows from them.
#[derive(Serialize)]
pub(super) struct Description {
    kind: &'static str,
    /// As in a config, in numbers: `width`, `depth`, `heads`, those of the decoder and
    /// `latent_channels` are there always; so is `pixel_decoder` in the layout `legacy`.
    #[serde(flatten)]
    settings: Config,
    /// The most rows and columns of patches in training, from which rotations are extended.
    trained_grid: [u32; 2],
}

impl Description {
    /// Describes a planned network.
    pub fn of(plan: &Plan) -> Self {
        let Grid { h, w } = plan.common.trained_grid();
        Self {
            kind: "one-d",
            settings: Config {
                // Only training uses it.
                checkpoint_blocks: false,
                ..plan.settings.clone().in_numbers(plan.common.latent_channels)
            },
            trained_grid: [h, w],
        }
    }
}
