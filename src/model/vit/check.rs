//! Refuses settings that do not fit each other.

use super::config::{Config, Positions};
use crate::layers::Extension;
use crate::model::grid::check_image_size;
use crate::model::transformer::{check_range, check_rope_base};
use crate::model::{ImageSize, ModelError};

fn fail(message: String) -> Result<(), ModelError> {
    Err(ModelError::Network(message))
}

/// Checks all settings for images of this size.
pub(super) fn check(config: &Config, image: ImageSize) -> Result<(), ModelError> {
    let turned = config.positions == Positions::Rope;
    config.halves().check(turned)?;
    check_range("model.patch", config.patch, 1..=1024)?;
    check_range("model.registers", config.registers, 0..=1024)?;
    check_range("model.latent_channels", config.latent_channels.unwrap_or(1), 1..=65536)?;
    numbers(config)?;
    if config.positions == Positions::Learned && config.extension == Extension::Ntk {
        return fail(
            "model.extension is \"ntk\", which changes frequencies, and model.positions \"learned\" has none; \
             use \"none\" or \"interpolate\", or model.positions \"rope\""
                .into(),
        );
    }
    check_image_size(image, config.patch)
}

fn numbers(config: &Config) -> Result<(), ModelError> {
    check_rope_base(config.rope_base, config.positions == Positions::Rope)?;
    let depth = config.stochastic_depth;
    if !(0.0..1.0).contains(&depth) {
        return fail(format!(
            "model.stochastic_depth is {depth}; it is a probability, from 0 to less than 1"
        ));
    }
    match config.layer_scale {
        Some(scale) if !(scale > 0.0 && scale.is_finite()) => {
            fail(format!("model.layer_scale is {scale}; it must be over 0, like 1e-5, or left out"))
        }
        _ => Ok(()),
    }
}
