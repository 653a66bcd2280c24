//! Refuses settings that do not fit each other.

use super::config::{Config, Layout, PixelDecoder, Positions, Size, Sizes};
use crate::layers::Extension;
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
    positions(config)?;
    match (config.layout, &config.pixel_decoder) {
        (Layout::Legacy, decoder) => legacy(config, &decoder.clone().unwrap_or_default())?,
        (Layout::Vq8k, Some(_)) => fail(
            "model.pixel_decoder belongs to model.layout \"legacy\"; leave it out, or set the layout".into(),
        )?,
        (Layout::Vq8k, None) => {}
    }
    tokens(config, image)
}

fn ranges(config: &Config) -> Result<(), ModelError> {
    let (encoder, decoder) = (config.encoder_sizes(), config.decoder_sizes());
    let ranges = [
        ("width", encoder.width, 65536),
        ("depth", encoder.depth, 1024),
        ("heads", encoder.heads, 1024),
        ("decoder_width", decoder.width, 65536),
        ("decoder_depth", decoder.depth, 1024),
        ("decoder_heads", decoder.heads, 1024),
        ("patch", config.patch, 1024),
        ("latent_tokens", config.latent_tokens, 65536),
        ("latent_channels", config.latent_channels.unwrap_or(1), 65536),
    ];
    match ranges.into_iter().find(|&(_, value, most)| !(1..=most).contains(&value)) {
        None => Ok(()),
        Some((key, value, most)) => fail(format!("model.{key} has {value}; it must be from 1 to {most}")),
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
            "model.{prefix}heads is {heads}, which does not divide model.{prefix}width {width}; the next smaller \
             number that does is {divisor}"
        ));
    }
    let head = width / heads;
    if positions == Positions::Rope && head % TURNED_TOGETHER != 0 {
        return fail(format!(
            "model.{prefix}width {width} has {heads} heads of {head}, and model.positions \"rope\" needs heads of a \
             multiple of {TURNED_TOGETHER}; choose other model.{prefix}heads"
        ));
    }
    Ok(())
}

fn positions(config: &Config) -> Result<(), ModelError> {
    if config.positions == Positions::Learned && config.extension != Extension::None {
        return fail(
            "model.extension needs model.positions \"rope\": learned positions are of one size; leave it out"
                .into(),
        );
    }
    let base = config.rope_base;
    if !(base > 1.0 && base.is_finite()) {
        return fail(format!("model.rope_base is {base}; it must be over 1"));
    }
    Ok(())
}

fn legacy(config: &Config, decoder: &PixelDecoder) -> Result<(), ModelError> {
    if config.positions != Positions::Learned {
        return fail(
            "model.positions is \"rope\" and model.layout \"legacy\", whose published weights have learned \
             positions; leave one of them out"
                .into(),
        );
    }
    if config.tail_drop.is_some() {
        return fail(
            "model.tail_drop needs tokens of their own, and those of model.layout \"legacy\" mix the numbers of all \
             tokens; use the layout \"vq8k\""
                .into(),
        );
    }
    if decoder.multipliers.is_empty() {
        return fail("model.pixel_decoder.multipliers is empty; give one per resolution, like [1, 2]".into());
    }
    let ranges = [
        ("codes", vec![decoder.codes], 1 << 24),
        ("code_dim", vec![decoder.code_dim], 65536),
        ("channels", vec![decoder.channels], 65536),
        ("multipliers", decoder.multipliers.clone(), 1024),
        ("res_blocks", vec![decoder.res_blocks], 1024),
        ("norm_groups", vec![decoder.norm_groups], 65536),
    ];
    for (key, values, most) in ranges {
        if let Some(value) = values.iter().find(|value| !(1..=most).contains(*value)) {
            return fail(format!("model.pixel_decoder.{key} has {value}; it must be from 1 to {most}"));
        }
    }
    let mut widths = decoder.multipliers.iter().map(|multiplier| decoder.channels * multiplier);
    let groups = decoder.norm_groups;
    if let Some(width) = widths.find(|width| width % groups != 0) {
        return fail(format!(
            "{width} channels of model.pixel_decoder do not divide into its {groups} norm_groups; choose channels \
             as a multiple of {groups}"
        ));
    }
    let upsample = decoder.upsample();
    if config.patch != upsample {
        return fail(format!(
            "model.patch is {}, and model.pixel_decoder with {} multipliers makes {upsample}×{upsample} pixels of a \
             patch; set model.patch = {upsample}, or give as many multipliers as it needs",
            config.patch,
            decoder.multipliers.len()
        ));
    }
    Ok(())
}

/// Checks that patches cover the image, and that they are not fewer than the tokens.
fn tokens(config: &Config, image: ImageSize) -> Result<(), ModelError> {
    let Config { patch, latent_tokens, .. } = *config;
    let sides = [image.height, image.width].map(i64::from);
    if let Some(side) = sides.into_iter().find(|side| *side < patch || side % patch != 0) {
        let below = side / patch * patch;
        let nearest = if below > 0 { format!("{below} or {}", below + patch) } else { patch.to_string() };
        return fail(format!(
            "data.image_size {side} is no multiple of the side of a patch, model.patch = {patch}; the nearest that \
             are: {nearest}"
        ));
    }
    let patches = sides[0] / patch * (sides[1] / patch);
    if latent_tokens > patches {
        let ImageSize { height, width } = image;
        return fail(format!(
            "model.latent_tokens is {latent_tokens}, more than the {patches} patches of an image of {height}×{width} \
             pixels; choose at most {patches}, or a smaller model.patch"
        ));
    }
    Ok(())
}
