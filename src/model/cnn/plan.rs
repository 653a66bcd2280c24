//! The plan of the network: the checked settings, with every width and resolution worked out.

use serde::{Deserialize, Serialize};

use crate::layers::{GROUP_NORM_EPS, GroupNorm, norm_groups};
use crate::model::{ImageSize, ModelError};
use crate::quantizer::QuantizerConfig;
use crate::variables::Scope;

/// The epsilon of every normalisation in [`Variant::Vqgan`].
const VQGAN_EPS: f64 = 1e-6;

/// The number of groups of every normalisation in [`Variant::Vqgan`], at any width.
const VQGAN_GROUPS: i64 = 32;

/// Settings of encoder and decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Channels of the first stage before its multiplier.
    pub channels: i64,
    /// One multiplier per stage, from the finest resolution: its channels as a multiple of
    /// `channels`.
    pub multipliers: Vec<i64>,
    /// The downsampling between neighbouring stages, one fewer than stages; absent: always 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strides: Option<Vec<i64>>,
    /// The number of residual blocks in each stage of the encoder.
    pub res_blocks: i64,
    /// The number of residual blocks in each stage of the decoder; absent: the same as the
    /// encoder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_res_blocks: Option<i64>,
    /// Sizes in pixels. Self-attention follows every residual block of the stages whose short side
    /// has one of these sizes.
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 16,
            multipliers: vec![1, 2, 4],
            strides: None,
            res_blocks: 1,
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
    pub attention: bool,
    /// The downsampling after this stage (encoder) and the upsampling back to it (decoder); 1 for
    /// the coarsest.
    pub stride: i64,
}

/// The checked plan of the whole network.
#[derive(Debug)]
pub(super) struct Plan {
    /// What it was made from.
    pub settings: Config,
    /// Of the images that it is planned for.
    pub image: ImageSize,
    pub stem_channels: i64,
    pub stages: Vec<Stage>,
    pub res_blocks: i64,
    pub decoder_res_blocks: i64,
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
        let strides = config.strides.clone().unwrap_or_else(|| vec![2; config.multipliers.len() - 1]);
        let mut short_side = i64::from(image.height.min(image.width));
        let mut attended = vec![];
        let stages = config.multipliers.iter().enumerate().map(|(i, multiplier)| {
            let stride = strides.get(i).copied().unwrap_or(1);
            let attention = config.attention.contains(&short_side);
            attended.push(short_side);
            short_side /= stride;
            Stage { channels: config.channels * multiplier, attention, stride }
        });
        let plan = Self {
            settings: config.clone(),
            image,
            stem_channels: config.channels,
            stages: stages.collect(),
            res_blocks: config.res_blocks,
            decoder_res_blocks: config.decoder_res_blocks.unwrap_or(config.res_blocks),
            mid_attention: config.mid_attention,
            norm_groups: config.norm_groups,
            latent_channels,
            outer_channels,
            variant: config.variant,
        };
        plan.check_image_size()?;
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
        let eps = match self.variant {
            Variant::Plain => GROUP_NORM_EPS,
            Variant::Vqgan => VQGAN_EPS,
        };
        GroupNorm::new(path, self.groups(channels), channels, eps)
    }

    /// Pixels per position of the latent grid, along each axis.
    pub fn downsample(&self) -> i64 {
        self.stages.iter().fold(1, |factor, stage| factor.saturating_mul(stage.stride))
    }

    pub fn coarsest_channels(&self) -> i64 {
        self.stages.last().map_or(self.stem_channels, |stage| stage.channels)
    }

    /// The number of groups of a normalisation over `channels`.
    pub fn groups(&self, channels: i64) -> i64 {
        self.norm_groups.unwrap_or_else(|| self.variant.norm_groups(channels))
    }

    fn check_image_size(&self) -> Result<(), ModelError> {
        let factor = self.downsample();
        for size in [self.image.height, self.image.width].map(i64::from) {
            if size < factor || size % factor != 0 {
                let below = size / factor * factor;
                let nearest =
                    if below > 0 { format!("{below} or {}", below + factor) } else { factor.to_string() };
                return Err(ModelError::Network(format!(
                    "data.image_size {size} is no multiple of the model's downsampling by {factor}; the nearest that \
                     are: {nearest}"
                )));
            }
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<(), ModelError> {
        let widths = self.stages.iter().map(|stage| stage.channels).chain([self.stem_channels]);
        for channels in widths {
            let groups = self.groups(channels);
            if channels % groups == 0 {
                continue;
            }
            let (why, instead) = match self.variant {
                Variant::Vqgan if groups == VQGAN_GROUPS => (
                    ", which every normalisation has where model.variant is vqgan",
                    "leave model.variant out".to_owned(),
                ),
                _ => ("", format!("set model.norm_groups to a divisor of {channels}")),
            };
            return Err(ModelError::Network(format!(
                "{channels} channels do not divide into {groups} normalisation groups{why}; choose model.channels as \
                 a multiple of {groups} or {instead}"
            )));
        }
        Ok(())
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

    fn check_ranges(&self) -> Result<(), ModelError> {
        let fail = |message: String| Err(ModelError::Network(message));
        if self.multipliers.is_empty() {
            return fail("model.multipliers is empty; give one per stage, like [1, 2, 4]".into());
        }
        let ranges = [
            ("channels", vec![self.channels], 65536),
            ("multipliers", self.multipliers.clone(), 1024),
            ("strides", self.strides.clone().unwrap_or_default(), 64),
            ("res_blocks", vec![self.res_blocks], 1024),
            ("decoder_res_blocks", self.decoder_res_blocks.into_iter().collect(), 1024),
            ("norm_groups", self.norm_groups.into_iter().collect(), 65536),
            ("latent_channels", self.latent_channels.into_iter().collect(), 65536),
        ];
        for (key, values, most) in ranges {
            if let Some(value) = values.iter().find(|value| !(1..=most).contains(*value)) {
                return fail(format!("model.{key} has {value}; it must be from 1 to {most}"));
            }
        }
        if self.variant == Variant::Vqgan && self.strides.iter().flatten().any(|&stride| stride > 2) {
            return fail("model.strides has one over 2, and model.variant is vqgan, whose padding is for 2; leave one out".into());
        }
        let gaps = self.multipliers.len() - 1;
        match &self.strides {
            Some(strides) if strides.len() != gaps => fail(format!(
                "model.strides has {} entries; {} stages have {gaps} gaps between them",
                strides.len(),
                self.multipliers.len()
            )),
            _ => Ok(()),
        }
    }
}
