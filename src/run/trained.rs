//! A trained tokenizer, opened from a run or a model folder.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

use super::folder::{DESCRIPTION, MODEL, Run};
use super::{ModelChoice, Tell};
use crate::checkpoint::{RunFolder, ValidationImages, Which, copy_into};
use crate::codec::Own;
use crate::config::{Config, RunChange};
use crate::layers::Extension;
use crate::model::{self, ImageSize, TokenShape, Tokenizer};
use crate::tasks::tokenizer::State;
use crate::train::Weights;
use crate::variables::{Component, Variables};
use pixtok_base::Misuse;
use pixtok_images::data::Fingerprint;
use pixtok_tokens::Grid;
use pixtok_torch::tensors::{self, Tensors};

/// A trained tokenizer.
pub struct Trained {
    /// The config that it was trained with, apart from positions that were chosen for it.
    pub config: Config,
    /// The networks, without gradients.
    pub tokenizer: Tokenizer,
    /// The choice of checkpoint, weights and precision.
    pub choice: ModelChoice,
    /// The step of the checkpoint; absent for a model folder that does not state it.
    pub step: Option<u64>,
    /// How it was chosen from a run's checkpoints, if it was.
    pub chosen_by: Option<ChosenBy>,
    /// A sentence about a checkpoint of its run that is better, if the last one is in use.
    pub better: Option<String>,
    /// The training images of its run when it was saved; absent for a model folder.
    pub trained_on: Option<Fingerprint>,
    /// The validation images of its run when it was saved; absent for a model folder.
    pub validated_on: Option<Fingerprint>,
    /// The number of trained parameters.
    pub parameters: i64,
    /// Settings that changed during the training.
    pub changes: Vec<RunChange>,
    /// The variables of the networks.
    store: Variables,
}

/// What made a checkpoint the best of its run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChosenBy {
    /// The name of the figure in the logs.
    pub metric: String,
    /// The images that the figure was measured on; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ValidationImages>,
}

impl Run {
    /// Builds the tokenizer of a run or a model folder and loads only the chosen weights. Tells of
    /// outdated settings, which no new training should use.
    ///
    /// # Errors
    /// When there is no such checkpoint, it is damaged, or its weights do not fit the config; when
    /// its network has no such positions as are chosen.
    pub fn open(&self, choice: ModelChoice, device: Device, tell: Tell) -> Result<Trained> {
        let build = |config: &Config, store: &Variables| {
            Tokenizer::new(store, config.model.settings(), &config.quantizer, &config.data)
        };
        let path = self.path();
        let store = Variables::new(device);
        if let Some(weights) = self.model()? {
            let config = self.config_with(choice.positions)?;
            let tokenizer = build(&config, &store)?;
            let file = path.join(MODEL).display().to_string();
            copy_into(&store.tensors(), &weights, &file)?;
            store.freeze(&Component::TOKENIZER);
            tell_outdated(path, &config, tell);
            return Ok(Trained {
                config,
                tokenizer,
                choice,
                step: None,
                chosen_by: described_choice(path),
                better: None,
                trained_on: None,
                validated_on: None,
                parameters: store.parameters(&Component::TOKENIZER),
                changes: RunChange::read::<Config>(path)?,
                store,
            });
        }
        let folder = self.folder();
        let step = folder.select(choice.checkpoint)?;
        let config = self.config_with(choice.positions)?;
        let saved = folder.load_model(step, choice.weights == Weights::Ema)?;
        let tokenizer = build(&config, &store)?;
        copy_into(&store.tensors(), &saved.weights, "the checkpoint's model")?;
        store.freeze(&Component::TOKENIZER);
        tell_outdated(path, &config, tell);
        let best = if choice.checkpoint == Which::Best { folder.best()? } else { None };
        let chosen_by = best.map(|best| ChosenBy { metric: best.metric, images: best.images });
        let mut changes = RunChange::read::<Config>(path)?;
        changes.retain(|change| change.step < step);
        Ok(Trained {
            config,
            tokenizer,
            choice,
            step: Some(step),
            chosen_by,
            better: (choice.checkpoint == Which::Last).then(|| better(folder, step)).flatten(),
            trained_on: State::training_images(&saved.state),
            validated_on: State::validation_images(&saved.state),
            parameters: store.parameters(&Component::TOKENIZER),
            changes,
            store,
        })
    }

    /// The config, with these positions if some are chosen.
    fn config_with(&self, positions: Option<Extension>) -> Result<Config> {
        let config = self.config()?;
        let Some(extension) = positions else { return Ok(config) };
        let model = extended(&config, extension).map_err(|reason| {
            Misuse(format!("--positions is {extension}, and {} {reason}", self.path().display()))
        })?;
        let config = Config { model, ..config };
        config.check()?;
        Ok(config)
    }
}

/// The network of a config with this extension of its positions, or what keeps it from having one.
fn extended(config: &Config, extension: Extension) -> Result<model::Config, String> {
    let settings = config.model.settings();
    settings.with_extension(extension).ok_or_else(|| match settings.extension() {
        None => format!(
            "has a network without positions that extend to other sizes ({}); leave it out",
            config.model.kind()
        ),
        Some(own) => {
            format!("has positions that do not extend so; leave it out for those of its config ({own})")
        }
    })
}

/// The size of the piece of an image that each token of a grid is for.
pub(super) fn piece(image: ImageSize, grid: Grid) -> ImageSize {
    ImageSize { height: image.height / grid.h, width: image.width / grid.w }
}

/// A sentence about the run's best checkpoint, if it is not the one at `step`.
fn better(folder: &RunFolder, step: u64) -> Option<String> {
    // A record that cannot be read is reported when `--checkpoint best` asks for it.
    let best = folder.best().ok()??;
    let is_there = best.step != step && folder.checkpoint_path(best.step).is_dir();
    is_there.then(|| {
        let (metric, value) = (best.metric, best.value);
        format!(
            "this is step {step}; of the steps that were evaluated in training, step {} has the best {metric} \
             ({value:.3}): --checkpoint best takes it",
            best.step
        )
    })
}

/// Tells of outdated settings, which no new training should use.
fn tell_outdated(path: &Path, config: &Config, tell: Tell) {
    if let Err(problem) = config.quantizer.settings().check_new_training() {
        tell.say(&format!("{}: {problem}", path.display()));
    }
}

/// How the checkpoint of an exported model folder was chosen, from its description.
fn described_choice(folder: &Path) -> Option<ChosenBy> {
    let description: Value = serde_json::from_slice(&fs::read(folder.join(DESCRIPTION)).ok()?).ok()?;
    serde_json::from_value(description.get("chosen_by")?.clone()).ok()
}

impl Trained {
    /// A tokenizer whose variables are in `store`, of another network than `config` names.
    #[cfg(test)]
    pub(crate) fn from_parts(config: Config, tokenizer: Tokenizer, store: Variables) -> Self {
        store.freeze(&Component::TOKENIZER);
        Self {
            config,
            tokenizer,
            choice: ModelChoice::default(),
            step: None,
            chosen_by: None,
            better: None,
            trained_on: None,
            validated_on: None,
            parameters: store.parameters(&Component::TOKENIZER),
            changes: vec![],
            store,
        }
    }

    /// The codec between images and indices.
    #[must_use]
    pub fn codec(&self) -> Own<'_> {
        Own { tokenizer: &self.tokenizer, precision: self.choice.precision }
    }

    /// The shape of the tokens of an image of the configured size.
    ///
    /// # Errors
    /// When the encoder cannot take images of this size.
    pub fn shape(&self) -> Result<TokenShape> {
        Ok(self.tokenizer.shape(self.config.data.image_size)?)
    }

    /// The size of the piece of an image that each token is for; `None` for tokens in a sequence.
    ///
    /// # Errors
    /// The same as [`Trained::shape`].
    pub fn pixels_per_token(&self) -> Result<Option<ImageSize>> {
        Ok(self.shape()?.grid().map(|grid| piece(self.config.data.image_size, grid)))
    }

    /// What is done with positions at sizes beyond the trained one; `None` of a network without
    /// positions that extend.
    #[must_use]
    pub fn extension(&self) -> Option<Extension> {
        self.config.model.settings().extension()
    }

    /// Describes which weights these are.
    #[must_use]
    pub fn weights(&self) -> String {
        match self.step {
            Some(step) => format!("step {step}, {} weights", self.choice.weights.name()),
            None => MODEL.into(),
        }
    }

    /// Parameters and buffers by name.
    #[must_use]
    pub fn tensors(&self) -> Tensors {
        self.store.tensors()
    }

    /// The blake3 hash, in hex, of the safetensors file that the weights make. For a run's raw
    /// weights it is the hash of the checkpoint's own `model.safetensors`.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn weights_blake3(&self) -> Result<String> {
        blake3_of(&self.tensors())
    }
}

/// The blake3 hash, in hex, of the safetensors file that these weights make.
///
/// # Errors
/// When a tensor cannot be read.
pub(super) fn blake3_of(weights: &Tensors) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    tensors::write_to(&mut hasher, weights).context("cannot hash the weights")?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_chosen_for_networks_that_have_some() {
        let config = |model: &str| -> Config {
            let text = format!("[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]\n[model]\n{model}\n");
            toml::from_str(&text).unwrap()
        };
        let words = |model: &str, extension| extended(&config(model), extension).unwrap_err();
        let convolutions = words("channels = 8", Extension::Ntk);
        assert_eq!(
            convolutions,
            "has a network without positions that extend to other sizes (cnn); leave it out"
        );
        let learned = words("kind = \"vit\"\npositions = \"learned\"", Extension::Ntk);
        assert!(learned.starts_with("has positions that do not extend so") && learned.contains("(none)"));

        let vit = "kind = \"vit\"\nsize = \"S\"";
        let pair = "kind = \"pair\"\nencoder = { channels = 8 }\ndecoder = { kind = \"vit\" }";
        for model in [vit, pair] {
            let before = config(model);
            assert_eq!(before.model.settings().extension(), Some(Extension::None), "{model}");
            assert_eq!(extended(&before, Extension::None).unwrap(), before.model, "{model}");
            let after = extended(&before, Extension::Ntk).unwrap();
            assert_eq!(after.settings().extension(), Some(Extension::Ntk), "{model}");
        }
    }
}
