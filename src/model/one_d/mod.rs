//! TiTok (arXiv 2406.07550): an image becomes a sequence of N tokens that belong to no place. They
//! go through the encoder's transformer beside the patches of the image, and through the decoder's
//! beside mask tokens, which become the patches.

mod check;
mod config;
mod decoder;
mod description;
mod encoder;
mod footprint;
mod pixel_decoder;
mod plan;
mod transformer;

use tch::Device;

pub use config::{Config, Layout, PixelDecoder, Positions, Size};

use super::tail_drop::TailDrop;
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
        model::Config::OneD(self.clone().resolved())
    }

    fn written_out(&self, quantizer: &QuantizerConfig) -> model::Config {
        model::Config::OneD(self.clone().in_numbers(quantizer.settings().natural_width()))
    }

    fn components_of(&self, key: &str) -> &'static [Component] {
        match first_name(key) {
            "decoder_size" | "decoder_width" | "decoder_depth" | "decoder_heads" | "pixel_decoder" => {
                &[Component::Decoder]
            }
            // The weights mean the same with and without these.
            "extension" | "tail_drop" | "checkpoint_blocks" => &[],
            _ => &[Component::Encoder, Component::Decoder],
        }
    }

    fn plan(
        &self,
        quantizer: &QuantizerConfig,
        trained: TrainedSizes,
    ) -> Result<Box<dyn model::Plan>, ModelError> {
        Ok(Box::new(Plan::new(self, quantizer, trained)?))
    }

    fn extension(&self) -> Option<Extension> {
        (self.positions == Positions::Rope).then_some(self.extension)
    }

    fn with_extension(&self, extension: Extension) -> Option<model::Config> {
        let config = Self { extension, ..self.clone() };
        (self.positions == Positions::Rope).then_some(model::Config::OneD(config))
    }

    fn tail_drop(&self) -> Option<&TailDrop> {
        self.tail_drop.as_ref()
    }
}

impl model::Plan for Plan {
    fn shape(&self) -> TokenShape {
        TokenShape::Sequence { n: self.tokens() as u32 }
    }

    fn side_multiple(&self) -> i64 {
        self.common.patch
    }

    fn only_size(&self) -> Option<ImageSize> {
        self.only_size()
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
