//! Settings of the network.

use serde::{Deserialize, Serialize};

use crate::layers::Extension;
use crate::model::tail_drop::TailDrop;
use crate::model::transformer::{GivenHalves, NamedSize, ROPE_BASE, Sizes};

/// Settings of encoder and decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Details in which TiTok's two networks differ.
    pub layout: Layout,
    /// A name for width, depth and heads of the encoder, in place of the three.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
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
    /// The side of a patch in pixels.
    pub patch: i64,
    /// N, the number of tokens of an image.
    pub latent_tokens: i64,
    /// The width C of the latent; absent: the quantizer's own, without a projection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent_channels: Option<i64>,
    /// How the patches' positions are known.
    pub positions: Positions,
    /// The base of the frequencies of [`Positions::Rope`]; absent: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_base: Option<f64>,
    /// What [`Positions::Rope`] does at sizes beyond the trained one.
    pub extension: Extension,
    /// Whether a block keeps only its input for the backward pass, which computes the block again:
    /// less memory and more time for the same gradients.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_blocks: bool,
    /// The convolutional decoder of [`Layout::Legacy`], which makes the pixels; absent:
    /// MaskGIT-VQGAN's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixel_decoder: Option<PixelDecoder>,
    /// Training on prefixes of the tokens, so that images can be decoded from any of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_drop: Option<TailDrop>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            layout: Layout::default(),
            size: None,
            width: None,
            depth: None,
            heads: None,
            decoder_size: None,
            decoder_width: None,
            decoder_depth: None,
            decoder_heads: None,
            patch: 16,
            latent_tokens: 64,
            latent_channels: None,
            positions: Positions::default(),
            rope_base: None,
            extension: Extension::default(),
            checkpoint_blocks: false,
            pixel_decoder: None,
            tail_drop: None,
        }
    }
}

/// Details in which TiTok's two networks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// That of TiTok's later models (`bl64_vq8k`, …) and of TA-TiTok. Each token has its own
    /// latent, and the decoder ends in a linear layer to the pixels of each patch and a 3×3
    /// convolution.
    #[default]
    Vq8k,
    /// That of TiTok's first models (L-32, B-64, S-128). The encoder reads its tokens `[N, width]`
    /// as `[width, N]` in memory, so each latent mixes numbers of all tokens; the published weights
    /// were trained in this way. The decoder takes, for each patch, a weighted mean of the codes of
    /// a second codebook, from which MaskGIT-VQGAN's convolutional decoder makes pixels.
    Legacy,
}

/// How the positions of patches are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// A learned vector for each, as in TiTok. Images have the trained size only.
    #[default]
    Learned,
    /// Attention rotates queries and keys of patches by their rows and columns, but not those of
    /// latent tokens. Images may have any size. All have N tokens, so larger ones have fewer bits
    /// per pixel.
    Rope,
}

/// The published sizes of a transformer. TiTok's S is wider and less deep than a ViT's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// Width 512, 8 blocks, 8 heads.
    S,
    /// Width 768, 12 blocks, 12 heads.
    B,
    /// Width 1024, 24 blocks, 16 heads.
    L,
}

impl NamedSize for Size {
    fn sizes(self) -> Sizes {
        match self {
            Self::S => Sizes { width: 512, depth: 8, heads: 8 },
            Self::B => Sizes { width: 768, depth: 12, heads: 12 },
            Self::L => Sizes { width: 1024, depth: 24, heads: 16 },
        }
    }
}

/// The decoder of MaskGIT-VQGAN (arXiv 2202.04200), with a codebook of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PixelDecoder {
    /// The number of codes.
    pub codes: i64,
    /// The dimension of a code.
    pub code_dim: i64,
    /// Channels of the finest resolution before its multiplier.
    pub channels: i64,
    /// One multiplier per resolution, from the finest. Neighbouring resolutions differ by 2.
    pub multipliers: Vec<i64>,
    /// The number of residual blocks at each resolution, and of those before the first.
    pub res_blocks: i64,
    /// The number of groups of every group normalisation.
    pub norm_groups: i64,
}

impl Default for PixelDecoder {
    fn default() -> Self {
        Self {
            codes: 1024,
            code_dim: 256,
            channels: 128,
            multipliers: vec![1, 1, 2, 2, 4],
            res_blocks: 2,
            norm_groups: 32,
        }
    }
}

impl PixelDecoder {
    /// Pixels per code along each axis.
    pub(super) fn upsample(&self) -> i64 {
        2_i64.saturating_pow(self.multipliers.len().saturating_sub(1) as u32)
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

    /// The settings with fixed defaults of absent keys written out.
    pub(super) fn resolved(mut self) -> Self {
        if self.size.is_none() {
            [self.width, self.depth, self.heads] = self.halves().sizes()[0].written();
        }
        if self.positions == Positions::Rope {
            self.rope_base.get_or_insert(ROPE_BASE);
        }
        if self.layout == Layout::Legacy {
            self.pixel_decoder.get_or_insert_default();
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
