//! `pixtok export`: a tokenizer as a folder that others can use, with pixtok or without it.

mod card;
mod description;
mod validation;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tch::{CModule, Device, Kind, Tensor};

use super::open::{self, CONFIG, DESCRIPTION, MODEL, Opened};
use super::write::size_in_words;
use super::{Misuse, print};
use crate::checkpoint::{Error, SaveCause, create_folder};
use crate::cli::ExportArgs;
use crate::codec::trace::{self, Agreement};
use crate::config::{CHANGES_FILE, RunChange};
use crate::model::{Tokenizer, images_from_bytes};
use pixtok_base::seed::Seed;
use pixtok_torch::tensors;

const ENCODER: &str = "encoder.pt";
const DECODER: &str = "decoder.pt";

/// How far the images of a traced decoder may be from the tokenizer's own, as a part of the largest magnitude.
const IMAGE_TOLERANCE: f64 = 1e-4;

/// Writes the folder, whole or not at all.
pub(super) fn run(args: &ExportArgs) -> Result<()> {
    let out = &args.out;
    let is_free = !out.exists() || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if !is_free {
        return Err(Misuse(format!("{} is there and not empty; give a new folder", out.display())).into());
    }
    open::require_fp32(&args.model, "an exported tokenizer is float32")?;
    let device = open::compute(&args.model.compute)?;
    // A trace keeps the device of its weights; from the CPU it goes anywhere.
    let opened = open::open(&args.tokenizer, &args.model, Device::Cpu)?;
    let mut found = Agreement::default();
    create_folder(out, |folder| -> Result<()> {
        write_files(folder, &opened, args)?;
        found = if device == Device::Cpu {
            check(folder, &opened, device)?
        } else {
            check(folder, &open::open(&args.tokenizer, &args.model, device)?, device)?
        };
        Ok(())
    })?;
    let mut text = format!(
        "{}, {}, is now {}:\n",
        args.tokenizer.display(),
        opened.weights(args.model.weights),
        out.display()
    );
    for (name, bytes) in files(out)? {
        let _ = writeln!(text, "  {name:<18} {:>10}", size_in_words(bytes));
    }
    let ties = if found.ties > 0 { format!(" but for {} ties", found.ties) } else { String::new() };
    let _ = writeln!(
        text,
        "{ENCODER} and {DECODER} give the tokenizer's own {} tokens{ties} of grey and random images",
        found.positions
    );
    text += "before you publish it: set the license in README.md, and see which folders of images README.md and config.toml name\n";
    print(&text)
}

fn write_files(folder: &Path, opened: &Opened, args: &ExportArgs) -> Result<()> {
    let failed = |name: &str, cause: SaveCause| Error::SaveFailed { path: args.out.join(name), cause };
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).map_err(|error| failed(name, error.into()))
    };
    tensors::write(&folder.join(MODEL), &opened.tensors()).map_err(|error| failed(MODEL, error.into()))?;
    let size = opened.config.image_size();
    let modules = [
        (ENCODER, trace::encoder(&opened.tokenizer, size)),
        (DECODER, trace::decoder(&opened.tokenizer, size)),
    ];
    for (name, module) in modules {
        let module = module.with_context(|| format!("cannot trace {name}"))?;
        module.save(folder.join(name)).map_err(|error| failed(name, io::Error::other(error).into()))?;
    }
    let validation = validation::of(&args.tokenizer, opened.step, args.model.weights)?;
    let described = description::json(opened, args.model.weights)?;
    write(DESCRIPTION, &(serde_json::to_string_pretty(&described)? + "\n"))?;
    write(CONFIG, &opened.config.to_toml()?)?;
    if !opened.changes.is_empty() {
        write(CHANGES_FILE, &RunChange::lines(&opened.changes)?)?;
    }
    Ok(write("README.md", &card::markdown(opened, args, &validation)?)?)
}

/// Loads the pair from the folder and passes grey and random images of two sizes through it and through the tokenizer.
fn check(folder: &Path, opened: &Opened, device: Device) -> Result<Agreement> {
    let load = |name: &str| {
        CModule::load_on_device(folder.join(name), device).with_context(|| format!("cannot load {name}"))
    };
    let (encoder, decoder) = (load(ENCODER)?, load(DECODER)?);
    let factor = opened.tokenizer.downsample();
    let mut all = Agreement::default();
    for size in [opened.config.image_size(), (2 * factor, 3 * factor)] {
        let found =
            trace::compare(&opened.tokenizer, (&encoder, &decoder), &samples(&opened.tokenizer, size))?;
        if !found.image_difference.is_finite() {
            bail!("its reconstructions are not finite; these weights are of no use");
        }
        if found.wrong > 0 || found.image_difference > IMAGE_TOLERANCE {
            bail!(
                "the traced pair does not do what the tokenizer does, so nothing was exported: {} of {} tokens and {:.1e} \
                 of the images' range are different; please report it with the config",
                found.wrong,
                found.positions,
                found.image_difference
            );
        }
        all.positions += found.positions;
        all.ties += found.ties;
    }
    Ok(all)
}

/// A grey and a random image, `[2, 3, H, W]` in [−1, 1].
fn samples(tokenizer: &Tokenizer, (height, width): (i64, i64)) -> Tensor {
    pixtok_torch::reseed(Seed(0).derive("export samples", &[]));
    let options = (Kind::Uint8, tokenizer.device());
    let grey = Tensor::full([1, 3, height, width], 128, options);
    let random = Tensor::randint(256, [1, 3, height, width], options);
    images_from_bytes(&Tensor::cat(&[grey, random], 0))
}

/// Name and size of each file, by name.
fn files(folder: &Path) -> Result<Vec<(String, u64)>> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| {
                let entry = entry?;
                Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()))
            })
            .collect()
    });
    let mut files: Vec<_> = listed.with_context(|| format!("cannot list {}", folder.display()))?;
    files.sort();
    Ok(files)
}
