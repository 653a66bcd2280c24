//! The convolutional autoencoder of Open-MAGVIT2 (arXiv 2409.04410, TencentARC/SEED-Voken), which
//! WeTok and BitDance have too. Tokens lie in a grid. The decoder scales its feature maps by the
//! mean and the deviation of the whole latent, so an image cannot be decoded in tiles.

mod adaptive;
mod blocks;
mod decoder;
mod description;
mod encoder;
mod footprint;
mod plan;

use tch::Device;

pub use plan::Config;

use super::{Halves, ModelError, Settings, TokenShape, TrainedSizes};
use crate::model;
use crate::quantizer::QuantizerConfig;
use crate::variables::{Component, Scope};
use decoder::Decoder;
use description::Description;
use encoder::Encoder;
use plan::{FEWEST_TOKENS, Plan};

impl Settings for Config {
    fn resolved(&self) -> model::Config {
        model::Config::Magvit2(self.clone())
    }

    fn written_out(&self, quantizer: &QuantizerConfig) -> model::Config {
        let mut config = self.clone();
        config.latent_channels.get_or_insert(quantizer.settings().natural_width());
        model::Config::Magvit2(config)
    }

    fn components_of(&self, key: &str) -> &'static [Component] {
        match key {
            // It changes how gradients are computed, and no weight.
            "checkpoint_blocks" => &[],
            _ => &[Component::Encoder, Component::Decoder],
        }
    }

    fn plan(
        &self,
        quantizer: &QuantizerConfig,
        trained: TrainedSizes,
    ) -> Result<Box<dyn model::Plan>, ModelError> {
        Ok(Box::new(Plan::new(self, quantizer, trained.image)?))
    }
}

impl model::Plan for Plan {
    fn shape(&self) -> TokenShape {
        self.shape
    }

    fn side_multiple(&self) -> i64 {
        self.downsample()
    }

    fn fewest_tokens(&self) -> usize {
        FEWEST_TOKENS
    }

    fn latent_channels(&self) -> i64 {
        self.latent_channels
    }

    fn encoder(&self, scope: &Scope) -> Box<dyn model::Encoder> {
        Box::new(Encoder::new(scope, self))
    }

    fn decoder(&self, scope: &Scope) -> Box<dyn model::Decoder> {
        Box::new(Decoder::new(scope, self))
    }

    fn halves(&self, device: Device) -> Halves {
        footprint::of(self, device)
    }

    fn description(&self) -> Result<serde_json::Value, ModelError> {
        model::as_json(&Description::of(self))
    }
}

#[cfg(test)]
mod tests;
