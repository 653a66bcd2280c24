//! A tokenizer that images can be passed through, ours or another's, with what its tokens must say of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::Device;

use super::subject::{self, Measured};
use super::{Misuse, note, open::Opened};
use crate::cli::ModelArgs;
use crate::codec::{Codec, Own, TorchScript};
use pixtok_images::data;
use crate::evaluate;
use crate::quantizer::digits::MixedRadix;
use pixtok_tokens::{Arrangement, StatedTokenizer};
use pixtok_torch::Precision;

/// Ours, or a TorchScript pair.
pub(super) enum Usable {
    Own(Box<Opened>, Precision),
    /// With the blake3 of its files.
    Foreign(Box<TorchScript>, String),
}

impl Usable {
    /// Opens a run, a model folder or an adapter. A foreign pair is tried first, and may require
    /// `batch_size` images at a time.
    pub fn open(path: &Path, args: &ModelArgs, batch_size: Option<u32>, device: Device) -> Result<Self> {
        match subject::open(path, args, device)? {
            Measured::Own(opened) => Ok(Self::Own(opened, args.precision)),
            Measured::Foreign(mut pair) => {
                let side = i64::from(pair.adapter().image_size);
                let full = batch_size.map_or(evaluate::Config::default().batch_size, |size| size as usize);
                pair.try_on_ramp(1, (side, side), full, device)?;
                pair.notes().iter().for_each(|words| note(words));
                let folder = path.parent().unwrap_or(Path::new(""));
                let mut hasher = blake3::Hasher::new();
                for file in [&pair.adapter().encoder, &pair.adapter().decoder].map(|name| folder.join(name)) {
                    hasher
                        .update(&fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
                }
                Ok(Self::Foreign(pair, hasher.finalize().to_hex().to_string()))
            }
            Measured::Reconstructions(folder) => Err(Misuse(format!(
                "{} holds images and no tokenizer; give a run folder, a model folder or an adapter",
                folder.display()
            ))
            .into()),
        }
    }

    /// Images to indices and back.
    pub fn codec(&self) -> Box<dyn Codec + '_> {
        match self {
            Self::Own(opened, precision) => {
                Box::new(Own { tokenizer: &opened.tokenizer, precision: *precision })
            }
            Self::Foreign(pair, _) => Box::new(&**pair),
        }
    }

    /// Pixels to a position along each axis.
    pub fn downsample(&self) -> u32 {
        match self {
            Self::Own(opened, _) => opened.tokenizer.downsample() as u32,
            Self::Foreign(pair, _) => pair.adapter().downsample as u32,
        }
    }

    /// How its images are prepared.
    pub fn data(&self) -> data::Config {
        match self {
            Self::Own(opened, _) => opened.config.data.clone(),
            Self::Foreign(pair, _) => pair.adapter().data(),
        }
    }

    /// Images at a time, where nothing else is asked for.
    pub fn batch_size(&self) -> usize {
        match self {
            Self::Own(opened, _) => opened.config.eval.batch_size,
            Self::Foreign(..) => evaluate::Config::default().batch_size,
        }
    }

    /// How its indices are made of digits, where they are.
    pub fn radix(&self) -> Option<&MixedRadix> {
        match self {
            Self::Own(opened, _) => opened.tokenizer.quantizer.digits(),
            Self::Foreign(..) => None,
        }
    }

    /// Its weights in a hash.
    pub fn weights_blake3(&self) -> Result<String> {
        match self {
            Self::Own(opened, _) => opened.weights_blake3(),
            Self::Foreign(_, hash) => Ok(hash.clone()),
        }
    }

    /// What a sidecar says of it.
    pub fn stated(&self, digits: bool, numbers: u32, arrangement: Arrangement) -> Result<StatedTokenizer> {
        let vocabulary = self.codec().vocabulary();
        let (kind, quantizer) = match self {
            Self::Own(opened, _) => {
                let config = &opened.config.quantizer;
                let mut settings = serde_json::to_value(config).context("cannot state the quantizer")?;
                if let Value::Object(map) = &mut settings {
                    let constants = config.settings().constants();
                    map.extend(constants.into_iter().map(|(name, value)| (name.to_owned(), json!(value))));
                }
                (config.kind(), settings)
            }
            Self::Foreign(..) => ("torchscript".to_owned(), json!({})),
        };
        let radix = self.radix();
        Ok(StatedTokenizer {
            kind,
            weights_blake3: self.weights_blake3()?,
            keeps_tokens_of: match self {
                Self::Own(opened, _) => opened.config.train.keeps_tokens_of.clone(),
                Self::Foreign(..) => None,
            },
            codebooks: vocabulary.codebooks as u32,
            codebook_size: vocabulary.size as u64,
            digits,
            levels: radix.map(|radix| radix.levels().to_vec()),
            digit_order: radix.map(|radix| radix.order().name().to_owned()),
            numbers,
            arrangement,
            quantizer,
        })
    }
}
