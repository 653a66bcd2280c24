//! The network with every number worked out, for readers that do not know pixtok's defaults.

use serde::Serialize;

use super::plan::Config;
use crate::model::ModelError;
use crate::quantizer::QuantizerConfig;

/// The settings with defaults written out, and the numbers that follow from them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// The settings as in a config, always with `strides`, `decoder_res_blocks` and
    /// `latent_channels`.
    #[serde(flatten)]
    pub settings: Config,
    /// The convolution at the input.
    pub stem: Width,
    /// The stages, from the finest resolution to the coarsest.
    pub stages: Vec<StageDescription>,
}

/// Channels, and the groups of every group normalisation over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Width {
    /// The number of channels.
    pub channels: i64,
    /// The number of groups, which divides the channels.
    pub norm_groups: i64,
}

/// One resolution of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StageDescription {
    /// The width of its blocks.
    #[serde(flatten)]
    pub width: Width,
    /// Whether self-attention follows every residual block.
    pub attention: bool,
    /// The downsampling after this stage; 1 for the coarsest.
    pub stride: i64,
}

impl Config {
    /// The network for images of `image_size` (height, width).
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says
    /// which.
    pub fn describe(
        &self,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<Description, ModelError> {
        let plan = self.plan(quantizer, image_size)?;
        let width = |channels| Width { channels, norm_groups: plan.groups(channels) };
        let strides = plan.stages.iter().map(|stage| stage.stride).take(plan.stages.len() - 1);
        Ok(Description {
            settings: Config {
                strides: Some(strides.collect()),
                decoder_res_blocks: Some(plan.decoder_res_blocks),
                latent_channels: Some(plan.outer_channels.unwrap_or(plan.latent_channels)),
                ..self.clone()
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
        })
    }
}
