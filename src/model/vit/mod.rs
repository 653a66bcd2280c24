//! A transformer over patches in encoder and decoder (ViT, arXiv 2010.11929; as a tokenizer
//! 2110.04627). Tokens lie in a grid, one for `patch` × `patch` pixels.

mod check;
mod config;
mod decoder;
mod description;
mod encoder;
mod footprint;
mod plan;
mod positions;
mod trunk;

use tch::Device;

pub use config::{Config, Positions, Size};

use super::{Halves, ImageSize, ModelError, Settings, TokenShape, TrainedSizes, first_name};
use crate::layers::Extension;
use crate::model;
use crate::quantizer::QuantizerConfig;
use crate::variables::{Component, Scope};
use decoder::Decoder;
use description::Description;
use encoder::Encoder;
use plan::Plan;

impl Settings for Config {
    fn resolved(&self) -> model::Config {
        model::Config::Vit(self.clone().resolved())
    }

    fn written_out(&self, quantizer: &QuantizerConfig) -> model::Config {
        model::Config::Vit(self.clone().in_numbers(quantizer.settings().natural_width()))
    }

    fn components_of(&self, key: &str) -> &'static [Component] {
        match first_name(key) {
            "decoder_size" | "decoder_width" | "decoder_depth" | "decoder_heads" | "head_conv" => {
                &[Component::Decoder]
            }
            // The weights mean the same with and without these.
            "extension" | "stochastic_depth" | "checkpoint_blocks" => &[],
            _ => &[Component::Encoder, Component::Decoder],
        }
    }

    fn extension(&self) -> Option<Extension> {
        Some(self.extension)
    }

    fn with_extension(&self, extension: Extension) -> Option<model::Config> {
        let has = self.positions == Positions::Rope || extension != Extension::Ntk;
        has.then(|| model::Config::Vit(Self { extension, ..self.clone() }))
    }

    fn draws_noise(&self) -> bool {
        self.stochastic_depth > 0.0
    }

    fn plan(
        &self,
        quantizer: &QuantizerConfig,
        trained: TrainedSizes,
    ) -> Result<Box<dyn model::Plan>, ModelError> {
        Ok(Box::new(Plan::new(self, quantizer, trained)?))
    }
}

impl model::Plan for Plan {
    fn shape(&self) -> TokenShape {
        self.common.grid().into()
    }

    fn side_multiple(&self) -> i64 {
        self.common.patch
    }

    fn only_size(&self) -> Option<ImageSize> {
        Plan::only_size(self)
    }

    fn latent_channels(&self) -> i64 {
        self.common.latent_channels
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
