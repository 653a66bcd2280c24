//! `pixtok train --dry-run`: describes a run without starting it.

use std::path::PathBuf;

use anyhow::Result;

use super::Tell;
use super::images::{check_batch, tell_omitted, tell_shared, words_of_buckets};
use super::memory;
use super::networks::Networks;
use super::summary::Summary;
use super::trained::piece;
use crate::config::Config;
use crate::model::{ImageSize, TokenShape};
use crate::variables::Component;

/// Describes the run: first the four lines with which a training begins, then its steps and its
/// memory. Images and the loss's `weights` may be missing, so that a config can be checked on a
/// different machine. With `print_config` the result is the config, after the description as a
/// comment.
pub(super) fn words(
    summary: &Summary,
    weights: Result<Option<PathBuf>>,
    print_config: bool,
    tell: Tell,
) -> Result<String> {
    let (config, networks) = (summary.config, summary.networks);
    if let Ok((train_set, val_set)) = summary.images {
        check_batch(config, train_set)?;
        tell_omitted([train_set, val_set], tell);
        tell_shared(train_set, val_set, tell);
    }
    let mut lines: Vec<String> = summary.lines()?.into();
    lines.extend(summary.images.as_ref().ok().and_then(|(train_set, _)| words_of_buckets(config, train_set)));
    lines.push(parameters(config, networks));
    lines.push(rate(config, networks)?);
    lines.extend(summary.images.as_ref().ok().map(|(train_set, _)| steps(config, train_set.len())));
    lines.extend(config.micro_batch_terms().map(|terms| format!("micro-batches: {terms}")));
    lines.extend(match weights {
        Ok(None) => None,
        Ok(Some(path)) => Some(format!("the loss's network: {}", path.display())),
        Err(error) => Some(format!("the loss's network: none here: {error:#}")),
    });
    lines.extend(memory::words(config, summary.precision, networks)?);
    lines.extend(config.advice()?.iter().map(|advice| format!("note: {advice}")));
    if !print_config {
        return Ok(lines.join("\n") + "\n");
    }
    // A reason may have several lines.
    let comment: String =
        lines.iter().flat_map(|line| line.lines()).map(|line| format!("# {line}\n")).collect();
    Ok(comment + &config.to_toml()?)
}

/// The parameters by component, and when a discriminator starts.
fn parameters(config: &Config, networks: &Networks) -> String {
    let of = |component: Component| networks.parameters(&[component]);
    let (encoder, quantizer, decoder) =
        (of(Component::Encoder), of(Component::Quantizer), of(Component::Decoder));
    let tokenizer = format!("parameters  encoder {encoder}, quantizer {quantizer}, decoder {decoder}");
    let (Some(adversarial), Some((store, _))) = (&config.adversarial, &networks.adversary) else {
        return tokenizer;
    };
    let discriminator = store.parameters(&[Component::Discriminator]);
    let never = if adversarial.start >= config.train.steps { ", which the run ends before" } else { "" };
    format!("{tokenizer}; discriminator {discriminator}, from step {}{never}", adversarial.start)
}

/// What the tokens of an image hold.
fn rate(config: &Config, networks: &Networks) -> Result<String> {
    let tokenizer = &networks.tokenizer;
    let (height, width) = config.image_size();
    let shape = tokenizer.shape(config.data.image_size)?;
    let bits = tokenizer.codebook().bits_per_token();
    let only = tokenizer.only_size().map_or_else(String::new, |ImageSize { height, width }| {
        format!("; it takes images of exactly {height}x{width} pixels")
    });
    Ok(format!(
        "tokens      {}{bits:.3} bits per token, {:.4} bits per pixel{only}",
        pixels(config.data.image_size, shape),
        bits * shape.positions() as f64 / (height * width) as f64
    ))
}

/// The pixels that a token of a grid is for, before what else is said of tokens.
fn pixels(image: ImageSize, shape: TokenShape) -> String {
    shape.grid().map_or_else(String::new, |grid| {
        let ImageSize { height, width } = piece(image, grid);
        format!("one for {height}x{width} pixels, ")
    })
}

/// How often the images are seen.
fn steps(config: &Config, images: usize) -> String {
    let train = &config.train;
    let epoch = images / train.batch_size;
    format!(
        "steps       {epoch} steps per epoch of {images} images; {} steps are {:.1} epochs",
        train.steps,
        train.steps as f64 / epoch.max(1) as f64
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pixels_of_a_token_are_said_for_both_axes() {
        let said = |shape| pixels(ImageSize { height: 16, width: 24 }, shape);
        assert_eq!(said(TokenShape::Grid { h: 4, w: 6 }), "one for 4x4 pixels, ");
        assert_eq!(said(TokenShape::Grid { h: 4, w: 3 }), "one for 4x8 pixels, ");
        assert_eq!(said(TokenShape::Sequence { n: 5 }), "");
    }
}
