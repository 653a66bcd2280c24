//! The plan of the network: the checked settings, with every number worked out.

use super::check::check;
use super::config::{Config, Layout, PixelDecoder, Positions};
use crate::layers::{AttentionNorm, BlockSettings, FeedForwardKind, NormKind, StackSettings};
use crate::model::transformer::{Sizes, TransformerPlan};
use crate::model::{ImageSize, ModelError, TrainedSizes};
use crate::quantizer::QuantizerConfig;

/// The epsilon of every layer norm, PyTorch's default.
pub(super) const LAYER_NORM_EPS: f64 = 1e-5;

/// The network that checked settings make.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub settings: Config,
    pub common: TransformerPlan,
    /// The decoder of the pixels in [`Layout::Legacy`].
    pub pixel_decoder: Option<PixelDecoder>,
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
        check(config, trained.image)?;
        let width = config.latent_channels;
        let common = TransformerPlan::new(
            &config.halves(),
            (quantizer, width),
            (config.patch, trained),
            config.rotary(),
        )?;
        let pixel_decoder =
            (config.layout == Layout::Legacy).then(|| config.pixel_decoder.clone().unwrap_or_default());
        Ok(Self { settings: config.clone(), common, pixel_decoder })
    }

    /// N, the number of tokens.
    pub fn tokens(&self) -> i64 {
        self.settings.latent_tokens
    }

    /// The number of patches of an image of the planned size.
    pub fn patches(&self) -> i64 {
        self.common.grid().positions() as i64
    }

    /// The only size of images that learned positions allow.
    pub fn only_size(&self) -> Option<ImageSize> {
        (self.settings.positions == Positions::Learned).then_some(self.common.trained.image)
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
