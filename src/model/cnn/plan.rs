//! The plan of the network: the checked settings, with every width and resolution worked out.

use serde::{Deserialize, Serialize};
use tch::Device;

use super::haar::Haar;
use super::per_stage::PerStage;
use crate::layers::{
    GROUP_NORM_EPS, GroupNorm, ResBlock, ResBlockSettings, Shortcut, VQGAN_EPS, norm_groups,
};
use crate::model::grid::check_image_size;
use crate::model::{ImageSize, ModelError};
use crate::quantizer::QuantizerConfig;
use crate::variables::Scope;

/// The number of groups of every normalisation in [`Variant::Vqgan`], at any width.
pub(super) const VQGAN_GROUPS: i64 = 32;

/// Settings of encoder and decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The number of levels of the Haar transform before the encoder and after the decoder, as in
    /// Cosmos' tokenizers. The network then works on 3·4^levels channels at 1/2^levels of the
    /// image's sides.
    #[serde(skip_serializing_if = "is_zero")]
    pub haar_levels: i64,
    /// Channels of the first stage before its multiplier.
    pub channels: i64,
    /// One multiplier per stage, from the finest resolution: its channels as a multiple of
    /// `channels`.
    pub multipliers: Vec<i64>,
    /// The multipliers of the decoder's stages; absent: the encoder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_multipliers: Option<Vec<i64>>,
    /// The downsampling between neighbouring stages, one fewer than stages, or one more for what
    /// follows the last stage; absent: always 2 between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strides: Option<Vec<i64>>,
    /// The upsampling of the decoder, written like `strides` from the finest stage: the decoder
    /// goes through them backward, each after a stage, beginning with the coarsest. Absent: the
    /// encoder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_strides: Option<Vec<i64>>,
    /// The number of residual blocks in each stage of the encoder.
    pub res_blocks: PerStage,
    /// The number of residual blocks in each stage of the decoder; absent: the same as the
    /// encoder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_res_blocks: Option<PerStage>,
    /// Sizes in pixels. Self-attention follows every residual block of the stages whose short side
    /// has one of these sizes in the encoder.
    pub attention: Vec<i64>,
    /// Whether the coarsest resolution of encoder and decoder has a residual block, self-attention
    /// and a second residual block.
    pub mid_attention: bool,
    /// The number of groups of every group normalisation. If absent: 32 in [`Variant::Vqgan`],
    /// otherwise a quarter of the channels, at most 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_groups: Option<i64>,
    /// The width C of the latent; absent: the quantizer's own, without a projection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent_channels: Option<i64>,
    /// Whether a block of the network keeps only its input for the backward pass, which computes
    /// the block again: less memory and more time for the same gradients.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_blocks: bool,
    /// Details in which published networks differ from pixtok's.
    pub variant: Variant,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Details in which published networks differ from pixtok's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// pixtok's own network.
    #[default]
    Plain,
    /// The network of taming-transformers and its descendants, so that their weights can be used.
    /// Normalisations have 32 groups at any width and an epsilon of 1e-6; images are padded only on
    /// the right and at the bottom before a strided convolution; the encoder ends in a 3×3
    /// convolution; and 1×1 convolutions lie between `latent_channels` and the quantizer's own
    /// width, on both sides.
    Vqgan,
}

impl Variant {
    /// The default number of groups of a normalisation over `channels`.
    fn norm_groups(self, channels: i64) -> i64 {
        match self {
            Self::Plain => norm_groups(channels),
            Self::Vqgan => VQGAN_GROUPS,
        }
    }

    /// The epsilon of every normalisation.
    fn eps(self) -> f64 {
        match self {
            Self::Plain => GROUP_NORM_EPS,
            Self::Vqgan => VQGAN_EPS,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            haar_levels: 0,
            channels: 16,
            multipliers: vec![1, 2, 4],
            decoder_multipliers: None,
            strides: None,
            decoder_strides: None,
            res_blocks: PerStage::All(1),
            decoder_res_blocks: None,
            attention: vec![],
            mid_attention: false,
            norm_groups: None,
            latent_channels: None,
            checkpoint_blocks: false,
            variant: Variant::default(),
        }
    }
}

/// One resolution of the network.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub channels: i64,
    pub decoder_channels: i64,
    pub res_blocks: i64,
    pub decoder_res_blocks: i64,
    pub attention: bool,
    /// The downsampling after this stage of the encoder; 1 for none.
    pub stride: i64,
    /// The upsampling after this stage of the decoder; 1 for none.
    pub up: i64,
}

/// The checked plan of the whole network.
#[derive(Debug)]
pub(super) struct Plan {
    /// What it was made from.
    pub settings: Config,
    /// The size of the images that it is planned for.
    pub image: ImageSize,
    pub stem_channels: i64,
    pub stages: Vec<Stage>,
    pub mid_attention: bool,
    pub norm_groups: Option<i64>,
    /// The width of the quantizer's input and output.
    pub latent_channels: i64,
    /// The width on the other side of the 1×1 convolutions around the quantizer, if the variant has
    /// them.
    pub outer_channels: Option<i64>,
    pub variant: Variant,
}

impl Plan {
    /// The whole network for images of this size.
    pub fn new(config: &Config, quantizer: &QuantizerConfig, image: ImageSize) -> Result<Self, ModelError> {
        let quantizer = quantizer.settings();
        quantizer.check()?;
        config.check_ranges()?;
        let natural_width = quantizer.natural_width();
        let width = config.latent_channels.unwrap_or(natural_width);
        let (latent_channels, outer_channels) = match config.variant {
            Variant::Plain => (width, None),
            Variant::Vqgan => (natural_width, Some(width)),
        };
        let (stages, attended) = config.stages(i64::from(image.height.min(image.width)));
        let plan = Self {
            settings: config.clone(),
            image,
            stem_channels: config.channels,
            stages,
            mid_attention: config.mid_attention,
            norm_groups: config.norm_groups,
            latent_channels,
            outer_channels,
            variant: config.variant,
        };
        check_image_size(image, plan.downsample())?;
        plan.check_groups()?;
        if let Some(size) = config.attention.iter().find(|size| !attended.contains(size)) {
            return Err(ModelError::Network(format!(
                "model.attention names {size} pixels, which no stage has; the short sides are {attended:?}"
            )));
        }
        quantizer.check_width(plan.latent_channels)?;
        Ok(plan)
    }

    /// A normalisation over `channels`.
    pub fn norm(&self, path: &Scope, channels: i64) -> GroupNorm {
        GroupNorm::new(path, self.groups(channels), channels, self.variant.eps())
    }

    /// A residual block from `channels_in` to `channels_out`.
    pub fn res_block(&self, path: &Scope, channels_in: i64, channels_out: i64) -> ResBlock {
        let channels = [channels_in, channels_out];
        let settings = ResBlockSettings {
            channels,
            groups: channels.map(|channels| self.groups(channels)),
            eps: self.variant.eps(),
            bias: true,
            shortcut: Shortcut::OfInput,
        };
        ResBlock::new(path, &settings)
    }

    /// Pixels per position of the latent grid, along each axis.
    pub fn downsample(&self) -> i64 {
        let patch = 1_i64 << self.settings.haar_levels;
        self.stages.iter().fold(patch, |factor, stage| factor.saturating_mul(stage.stride))
    }

    /// The channels of images, or of what the Haar transform makes of them.
    pub fn pixel_channels(&self) -> i64 {
        3 << (2 * self.settings.haar_levels)
    }

    /// The transform between images and the network, if the config has one.
    pub fn haar(&self, device: Device) -> Option<Haar> {
        let levels = self.settings.haar_levels;
        (levels > 0).then(|| Haar::new(levels, device))
    }

    /// Channels of the encoder at the coarsest resolution.
    pub fn coarsest_channels(&self) -> i64 {
        self.stages.last().map_or(self.stem_channels, |stage| stage.channels)
    }

    /// The same for the decoder.
    pub fn coarsest_decoder_channels(&self) -> i64 {
        self.stages.last().map_or(self.stem_channels, |stage| stage.decoder_channels)
    }

    /// The number of groups of a normalisation over `channels`.
    pub fn groups(&self, channels: i64) -> i64 {
        self.norm_groups.unwrap_or_else(|| self.variant.norm_groups(channels))
    }
}

impl Config {
    /// Writes out the number of groups that the variant fixes.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        if self.variant == Variant::Vqgan {
            self.norm_groups.get_or_insert(VQGAN_GROUPS);
        }
        self
    }

    /// Whether these settings, as a run recorded them, meant a different number of groups when they
    /// were written. Older versions of [`Variant::Vqgan`] took an absent `norm_groups` for a
    /// quarter of the channels, at most 32, and runs did not record the number.
    #[must_use]
    pub fn had_other_groups(&self) -> bool {
        let narrowest = self
            .multipliers
            .iter()
            .fold(self.channels, |least, by| least.min(self.channels.saturating_mul(*by)));
        self.variant == Variant::Vqgan && self.norm_groups.is_none() && norm_groups(narrowest) != VQGAN_GROUPS
    }

    /// The strides of the encoder, whether or not the config has them.
    pub(super) fn encoder_strides(&self) -> Vec<i64> {
        self.strides.clone().unwrap_or_else(|| vec![2; self.multipliers.len().saturating_sub(1)])
    }

    /// The stages of images with this short side, from the finest, and the short side of each in
    /// the encoder. The ranges must have been checked.
    fn stages(&self, short_side: i64) -> (Vec<Stage>, Vec<i64>) {
        let strides = self.encoder_strides();
        let upward = self.decoder_strides.as_ref().unwrap_or(&strides);
        // If no stride follows the last stage, the decoder has none after its finest stage.
        let without = self.multipliers.len() - upward.len();
        let decoder_multipliers = self.decoder_multipliers.as_ref().unwrap_or(&self.multipliers);
        let decoder_res_blocks = self.decoder_res_blocks.as_ref().unwrap_or(&self.res_blocks);
        let mut side = short_side >> self.haar_levels;
        let mut sides = vec![];
        let stages =
            self.multipliers.iter().zip(decoder_multipliers).enumerate().map(|(i, (own, decoders))| {
                let stride = strides.get(i).copied().unwrap_or(1);
                let attention = self.attention.contains(&side);
                sides.push(side);
                side /= stride;
                Stage {
                    channels: self.channels * own,
                    decoder_channels: self.channels * decoders,
                    res_blocks: self.res_blocks.of(i).unwrap_or(1),
                    decoder_res_blocks: decoder_res_blocks.of(i).unwrap_or(1),
                    attention,
                    stride,
                    up: i.checked_sub(without).and_then(|place| upward.get(place)).copied().unwrap_or(1),
                }
            });
        (stages.collect(), sides)
    }
}
