//! `pixtok train --init-from`: weights of another run, or of a model folder, to start from.

use std::path::Path;

use anyhow::{Context, Result};

use super::networks::Networks;
use crate::checkpoint::{Which, copy_into};
use crate::commands::{Misuse, note, open};
use crate::config::Config;
use pixtok_torch::tensors::{self, Tensors};
use crate::train::Part;

/// Starts `networks` from the last raw weights of a run, or those of a model folder. All must fit; where parts are frozen, the others begin anew if they do
/// not. Where the tokens stay the same, returns the hash of the weights whose tokens they are.
pub(super) fn from_run(other: &Path, config: &Config, networks: &Networks) -> Result<Option<String>> {
    let (saved, whose) = weights_of(other)?;
    if let Some(name) = tensors::not_finite(&saved) {
        return Err(Misuse(format!(
            "the weights of {whose} are not finite ({name}), so nothing can start from them; give another run, or remove that \
             checkpoint if the run has an earlier one"
        ))
        .into());
    }
    let earlier = open::config_of(other)?;
    let (train, path) = (&config.train, other.display());
    let differences = config.differences(&earlier)?;
    let frozen = |part| train.freeze.contains(&part);
    let matters = |difference: &String| {
        if difference.starts_with("model.decoder_res_blocks") {
            frozen(Part::Decoder)
        } else if difference.starts_with("model.") {
            frozen(Part::Encoder) || frozen(Part::Decoder)
        } else {
            difference.starts_with("quantizer") && frozen(Part::Quantizer)
        }
    };
    let others: Vec<String> = differences.into_iter().filter(matters).collect();
    if !others.is_empty() {
        return Err(Misuse(format!(
            "frozen parts stay those of {path}, whose settings are others; take them, or let these parts train:\n  {}",
            others.join("\n  ")
        ))
        .into());
    }
    let live = networks.variables();
    if train.freeze.is_empty() {
        copy_into(&live, &saved, "the other model").with_context(|| format!("cannot start from {path}"))?;
    } else {
        for part in Part::ALL {
            take_part(part, train.freeze.contains(&part), &live, &saved)
                .with_context(|| format!("cannot keep the {part} of {path}"))?;
        }
    }
    note(&format!("starting from the weights of {whose}{}", what_stays(config, networks)));
    if !train.keeps_tokens() {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    tensors::write_to(&mut hasher, &saved).context("cannot hash the weights")?;
    let own = hasher.finalize().to_hex().to_string();
    Ok(Some(earlier.train.keeps_tokens_of.unwrap_or(own)))
}

/// The frozen parts in words, with what is left to train.
fn what_stays(config: &Config, networks: &Networks) -> String {
    let train = &config.train;
    let frozen: Vec<String> = train.freeze.iter().map(Part::to_string).collect();
    if frozen.is_empty() {
        return String::new();
    }
    let tokens = if train.keeps_tokens() { ", and so do the tokens" } else { "" };
    let trained = networks.numbers(config).trained;
    format!("; {} stay{tokens}; {trained} parameters train", frozen.join(" and "))
}

/// All weights of a run's last checkpoint or of a model folder, and in words whose they are.
fn weights_of(other: &Path) -> Result<(Tensors, String)> {
    if let Some(weights) = open::of_model_folder(other)? {
        return Ok((weights, other.display().to_string()));
    }
    let folder = open::run_folder(other)?;
    let loaded = folder.load(folder.select(Which::Last)?)?;
    Ok((loaded.snapshot.model, format!("{} at step {}", other.display(), loaded.step)))
}

/// Refuses to freeze what no run has made.
pub(super) fn from_nothing(config: &Config) -> Result<()> {
    if config.train.freeze.is_empty() {
        return Ok(());
    }
    Err(Misuse(
        "train.freeze keeps parts of the tokenizer as they are, and in a new run they are nothing yet; name the run that they come \
         from with --init-from"
            .into(),
    )
    .into())
}

/// Copies what one part has. If it does not fit and need not stay, it begins anew.
fn take_part(part: Part, stays: bool, live: &Tensors, saved: &Tensors) -> Result<()> {
    let own = |all: &Tensors| -> Tensors {
        let own = all.iter().filter(|(name, _)| part.has(name));
        own.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    };
    match copy_into(&own(live), &own(saved), &format!("the other model's {part}")) {
        Err(_) if !stays => {
            note(&format!("the {part} has another shape than the other run's, so it begins anew"))
        }
        outcome => outcome?,
    }
    Ok(())
}
