//! The plan of the network: the checked settings, with every width worked out.

use serde::{Deserialize, Serialize};

use super::blocks::NORM_GROUPS;
use crate::model::grid::{check_image_size, grid_of};
use crate::model::{ImageSize, ModelError, TokenShape};
use crate::quantizer::QuantizerConfig;

/// The most stages; their downsampling by 2^31 is more than any image has pixels.
const MOST_STAGES: usize = 32;

/// The decoder needs the deviation over the tokens of an image, which one has not.
pub(super) const FEWEST_TOKENS: usize = 2;

/// Settings of encoder and decoder. The defaults are those of Open-MAGVIT2 at f16.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Channels of the first stage before its multiplier; a multiple of 32.
    pub channels: i64,
    /// One multiplier per stage, from the finest resolution: its channels as a multiple of
    /// `channels`. Each stage has half the resolution of the one before.
    pub multipliers: Vec<i64>,
    /// The number of residual blocks in each stage of encoder and decoder, and in the middle of
    /// both.
    pub res_blocks: i64,
    /// The width C of the latent; absent: the quantizer's own, without a projection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent_channels: Option<i64>,
    /// Whether a residual block keeps only its input for the backward pass, which computes the
    /// block again: less memory and more time for the same gradients.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_blocks: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 128,
            multipliers: vec![1, 1, 2, 2, 4],
            res_blocks: 4,
            latent_channels: None,
            checkpoint_blocks: false,
        }
    }
}

/// The checked plan of the whole network.
#[derive(Debug)]
pub(super) struct Plan {
    /// What it was made from.
    pub settings: Config,
    /// The size of the images that it is planned for.
    pub image: ImageSize,
    /// The tokens of such an image.
    pub shape: TokenShape,
    /// The channels of each stage, from the finest.
    pub widths: Vec<i64>,
    /// The width of the quantizer's input and output.
    pub latent_channels: i64,
}

impl Plan {
    /// The whole network for images of this size.
    pub fn new(config: &Config, quantizer: &QuantizerConfig, image: ImageSize) -> Result<Self, ModelError> {
        let quantizer = quantizer.settings();
        quantizer.check()?;
        config.check()?;
        let downsample = downsample(config.multipliers.len());
        check_image_size(image, downsample)?;
        let plan = Self {
            settings: config.clone(),
            image,
            shape: shape(image, downsample)?,
            widths: config.multipliers.iter().map(|multiplier| config.channels * multiplier).collect(),
            latent_channels: config.latent_channels.unwrap_or(quantizer.natural_width()),
        };
        quantizer.check_width(plan.latent_channels)?;
        Ok(plan)
    }

    /// Pixels per position of the latent grid, along each axis.
    pub fn downsample(&self) -> i64 {
        downsample(self.widths.len())
    }

    pub fn coarsest_channels(&self) -> i64 {
        self.widths.last().copied().unwrap_or(self.settings.channels)
    }
}

/// The downsampling of a network with this number of stages.
fn downsample(stages: usize) -> i64 {
    1 << (stages - 1)
}

/// The tokens of an image.
///
/// # Errors
/// When they do not cover it, or when it is only one.
pub(super) fn shape(image: ImageSize, downsample: i64) -> Result<TokenShape, ModelError> {
    let shape = grid_of(image, downsample)?;
    if shape.positions() < FEWEST_TOKENS {
        return Err(ModelError::Network(format!(
            "an image of {}×{} pixels has one token here, and the decoder of model.kind magvit2 needs the deviation over \
             at least two; choose a data.image_size with a side over {downsample}",
            image.height, image.width
        )));
    }
    Ok(shape)
}

impl Config {
    fn check(&self) -> Result<(), ModelError> {
        let fail = |message: String| Err(ModelError::Network(message));
        if !(1..=MOST_STAGES).contains(&self.multipliers.len()) {
            return fail(format!(
                "model.multipliers has {} entries; give one per stage, like [1, 2, 4], and at most {MOST_STAGES}",
                self.multipliers.len()
            ));
        }
        let ranges = [
            ("channels", vec![self.channels], 65536),
            ("multipliers", self.multipliers.clone(), 1024),
            ("res_blocks", vec![self.res_blocks], 1024),
            ("latent_channels", self.latent_channels.into_iter().collect(), 65536),
        ];
        for (key, values, most) in ranges {
            if let Some(value) = values.iter().find(|value| !(1..=most).contains(*value)) {
                return fail(format!("model.{key} has {value}; it must be from 1 to {most}"));
            }
        }
        if self.channels % NORM_GROUPS != 0 {
            return fail(format!(
                "model.channels {} do not divide into the {NORM_GROUPS} normalisation groups of model.kind magvit2; choose a \
                 multiple of {NORM_GROUPS}",
                self.channels
            ));
        }
        Ok(())
    }
}
