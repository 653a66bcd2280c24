//! The network with every number worked out, for readers that do not know pixtok's defaults.

use serde::Serialize;

use super::plan::{Config, Plan};

/// The settings with absent ones filled in, and what follows from them.
#[derive(Serialize)]
pub(super) struct Description {
    /// As in a config; `strides`, `decoder_res_blocks` and `latent_channels` are there always.
    #[serde(flatten)]
    pub settings: Config,
    /// The convolution at the input.
    pub stem: Width,
    /// The stages, from the finest resolution to the coarsest.
    pub stages: Vec<StageDescription>,
}

/// Channels, and the groups of every group normalisation over them.
#[derive(Serialize)]
pub(super) struct Width {
    /// How many.
    pub channels: i64,
    /// The number of groups, which divides the channels.
    pub norm_groups: i64,
}

/// One resolution of the encoder. The decoder's is the same, unless the settings say otherwise.
#[derive(Serialize)]
pub(super) struct StageDescription {
    /// The width of its blocks.
    #[serde(flatten)]
    pub width: Width,
    /// Whether self-attention follows every residual block.
    pub attention: bool,
    /// The downsampling after this stage of the encoder; 1 for none.
    pub stride: i64,
}

impl Description {
    /// Describes a planned network.
    pub fn of(plan: &Plan) -> Self {
        let width = |channels| Width { channels, norm_groups: plan.groups(channels) };
        let settings = &plan.settings;
        let decoder_res_blocks = settings.decoder_res_blocks.as_ref().unwrap_or(&settings.res_blocks);
        Self {
            settings: Config {
                strides: Some(settings.encoder_strides()),
                decoder_res_blocks: Some(decoder_res_blocks.clone()),
                latent_channels: Some(plan.outer_channels.unwrap_or(plan.latent_channels)),
                // Only training uses it.
                checkpoint_blocks: false,
                ..settings.clone()
            },
            stem: width(plan.stem_channels),
            stages: plan
                .stages
                .iter()
                .map(|stage| StageDescription {
                    width: width(stage.channels),
                    attention: stage.attention,
                    stride: stage.stride,
                })
                .collect(),
        }
    }
}
