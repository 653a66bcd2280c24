//! The network with every number worked out, for readers that do not know our rules for absent settings.

use serde::Serialize;

use super::plan::Config;
use crate::model::ModelError;
use crate::quantizer::QuantizerConfig;

/// The settings with what stands for absent ones, and what they come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// As in a config; `strides`, `decoder_res_blocks` and `latent_channels` are there always.
    #[serde(flatten)]
    pub settings: Config,
    /// The convolution that images enter by.
    pub stem: Width,
    /// From the finest resolution to the coarsest.
    pub stages: Vec<StageDescription>,
}

/// Channels, and the groups of every group normalisation over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Width {
    /// How many.
    pub channels: i64,
    /// Divide them.
    pub norm_groups: i64,
}

/// One resolution of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StageDescription {
    /// Of its blocks.
    #[serde(flatten)]
    pub width: Width,
    /// Self-attention after every residual block.
    pub attention: bool,
    /// Downsampling after this stage; 1 for the coarsest.
    pub stride: i64,
}

impl Config {
    /// The network for images of `image_size` (height, width).
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says which.
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
