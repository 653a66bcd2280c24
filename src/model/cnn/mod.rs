//! The usual convolutional autoencoder (VQGAN's, arXiv 2012.09841). Tokens lie in a grid, one for
//! `downsample` × `downsample` pixels.

mod blocks;
mod checks;
mod decoder;
mod description;
mod encoder;
mod footprint;
mod haar;
mod per_stage;
mod plan;

use tch::Device;
use toml::Table;

pub use haar::Haar;
pub use per_stage::PerStage;
pub use plan::{Config, Variant};

use super::{Halves, ModelError, Settings, TokenShape, TrainedSizes};
use crate::model;
use crate::quantizer::QuantizerConfig;
use crate::variables::{Component, Scope};
use decoder::Decoder;
use description::Description;
use encoder::Encoder;
use plan::Plan;

/// Another name of this kind in configs: `kind = "vqgan"` means `variant = "vqgan"`.
pub(super) const VQGAN: &str = "vqgan";

/// Writes the keys of a network whose kind is [`VQGAN`] as those of a cnn.
///
/// # Errors
/// When the table names another variant.
pub(super) fn vqgan_as_variant(table: &mut Table) -> Result<(), String> {
    let variant = table.entry("variant").or_insert_with(|| VQGAN.into());
    if variant.as_str() == Some(VQGAN) {
        return Ok(());
    }
    Err(format!("model.kind is vqgan and model.variant is {variant}; leave one of them out"))
}

impl Settings for Config {
    fn resolved(&self) -> model::Config {
        model::Config::Cnn(self.clone().resolved())
    }

    fn written_out(&self, quantizer: &QuantizerConfig) -> model::Config {
        let mut config = self.clone();
        config.strides = Some(self.encoder_strides());
        config.res_blocks = self.res_blocks.clone().shortest();
        let decoders = config.decoder_res_blocks.take();
        let decoders = decoders.map_or_else(|| config.res_blocks.clone(), PerStage::shortest);
        config.decoder_res_blocks = Some(decoders);
        // Left out where they say what the encoder's say.
        config.decoder_strides =
            config.decoder_strides.filter(|decoders| Some(decoders) != config.strides.as_ref());
        config.decoder_multipliers =
            config.decoder_multipliers.filter(|decoders| *decoders != config.multipliers);
        config.latent_channels.get_or_insert(quantizer.settings().natural_width());
        model::Config::Cnn(config)
    }

    fn had_another_meaning(&self) -> Option<String> {
        self.had_other_groups().then(|| {
            "has model.variant vqgan without model.norm_groups, so an older pixtok made it, which gave norms of fewer than 128 \
             channels fewer groups than the 32 of this variant; with 32 its weights would make other images and tokens: \
             use that pixtok, or train it again"
                .to_owned()
        })
    }

    fn components_of(&self, key: &str) -> &'static [Component] {
        match key {
            "decoder_multipliers" | "decoder_strides" | "decoder_res_blocks" => &[Component::Decoder],
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
        let side = |pixels: u32| (i64::from(pixels) / self.downsample()) as u32;
        TokenShape::Grid { h: side(self.image.height), w: side(self.image.width) }
    }

    fn side_multiple(&self) -> i64 {
        self.downsample()
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
