//! The plan of the network: the checked settings, with every number worked out.

use super::check::check;
use super::config::{Config, Positions};
use crate::layers::{BlockSettings, Extension, StackSettings};
use crate::model::transformer::{Sizes, TransformerPlan};
use crate::model::{ImageSize, ModelError, TrainedSizes};
use crate::quantizer::QuantizerConfig;

/// The epsilon of every normalisation, as in ViT.
pub(super) const EPS: f64 = 1e-6;

/// The network that checked settings make.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub settings: Config,
    pub common: TransformerPlan,
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
        Ok(Self { settings: config.clone(), common })
    }

    /// The number of values in a patch: 3 colours of each pixel.
    pub fn patch_numbers(&self) -> i64 {
        3 * self.settings.patch * self.settings.patch
    }

    /// The only size of images that the network takes, if its positions allow no other.
    pub fn only_size(&self) -> Option<ImageSize> {
        let Config { positions, extension, .. } = self.settings;
        (positions == Positions::Learned && extension == Extension::None).then_some(self.common.trained.image)
    }

    /// The blocks of a transformer of these sizes.
    pub fn stack(&self, sizes: Sizes) -> StackSettings {
        let Sizes { width, depth, heads } = sizes;
        let Config { norm, feed_forward, attention_norm, layer_scale, stochastic_depth, .. } = self.settings;
        let block = BlockSettings {
            width,
            heads,
            hidden: self.settings.hidden(width),
            norm,
            eps: EPS,
            feed_forward,
            attention_norm,
            layer_scale,
            stochastic_depth,
        };
        StackSettings { block, depth, recompute: self.settings.checkpoint_blocks }
    }
}
