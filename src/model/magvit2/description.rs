//! The network with every number worked out, for readers that do not know pixtok's defaults.

use serde::Serialize;

use super::blocks::NORM_GROUPS;
use super::plan::{Config, Plan};
use crate::layers::VQGAN_EPS;

/// The settings with absent ones filled in.
#[derive(Serialize)]
pub(super) struct Description {
    kind: &'static str,
    /// As in a config; `latent_channels` is there always.
    #[serde(flatten)]
    settings: Config,
    /// The groups of every group normalisation.
    norm_groups: i64,
    /// Added to the variance of a group, and to that of the latent.
    eps: f64,
}

impl Description {
    /// Describes a planned network.
    pub fn of(plan: &Plan) -> Self {
        Self {
            kind: "magvit2",
            settings: Config {
                latent_channels: Some(plan.latent_channels),
                // Only training uses it.
                checkpoint_blocks: false,
                ..plan.settings.clone()
            },
            norm_groups: NORM_GROUPS,
            eps: VQGAN_EPS,
        }
    }
}
