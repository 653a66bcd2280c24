//! `pixtok train --init-from`: weights of another run to start from.

use std::path::Path;

use anyhow::{Context, Result};

use super::networks::Networks;
use crate::checkpoint::{RunFolder, Which, copy_into};
use crate::commands::{Misuse, note, open};
use crate::config::Config;
use crate::tensors::{self, Tensors};
use crate::train::Part;

/// Starts `networks` from the last raw weights of `other`. All must fit; where parts are frozen, the others begin anew if they do
/// not. Where the tokens stay the same, returns the hash of the weights whose tokens they are.
pub(super) fn from_run(other: &Path, config: &Config, networks: &Networks) -> Result<Option<String>> {
    let folder = RunFolder::open(other)?;
    let earlier = open::config_of(other)?;
    let (train, path) = (&config.train, other.display());
    let differences = config.differences(&earlier)?;
    let matters = |difference: &String| {
        let of_decoder = difference.starts_with("model.decoder_res_blocks");
        (difference.starts_with("quantizer") || difference.starts_with("model.")) && !of_decoder
    };
    let others: Vec<String> = differences.into_iter().filter(matters).collect();
    if train.keeps_tokens() && !others.is_empty() {
        return Err(Misuse(format!(
            "with encoder and quantizer frozen the tokens stay those of {path}, whose settings are others; take them, or let these \
             parts train:\n  {}",
            others.join("\n  ")
        ))
        .into());
    }
    let loaded = folder.load(folder.select(Which::Last)?)?;
    let saved = &loaded.snapshot.model;
    let live = networks.variables();
    if train.freeze.is_empty() {
        copy_into(&live, saved, "the checkpoint's model")
            .with_context(|| format!("cannot start from {path}"))?;
    } else {
        for part in Part::ALL {
            take_part(part, train.freeze.contains(&part), &live, saved)
                .with_context(|| format!("cannot keep the {part} of {path}"))?;
        }
    }
    note(&format!("starting from the weights of {path} at step {}", loaded.step));
    if !train.keeps_tokens() {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    tensors::write_to(&mut hasher, saved).context("cannot hash the weights")?;
    let own = hasher.finalize().to_hex().to_string();
    Ok(Some(earlier.train.keeps_tokens_of.unwrap_or(own)))
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
    match copy_into(&own(live), &own(saved), &format!("the checkpoint's {part}")) {
        Err(_) if !stays => {
            note(&format!("the {part} has another shape than the other run's, so it begins anew"))
        }
        outcome => outcome?,
    }
    Ok(())
}
