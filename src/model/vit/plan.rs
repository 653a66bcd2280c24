//! The plan of the network: the checked settings, with every number worked out.

use super::check::check;
use super::config::{Config, Positions};
use crate::layers::{BlockSettings, Extension, RotationSettings, StackSettings};
use crate::model::grid::patches_of;
use crate::model::transformer::{ROPE_BASE, Sizes};
use crate::model::{ImageSize, ModelError, TrainedSizes};
use crate::quantizer::QuantizerConfig;
use pixtok_tokens::Grid;

/// The epsilon of every normalisation, as in ViT.
pub(super) const EPS: f64 = 1e-6;

/// The network that checked settings make.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub settings: Config,
    pub encoder: Sizes,
    pub decoder: Sizes,
    /// C, the width of a position's latent.
    pub latent_channels: i64,
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
            trained,
            settings: config.clone(),
        })
    }

    /// The patches of an image of the planned size.
    pub fn grid(&self) -> Grid {
        patches_of(self.trained.image, self.settings.patch)
    }

    /// The most rows and the most columns of patches in training, from which positions extend.
    pub fn trained_grid(&self) -> Grid {
        patches_of(self.trained.largest, self.settings.patch)
    }

    /// The number of values in a patch: 3 colours of each pixel.
    pub fn patch_numbers(&self) -> i64 {
        3 * self.settings.patch * self.settings.patch
    }

    /// The only size of images that the network takes, if its positions allow no other.
    pub fn only_size(&self) -> Option<ImageSize> {
        let Config { positions, extension, .. } = self.settings;
        (positions == Positions::Learned && extension == Extension::None).then_some(self.trained.image)
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
