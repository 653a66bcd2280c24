//! `pixtok train --init-from`: starts from the weights of a different run or a model folder.

use std::path::Path;

use anyhow::{Context, Result};
use tch::Tensor;

use super::networks::Networks;
use super::{Run, Tell, other_settings};
use crate::checkpoint::{Which, copy_into};
use crate::config::Config;
use crate::model::tail_drop;
use crate::variables::{Component, Variable};
use pixtok_base::Misuse;
use pixtok_torch::tensors::{self, Tensors};

/// Weights to start from.
struct Saved {
    weights: Tensors,
    /// The source of the weights, in words.
    whose: String,
    /// What is not taken from there, one sentence each.
    left: Vec<String>,
}

/// Starts `networks` from the last raw weights of a run, or from those of a model folder. All must
/// fit, except that tail drop may be new; if parts are frozen, one of the others that does not fit
/// starts from scratch. Tells with which other settings the weights were trained. If the tokens
/// stay the same, returns the hash of the weights whose tokens they are.
pub(super) fn from_run(
    other: &Path,
    config: &Config,
    networks: &Networks,
    tell: Tell,
) -> Result<Option<String>> {
    let other = Run::find(other)?;
    let Saved { weights: saved, whose, mut left } = weights_of(&other, config)?;
    if let Some(name) = tensors::not_finite(&saved) {
        return Err(Misuse(format!(
            "the weights of {whose} are not finite ({name}), so nothing can start from them; give another run, or remove that \
             checkpoint if the run has an earlier one"
        ))
        .into());
    }
    let earlier = other.config()?;
    let (train, path) = (&config.train, other.path().display());
    if let Some(settings) = other_settings::of_parts(config, &earlier, &train.freeze)? {
        return Err(Misuse(format!(
            "train.freeze keeps parts of {path}, which were trained with other settings ({settings}); use those \
             settings, or do not freeze these parts"
        ))
        .into());
    }
    let (mut taken, added) = (vec![], added(&networks.variables(), &earlier));
    if !added.is_empty() {
        left.push(format!("{path} has no model.tail_drop, so its vector {} is new", tail_drop::VECTOR));
    }
    let all: Tensors = copies(saved.iter().chain(&added));
    if train.freeze.is_empty() {
        copy_into(&networks.variables(), &all, "the other model")
            .with_context(|| format!("cannot start from {path}"))?;
        taken.extend(Component::TOKENIZER);
    } else {
        let live = networks.entries();
        for part in Component::TOKENIZER {
            let fits = take_part(part, train.freeze.contains(&part), &live, &all, tell)
                .with_context(|| format!("cannot keep the {part} of {path}"))?;
            taken.extend(fits.then_some(part));
        }
    }
    tell.note(&format!("starting from the weights of {whose}{}", what_stays(config, networks)));
    left.iter().for_each(|text| tell.note(text));
    if let Some(settings) = other_settings::words(config, &earlier, &taken)? {
        tell.note(&format!("the weights of {path} fit, but were trained with other settings: {settings}"));
    }
    if !train.keeps_tokens() {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    tensors::write_to(&mut hasher, &saved).context("cannot hash the weights")?;
    let own = hasher.finalize().to_hex().to_string();
    Ok(Some(earlier.train.keeps_tokens_of.unwrap_or(own)))
}

/// Describes the frozen components and what is left to train.
fn what_stays(config: &Config, networks: &Networks) -> String {
    let train = &config.train;
    let frozen: Vec<String> = train.freeze.iter().map(Component::to_string).collect();
    if frozen.is_empty() {
        return String::new();
    }
    let tokens = if train.keeps_tokens() { ", and so do the tokens" } else { "" };
    let trained = networks.numbers(config).trained;
    format!("; {} stay{tokens}; {trained} parameters train", frozen.join(" and "))
}

/// The weights of a run's last checkpoint or of a model folder, for a run with this `config`.
fn weights_of(other: &Run, config: &Config) -> Result<Saved> {
    let path = other.path().display();
    if let Some(weights) = other.model()? {
        return Ok(Saved { weights, whose: path.to_string(), left: vec![] });
    }
    let folder = other.folder();
    let step = folder.select(Which::Last)?;
    let saved = folder.load_model(step, false)?;
    let average = saved.has_average.then(|| {
        format!(
            "the raw weights of {path} are taken, not their average; to start from the average, name the folder \
             that `pixtok export --weights ema` makes of it"
        )
    });
    let discriminator = (saved.has_companions && config.adversarial.is_some())
        .then(|| format!("the discriminator of {path} is not taken: this run's starts from scratch"));
    let left = average.into_iter().chain(discriminator).collect();
    Ok(Saved { weights: saved.weights, whose: format!("{path} at step {step}"), left })
}

/// Refuses to freeze parts of a run that starts from scratch.
pub(super) fn from_nothing(config: &Config) -> Result<()> {
    if config.train.freeze.is_empty() {
        return Ok(());
    }
    Err(Misuse(
        "train.freeze keeps parts of the tokenizer untrained, so they must come from another run; name it with --init-from"
            .into(),
    )
    .into())
}

/// What `live` has beside the variables of an earlier tokenizer, because tail drop is new.
fn added(live: &Tensors, earlier: &Config) -> Tensors {
    let is_new = earlier.model.settings().tail_drop().is_none();
    copies(live.iter().filter(|(name, _)| is_new && name.as_str() == tail_drop::VECTOR))
}

/// The same tensors, by name.
fn copies<'a>(tensors: impl Iterator<Item = (&'a String, &'a Tensor)>) -> Tensors {
    tensors.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

/// Copies the weights of one part; returns whether they fit. A part that does not fit and need not
/// stay starts from scratch.
fn take_part(part: Component, stays: bool, live: &[Variable], saved: &Tensors, tell: Tell) -> Result<bool> {
    let own = live.iter().filter(|variable| variable.component == part);
    let own: Tensors = own.map(|found| (found.name.clone(), found.tensor.shallow_clone())).collect();
    let given = copies(saved.iter().filter(|(name, _)| Component::of_saved(name) == Some(part)));
    match copy_into(&own, &given, &format!("the other model's {part}")) {
        Err(_) if !stays => {
            tell.note(&format!(
                "the {part} has another shape than the other run's, so it starts from scratch"
            ));
            Ok(false)
        }
        outcome => Ok(outcome.map(|()| true)?),
    }
}
