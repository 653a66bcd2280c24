//! Finds the weights of a run that made a set of tokens.

use std::path::Path;

use anyhow::Result;

use super::trained::blake3_of;
use super::{ModelChoice, Run, Tell};
use crate::checkpoint::{RunFolder, Which};
use crate::layers::Extension;
use crate::train::Weights;
use pixtok_tokens::{MadeBy, StatedPositions, StatedTokenizer, StatedWeights};
use pixtok_torch::Precision;

/// Which weights to use, as far as the user says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightsChoice {
    /// The checkpoint of a run.
    pub checkpoint: Option<Which>,
    /// The weights of the checkpoint.
    pub weights: Option<Weights>,
    /// The precision of encoder and decoder.
    pub precision: Precision,
    /// What is done with positions at sizes beyond the trained one.
    pub positions: Option<Extension>,
}

impl WeightsChoice {
    /// Whether the user says neither checkpoint nor weights.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.checkpoint.is_none() && self.weights.is_none()
    }

    /// The choice with the weights that made tokens; if they are not known, with the usual weights
    /// where the user says nothing.
    #[must_use]
    pub fn or_of(&self, maker: Option<(u64, Weights)>) -> ModelChoice {
        let Self { checkpoint, weights, precision, positions } = *self;
        let (checkpoint, weights) = match maker {
            Some((step, weights)) => (Which::Step(step), weights),
            None => (checkpoint.unwrap_or_default(), weights.unwrap_or_default()),
        };
        ModelChoice { checkpoint, weights, precision, positions }
    }

    /// The choice with the positions with which a set was encoded, unless the user says otherwise
    /// or the tokenizer at `path` can't have them, so that it did not make the set.
    #[must_use]
    pub fn with_positions_of(self, path: &Path, stated: Option<StatedPositions>) -> Self {
        // Opening the tokenizer says more of a config that cannot be read.
        let has = |positions: &Extension| {
            let config =
                if Run::is_one(path) { Run::find(path).and_then(|run| run.config()).ok() } else { None };
            config.is_some_and(|config| config.model.settings().with_extension(*positions).is_some())
        };
        Self { positions: self.positions.or_else(|| stated.map(extension).filter(has)), ..self }
    }

    /// The weights of the run at `path` that made the tokens of `tokenizer`, as far as the user
    /// leaves a choice. The ones that `made_by` names are tried first, then the others, the newest
    /// first: raw weights by the hash in their manifest, averages by loading them. `None` if none
    /// made the tokens, if all of its weights give these tokens, or if the path is no run.
    ///
    /// # Errors
    /// When the run's checkpoints cannot be listed, or it lacks the one that the user names.
    pub fn maker(
        &self,
        path: &Path,
        tokenizer: &StatedTokenizer,
        made_by: Option<&MadeBy>,
        tell: Tell,
    ) -> Result<Option<(u64, Weights)>> {
        if (self.checkpoint.is_some() && self.weights.is_some()) || !Run::is_one(path) {
            return Ok(None);
        }
        let (run, tokens) = (Run::find(path)?, tokenizer.tokens_blake3());
        // A run that trains only the decoder has these tokens at every step.
        let keeps = run.config().is_ok_and(|config| config.train.keeps_tokens_of.as_deref() == Some(tokens));
        if run.is_model() || keeps {
            return Ok(None);
        }
        let folder = run.folder();
        for (step, weights) in self.candidates(folder, made_by)? {
            match made(folder, step, weights, tokens) {
                Ok(false) => {}
                Ok(true) => return Ok(Some((step, weights))),
                Err(error) => tell.say(&format!("passed over {}: {error:#}", Which::Step(step))),
            }
        }
        Ok(None)
    }

    /// The weights that made tokens, whatever the user says; see [`WeightsChoice::maker`]. `None`
    /// also if they cannot be found.
    #[must_use]
    pub fn any_maker(
        path: &Path,
        tokenizer: &StatedTokenizer,
        made_by: Option<&MadeBy>,
    ) -> Option<(u64, Weights)> {
        let open = Self { checkpoint: None, weights: None, precision: Precision::Fp32, positions: None };
        open.maker(path, tokenizer, made_by, Tell::to(&|_| ())).ok()?
    }

    /// The weights to try, in this order.
    fn candidates(&self, folder: &RunFolder, made_by: Option<&MadeBy>) -> Result<Vec<(u64, Weights)>> {
        let steps = match self.checkpoint {
            Some(which) => vec![folder.select(which)?],
            None => folder.checkpoints()?.into_iter().rev().collect(),
        };
        let kinds = self.weights.map_or_else(|| vec![Weights::Raw, Weights::Ema], |weights| vec![weights]);
        let each = kinds.iter().flat_map(|&weights| steps.iter().map(move |&step| (step, weights)));
        let mut all: Vec<(u64, Weights)> = each.collect();
        if let Some(made_by) = made_by {
            let stated = (made_by.step, chosen(made_by.weights));
            all.sort_by_key(|&candidate| candidate != stated);
        }
        Ok(all)
    }
}

/// Whether these weights of a checkpoint made the tokens of a tokenizer with this hash.
fn made(folder: &RunFolder, step: u64, weights: Weights, tokens: &str) -> Result<bool> {
    let (raw, has_average) = folder.stated_weights(step)?;
    match weights {
        Weights::Raw => Ok(raw.as_deref() == Some(tokens)),
        Weights::Ema if has_average => Ok(blake3_of(&folder.load_model(step, true)?.weights)? == tokens),
        Weights::Ema => Ok(false),
    }
}

/// Weights as a sidecar names them.
pub(super) fn stated(weights: Weights) -> StatedWeights {
    match weights {
        Weights::Raw => StatedWeights::Raw,
        Weights::Ema => StatedWeights::Ema,
    }
}

/// Positions as a sidecar names them.
pub(super) fn stated_positions(extension: Extension) -> StatedPositions {
    match extension {
        Extension::None => StatedPositions::None,
        Extension::Interpolate => StatedPositions::Interpolate,
        Extension::Ntk => StatedPositions::Ntk,
    }
}

fn extension(stated: StatedPositions) -> Extension {
    match stated {
        StatedPositions::None => Extension::None,
        StatedPositions::Interpolate => Extension::Interpolate,
        StatedPositions::Ntk => Extension::Ntk,
    }
}

fn chosen(weights: StatedWeights) -> Weights {
    match weights {
        StatedWeights::Raw => Weights::Raw,
        StatedWeights::Ema => Weights::Ema,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use serde_json::json;
    use tch::Tensor;

    use super::*;
    use crate::checkpoint::{RunWriter, Snapshot};
    use pixtok_tokens::Arrangement;
    use pixtok_torch::tensors::Tensors;

    fn tensors(value: f32) -> Tensors {
        [("weight".to_owned(), Tensor::from_slice(&[value, 0.5, 1.5]))].into()
    }

    fn stating(weights: &Tensors) -> StatedTokenizer {
        StatedTokenizer {
            kind: "fsq".into(),
            weights_blake3: blake3_of(weights).unwrap(),
            keeps_tokens_of: None,
            codebooks: 1,
            codebook_size: 40,
            digits: false,
            levels: None,
            digit_order: None,
            numbers: 1,
            arrangement: Arrangement::default(),
            quantizer: json!({}),
        }
    }

    #[test]
    fn the_weights_that_made_tokens_are_found_by_their_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = RunWriter::create(&path).unwrap();
        for (step, raw, ema) in [(10, 1.0, Some(2.0)), (20, 3.0, None), (30, 5.0, Some(6.0))] {
            let snapshot = Snapshot {
                model: tensors(raw),
                ema: ema.map(tensors),
                companions: None,
                optimizer: Tensors::new(),
                state: json!({}),
            };
            run.save(step, &snapshot).unwrap();
        }
        fs::write(path.join("config.toml"), "").unwrap();
        let said = Mutex::new(vec![]);
        let sink = |text: &str| said.lock().unwrap().push(text.to_owned());
        let choice = |checkpoint, weights| {
            let precision = Precision::Fp32;
            WeightsChoice { checkpoint, weights, precision, positions: None }
        };
        let open = choice(None, None);
        let find = |choice: WeightsChoice, value: f32, made_by: Option<(u64, StatedWeights)>| {
            let made_by = made_by.map(|(step, weights)| MadeBy { run: "else".into(), step, weights });
            let tokenizer = stating(&tensors(value));
            let maker = choice.maker(&path, &tokenizer, made_by.as_ref(), Tell::to(&sink)).unwrap();
            let found = choice.or_of(maker);
            (found.checkpoint, found.weights)
        };
        let (raw, ema) = (Weights::Raw, Weights::Ema);
        let stated = |step| Some((step, StatedWeights::Ema));
        for (value, step, weights) in
            [(1.0, 10, raw), (2.0, 10, ema), (3.0, 20, raw), (5.0, 30, raw), (6.0, 30, ema)]
        {
            for made_by in [None, stated(10), stated(20), stated(40)] {
                assert_eq!(find(open, value, made_by), (Which::Step(step), weights), "{value}");
            }
        }
        for (value, maker) in [(1.0, Some((10, raw))), (2.0, Some((10, ema))), (9.0, None)] {
            assert_eq!(WeightsChoice::any_maker(&path, &stating(&tensors(value)), None), maker);
        }
        assert!(said.lock().unwrap().is_empty());
        // What the user says holds, and nothing that did not make them is taken for the maker.
        assert_eq!(find(open, 9.0, None), (Which::Last, raw));
        assert_eq!(find(choice(Some(Which::Last), None), 1.0, None), (Which::Last, raw));
        assert_eq!(find(choice(Some(Which::Last), None), 6.0, None), (Which::Step(30), ema));
        assert_eq!(find(choice(None, Some(ema)), 2.0, None), (Which::Step(10), ema));
        assert_eq!(find(choice(None, Some(ema)), 1.0, None), (Which::Last, ema));
        assert_eq!(find(choice(Some(Which::Last), Some(raw)), 1.0, None), (Which::Last, raw));

        // The stated one is tried first, so a damaged one elsewhere is no matter.
        fs::write(path.join("step-000030/ema.safetensors"), "damaged").unwrap();
        assert_eq!(find(open, 2.0, stated(10)), (Which::Step(10), ema));
        assert!(said.lock().unwrap().is_empty());
        assert_eq!(find(open, 2.0, None), (Which::Step(10), ema));
        assert!(said.lock().unwrap()[0].starts_with("passed over step-000030: "), "{said:?}");
    }

    #[test]
    fn positions_are_those_of_the_set_unless_the_user_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, model: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(&path).unwrap();
            let text = format!("[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]\n[model]\n{model}\n");
            fs::write(path.join("config.toml"), text).unwrap();
            path
        };
        let turned = run("turned", "kind = \"vit\"");
        let learned = run("learned", "kind = \"vit\"\npositions = \"learned\"");
        let others = [run("cnn", "kind = \"cnn\""), folder.path().join("adapter.toml")];
        let open =
            WeightsChoice { checkpoint: None, weights: None, precision: Precision::Fp32, positions: None };
        let given = WeightsChoice { positions: Some(Extension::None), ..open };
        for extension in [Extension::None, Extension::Interpolate, Extension::Ntk] {
            let stated = Some(stated_positions(extension));
            let taken = |choice: WeightsChoice, path: &Path| choice.with_positions_of(path, stated).positions;
            assert_eq!(taken(open, &turned), Some(extension));
            assert_eq!(taken(given, &turned), Some(Extension::None));
            assert_eq!(taken(open, &learned), Some(extension).filter(|own| *own != Extension::Ntk));
            for other in &others {
                assert_eq!(taken(open, other), None, "{}", other.display());
                assert_eq!(taken(given, other), Some(Extension::None), "it is refused when it is opened");
            }
        }
        assert_eq!(open.with_positions_of(&turned, None).or_of(None).positions, None);
    }
}
