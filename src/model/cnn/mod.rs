//! The convolutional autoencoder of the field (VQGAN's, arXiv 2012.09841): tokens lie in a grid, one
//! for `downsample` × `downsample` pixels.

mod blocks;
mod decoder;
mod description;
mod encoder;
mod footprint;
mod layout;
mod plan;

use tch::Device;

pub use description::{Description, StageDescription, Width};
pub use plan::{Config, Variant};

use super::{Footprint, ModelError, Settings};
use crate::model;
use crate::quantizer::QuantizerConfig;
use crate::variables::Scope;
use decoder::Decoder;
use encoder::Encoder;

impl Settings for Config {
    fn resolved(&self) -> model::Config {
        model::Config::Cnn(self.clone().resolved())
    }

    fn written_out(&self, quantizer: &QuantizerConfig) -> model::Config {
        let mut config = self.clone();
        let gaps = config.multipliers.len().saturating_sub(1);
        config.strides.get_or_insert_with(|| vec![2; gaps]);
        config.decoder_res_blocks.get_or_insert(config.res_blocks);
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

    fn check(&self, quantizer: &QuantizerConfig, image_size: (i64, i64)) -> Result<(), ModelError> {
        self.plan(quantizer, image_size).map(|_| ())
    }

    fn latent_channels(
        &self,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<i64, ModelError> {
        Ok(self.plan(quantizer, image_size)?.latent_channels)
    }

    fn side_multiple(&self, quantizer: &QuantizerConfig, image_size: (i64, i64)) -> Result<i64, ModelError> {
        Ok(self.plan(quantizer, image_size)?.downsample())
    }

    fn positions(&self, quantizer: &QuantizerConfig, image_size: (i64, i64)) -> Result<i64, ModelError> {
        let factor = self.plan(quantizer, image_size)?.downsample();
        Ok((image_size.0 / factor) * (image_size.1 / factor))
    }

    fn encoder(
        &self,
        scope: &Scope,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<Box<dyn super::Encoder>, ModelError> {
        Ok(Box::new(Encoder::new(scope, &self.plan(quantizer, image_size)?)))
    }

    fn decoder(
        &self,
        scope: &Scope,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<Box<dyn super::Decoder>, ModelError> {
        Ok(Box::new(Decoder::new(scope, &self.plan(quantizer, image_size)?)))
    }

    fn footprint(
        &self,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
        device: Device,
    ) -> Result<Footprint, ModelError> {
        Ok(footprint::of(&self.plan(quantizer, image_size)?, image_size, device))
    }

    fn description(
        &self,
        quantizer: &QuantizerConfig,
        image_size: (i64, i64),
    ) -> Result<serde_json::Value, ModelError> {
        let description = self.describe(quantizer, image_size)?;
        serde_json::to_value(description).map_err(|error| ModelError::Network(error.to_string()))
    }
}
