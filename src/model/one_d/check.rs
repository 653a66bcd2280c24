//! Refuses settings that do not fit each other.

use super::config::{Config, Layout, PixelDecoder, Positions};
use crate::layers::Extension;
use crate::model::grid::{check_image_size_by, patches_of};
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
    check_range("model.latent_tokens", config.latent_tokens, 1..=65536)?;
    check_range("model.latent_channels", config.latent_channels.unwrap_or(1), 1..=65536)?;
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

fn positions(config: &Config) -> Result<(), ModelError> {
    if config.positions == Positions::Learned && config.extension != Extension::None {
        return fail(
            "model.extension needs model.positions \"rope\": learned positions are of one size; leave it out"
                .into(),
        );
    }
    check_rope_base(config.rope_base, config.positions == Positions::Rope)
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
        for value in values {
            check_range(&format!("model.pixel_decoder.{key}"), value, 1..=most)?;
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
    check_image_size_by(image, patch, &format!("the side of a patch, model.patch = {patch}"))?;
    let patches = patches_of(image, patch).positions() as i64;
    if latent_tokens > patches {
        let ImageSize { height, width } = image;
        return fail(format!(
            "model.latent_tokens is {latent_tokens}, more than the {patches} patches of an image of {height}×{width} \
             pixels; choose at most {patches}, or a smaller model.patch"
        ));
    }
    Ok(())
}
