//! Settings of the network.

use serde::{Deserialize, Serialize};

use crate::layers::{AttentionNorm, Extension, FeedForwardKind, NormKind};
use crate::model::transformer::{GivenHalves, NamedSize, ROPE_BASE, Sizes};

/// Settings of encoder and decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A name for width, depth and heads of the encoder, in place of the three.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// The side of a patch in pixels.
    pub patch: i64,
    /// The width of the encoder's transformer; absent: that of `size`, which is S if absent too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
    /// Its blocks; absent: as for `width`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<i64>,
    /// Its attention's heads; absent: as for `width`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<i64>,
    /// The same for the decoder; what is absent is the encoder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_size: Option<Size>,
    /// See `decoder_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_width: Option<i64>,
    /// See `decoder_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_depth: Option<i64>,
    /// See `decoder_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_heads: Option<i64>,
    /// The normalisation before each part of a block and after the last block.
    pub norm: NormKind,
    /// The feed-forward part of a block.
    pub feed_forward: FeedForwardKind,
    /// How the patches' positions are known.
    pub positions: Positions,
    /// The base of the frequencies of [`Positions::Rope`]; absent: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_base: Option<f64>,
    /// What is done with positions at sizes beyond the trained one.
    pub extension: Extension,
    /// The normalisation of queries and keys.
    pub attention_norm: AttentionNorm,
    /// The initial value of a learned scale of each part's result; absent: no scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
    /// The probability that an image skips the last block of either half in training. It grows
    /// evenly from 0 at the first block.
    #[serde(skip_serializing_if = "is_zero")]
    pub stochastic_depth: f64,
    /// The number of learned vectors that attention sees beside the patches, in either half.
    pub registers: i64,
    /// Whether a 3×3 convolution over the pixels follows the decoder's last linear layer.
    pub head_conv: bool,
    /// The width C of the latent; absent: the quantizer's own, without a projection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent_channels: Option<i64>,
    /// Whether a block keeps only its input for the backward pass, which computes the block again:
    /// less memory and more time for the same gradients.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_blocks: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Default for Config {
    fn default() -> Self {
        Self {
            size: None,
            patch: 16,
            width: None,
            depth: None,
            heads: None,
            decoder_size: None,
            decoder_width: None,
            decoder_depth: None,
            decoder_heads: None,
            norm: NormKind::Rms,
            feed_forward: FeedForwardKind::SwiGlu,
            positions: Positions::default(),
            rope_base: None,
            extension: Extension::None,
            attention_norm: AttentionNorm::None,
            layer_scale: None,
            stochastic_depth: 0.0,
            registers: 0,
            head_conv: false,
            latent_channels: None,
            checkpoint_blocks: false,
        }
    }
}

/// How the positions of patches are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// Attention rotates queries and keys by their rows and columns. Images may have any size.
    #[default]
    Rope,
    /// A learned vector is added to each patch. Other sizes than the trained one need
    /// [`Extension::Interpolate`], which interpolates between the vectors.
    Learned,
}

/// The published sizes of a ViT (arXiv 2010.11929, 2012.12877). The parameters are those of the
/// blocks with the default settings; a GELU and layer norms make 0.01 % to 0.5 % fewer or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// Width 384, 12 blocks, 6 heads: 21,290,496 parameters.
    S,
    /// Width 768, 12 blocks, 12 heads: 85,048,320 parameters.
    B,
    /// Width 1024, 24 blocks, 16 heads: 303,866,880 parameters.
    L,
}

impl NamedSize for Size {
    fn sizes(self) -> Sizes {
        match self {
            Self::S => Sizes { width: 384, depth: 12, heads: 6 },
            Self::B => Sizes { width: 768, depth: 12, heads: 12 },
            Self::L => Sizes { width: 1024, depth: 24, heads: 16 },
        }
    }
}

impl Config {
    /// The keys that state the sizes of both transformers.
    pub(super) fn halves(&self) -> GivenHalves<Size> {
        GivenHalves::new(
            (self.size, [self.width, self.depth, self.heads]),
            (self.decoder_size, [self.decoder_width, self.decoder_depth, self.decoder_heads]),
            Size::S,
        )
    }

    /// The base of rotary positions, and what they do beyond the trained sizes.
    pub(super) fn rotary(&self) -> Option<(f64, Extension)> {
        let base = self.rope_base.unwrap_or(ROPE_BASE);
        (self.positions == Positions::Rope).then_some((base, self.extension))
    }

    /// The width inside a feed-forward part.
    pub(super) fn hidden(&self, width: i64) -> i64 {
        self.feed_forward.hidden(width)
    }

    /// The settings with fixed defaults of absent keys written out.
    pub(super) fn resolved(mut self) -> Self {
        if self.size.is_none() {
            [self.width, self.depth, self.heads] = self.halves().sizes()[0].written();
        }
        if self.positions == Positions::Rope {
            self.rope_base.get_or_insert(ROPE_BASE);
        }
        self
    }

    /// The settings with numbers for names of sizes and for absent keys.
    pub(super) fn in_numbers(mut self, latent_channels: i64) -> Self {
        let [encoder, decoder] = self.halves().sizes();
        (self.size, self.decoder_size) = (None, None);
        self = self.resolved();
        [self.width, self.depth, self.heads] = encoder.written();
        [self.decoder_width, self.decoder_depth, self.decoder_heads] = decoder.written();
        self.latent_channels.get_or_insert(latent_channels);
        self
    }
}
