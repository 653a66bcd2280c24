//! The plan of the network: the checked settings, with every number worked out.

use super::check::check;
use super::config::{Config, Layout, PixelDecoder, Positions};
use crate::layers::{
    AttentionNorm, BlockSettings, FeedForwardKind, NormKind, RotationSettings, StackSettings,
};
use crate::model::grid::patches_of;
use crate::model::transformer::{ROPE_BASE, Sizes};
use crate::model::{ImageSize, ModelError, TrainedSizes};
use crate::quantizer::QuantizerConfig;
use pixtok_tokens::Grid;

/// The epsilon of every layer norm, PyTorch's default.
pub(super) const LAYER_NORM_EPS: f64 = 1e-5;

/// The network that checked settings make.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub settings: Config,
    pub encoder: Sizes,
    pub decoder: Sizes,
    /// C, the width of a token's latent.
    pub latent_channels: i64,
    /// The decoder of the pixels in [`Layout::Legacy`].
    pub pixel_decoder: Option<PixelDecoder>,
    pub trained: TrainedSizes,
}

impl Plan {
    /// Checks settings around a quantizer, for a training on these sizes.
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other.
    pub fn new(
        config: &Config,
        quantizer: &QuantizerConfig,
        trained: TrainedSizes,
    ) -> Result<Self, ModelError> {
        let quantizer = quantizer.settings();
        quantizer.check()?;
        check(config, trained.image)?;
        let latent_channels = config.latent_channels.unwrap_or_else(|| quantizer.natural_width());
        quantizer.check_width(latent_channels)?;
        Ok(Self {
            encoder: config.encoder_sizes(),
            decoder: config.decoder_sizes(),
            latent_channels,
            pixel_decoder: (config.layout == Layout::Legacy)
                .then(|| config.pixel_decoder.clone().unwrap_or_default()),
            trained,
            settings: config.clone(),
        })
    }

    /// N, the number of tokens.
    pub fn tokens(&self) -> i64 {
        self.settings.latent_tokens
    }

    /// The patches of an image of the planned size.
    pub fn grid(&self) -> Grid {
        patches_of(self.trained.image, self.settings.patch)
    }

    /// The most rows and the most columns of patches in training, from which positions extend.
    pub fn trained_grid(&self) -> Grid {
        patches_of(self.trained.largest, self.settings.patch)
    }

    /// The number of patches of an image of the planned size.
    pub fn patches(&self) -> i64 {
        let Grid { h, w } = self.grid();
        i64::from(h) * i64::from(w)
    }

    /// The only size of images that learned positions allow.
    pub fn only_size(&self) -> Option<ImageSize> {
        (self.settings.positions == Positions::Learned).then_some(self.trained.image)
    }

    /// How a transformer of these sizes rotates patches; `None`: it adds learned positions.
    pub fn rotation(&self, sizes: Sizes) -> Option<RotationSettings> {
        (self.settings.positions == Positions::Rope).then(|| RotationSettings {
            base: self.settings.rope_base.unwrap_or(ROPE_BASE),
            head_dim: sizes.head_dim(),
            trained: self.trained_grid(),
            extension: self.settings.extension,
        })
    }

    /// The blocks of a transformer of these sizes.
    pub fn stack(&self, sizes: Sizes) -> StackSettings {
        let Sizes { width, depth, heads } = sizes;
        let block = BlockSettings {
            width,
            heads,
            hidden: FeedForwardKind::Gelu.hidden(width),
            norm: NormKind::Layer,
            eps: LAYER_NORM_EPS,
            feed_forward: FeedForwardKind::Gelu,
            attention_norm: AttentionNorm::None,
            layer_scale: None,
            stochastic_depth: 0.0,
        };
        StackSettings { block, depth, recompute: self.settings.checkpoint_blocks }
    }
}
