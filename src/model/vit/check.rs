//! Refuses settings that do not fit each other.

use super::config::{Config, Positions, Size, Sizes};
use crate::layers::Extension;
use crate::model::grid::check_image_size;
use crate::model::{ImageSize, ModelError};

/// Numbers of a head that turn together: a pair for the row and a pair for the column.
const TURNED_TOGETHER: i64 = 4;

fn fail(message: String) -> Result<(), ModelError> {
    Err(ModelError::Network(message))
}

/// Checks all settings for images of this size.
pub(super) fn check(config: &Config, image: ImageSize) -> Result<(), ModelError> {
    ranges(config)?;
    let of_encoder = [config.width, config.depth, config.heads];
    let of_decoder = [config.decoder_width, config.decoder_depth, config.decoder_heads];
    transformer("", config.size, of_encoder, config.encoder_sizes(), config.positions)?;
    transformer("decoder_", config.decoder_size, of_decoder, config.decoder_sizes(), config.positions)?;
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

fn ranges(config: &Config) -> Result<(), ModelError> {
    let (encoder, decoder) = (config.encoder_sizes(), config.decoder_sizes());
    let ranges = [
        ("width", encoder.width, 1, 65536),
        ("depth", encoder.depth, 1, 1024),
        ("heads", encoder.heads, 1, 1024),
        ("decoder_width", decoder.width, 1, 65536),
        ("decoder_depth", decoder.depth, 1, 1024),
        ("decoder_heads", decoder.heads, 1, 1024),
        ("patch", config.patch, 1, 1024),
        ("registers", config.registers, 0, 1024),
        ("latent_channels", config.latent_channels.unwrap_or(1), 1, 65536),
    ];
    match ranges.into_iter().find(|&(_, value, least, most)| !(least..=most).contains(&value)) {
        None => Ok(()),
        Some((key, value, least, most)) => {
            fail(format!("model.{key} has {value}; it must be from {least} to {most}"))
        }
    }
}

/// Checks one half's transformer, whose keys begin with `prefix`.
fn transformer(
    prefix: &str,
    size: Option<Size>,
    given: [Option<i64>; 3],
    sizes: Sizes,
    positions: Positions,
) -> Result<(), ModelError> {
    let keys = ["width", "depth", "heads"];
    if let (Some(size), Some(place)) = (size, given.iter().position(Option::is_some)) {
        let key = keys[place];
        return fail(format!(
            "model.{prefix}size is {size:?}, which sets model.{prefix}{key} too; leave one of them out"
        ));
    }
    let Sizes { width, heads, .. } = sizes;
    if width % heads != 0 {
        let divisor = (1..=heads).rev().find(|divisor| width % divisor == 0).unwrap_or(1);
        return fail(format!(
            "model.{prefix}heads is {heads}, which does not divide model.{prefix}width {width}; the next \
             smaller number that does is {divisor}"
        ));
    }
    let head = width / heads;
    if positions == Positions::Rope && head % TURNED_TOGETHER != 0 {
        return fail(format!(
            "model.{prefix}width {width} has {heads} heads of {head}, and model.positions \"rope\" needs heads \
             of a multiple of {TURNED_TOGETHER}; choose other model.{prefix}heads"
        ));
    }
    Ok(())
}

fn numbers(config: &Config) -> Result<(), ModelError> {
    let (base, depth) = (config.rope_base, config.stochastic_depth);
    if !(base > 1.0 && base.is_finite()) {
        return fail(format!("model.rope_base is {base}; it must be over 1"));
    }
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
