//! `pixtok train --dry-run`: describes a run without starting it.

use std::path::PathBuf;

use super::images::{check_batch, tell_omitted, tell_shared, training_set, validation_set};
use super::networks::Networks;
use super::precision::Settled;
use super::trained::piece;
use super::{Tell, memory};
use crate::config::Config;
use crate::model::{ImageSize, TokenShape};
use crate::variables::Component;
use anyhow::Result;

/// Describes the run. Images and the loss's `weights` may be missing, so that a config can be
/// checked on a different machine.
pub(super) fn words(
    config: &Config,
    precision: &Settled,
    networks: &Networks,
    weights: Result<Option<PathBuf>>,
    tell: Tell,
) -> Result<String> {
    let tokenizer = &networks.tokenizer;
    let (height, width) = config.image_size();
    let shape = tokenizer.shape(config.data.image_size)?;
    let tokens = tokens(config.data.image_size, shape);
    let codebook = tokenizer.codebook();
    let bits = codebook.bits_per_token();
    let of = |component: Component| networks.parameters(&[component]);
    let train = &config.train;
    let images = match (training_set(config), validation_set(config)) {
        (Ok(train_set), Ok((_, val_set))) => {
            check_batch(config, &train_set)?;
            tell_omitted([&train_set, &val_set], tell);
            tell_shared(&train_set, &val_set, tell);
            format!(
                "{} for training, {} for validation; {} steps per epoch of batches of {}",
                train_set.len(),
                val_set.len(),
                train_set.len() / train.batch_size,
                train.batch_size,
            )
        }
        (Err(error), _) | (_, Err(error)) => format!("none here: {error:#}"),
    };
    Ok(format!(
        "{}\n# parameters: {} (encoder {}, quantizer {}, decoder {})\n{}\
         # {tokens}\n\
         # codebook: {}{} codes of dimension {}; {bits:.3} bits per token, {:.4} bits per pixel\n\
         # images: {images}\n\
         # precision: {}\n\
         {}{}{}{}",
        config.to_toml()?,
        networks.parameters(&Component::TOKENIZER),
        of(Component::Encoder),
        of(Component::Quantizer),
        of(Component::Decoder),
        adversary(config, networks),
        if codebook.codebooks > 1 { format!("{} of ", codebook.codebooks) } else { String::new() },
        codebook.size,
        codebook.dim,
        bits * shape.positions() as f64 / (height * width) as f64,
        precision.words(),
        config.micro_batch_terms().map(|terms| format!("# micro-batches: {terms}\n")).unwrap_or_default(),
        match weights {
            Ok(None) => String::new(),
            Ok(Some(path)) => format!("# the loss's network: {}\n", path.display()),
            Err(error) => format!("# the loss's network: none here: {error:#}\n"),
        },
        memory::words(config, precision, networks)?,
        config.advice()?.iter().fold(String::new(), |notes, advice| notes + "# note: " + advice + "\n"),
    ))
}

/// Describes the tokens of an image.
fn tokens(image: ImageSize, shape: TokenShape) -> String {
    let Some(grid) = shape.grid() else {
        return format!("latent sequence: {} tokens for an image", shape.positions());
    };
    let ImageSize { height, width } = piece(image, grid);
    format!("latent grid: {}x{}, one token for {height}x{width} pixels", grid.h, grid.w)
}

/// Describes the discriminator and when it starts.
fn adversary(config: &Config, networks: &Networks) -> String {
    let (Some(adversarial), Some((store, _))) = (&config.adversarial, &networks.adversary) else {
        return String::new();
    };
    let parameters = store.parameters(&[Component::Discriminator]);
    let never = if adversarial.start >= config.train.steps { ", which the run ends before" } else { "" };
    format!("# discriminator: {parameters} parameters, from step {}{never}\n", adversarial.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pixels_of_a_token_are_said_for_both_axes() {
        let said = |shape| tokens(ImageSize { height: 16, width: 24 }, shape);
        assert_eq!(said(TokenShape::Grid { h: 4, w: 6 }), "latent grid: 4x6, one token for 4x4 pixels");
        assert_eq!(said(TokenShape::Grid { h: 4, w: 3 }), "latent grid: 4x3, one token for 4x8 pixels");
        assert_eq!(said(TokenShape::Sequence { n: 5 }), "latent sequence: 5 tokens for an image");
    }
}
