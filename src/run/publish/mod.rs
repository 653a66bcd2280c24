//! Publishes a tokenizer as a folder that others can use, with or without pixtok.

mod card;
mod description;
mod validation;

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tch::{CModule, Device, Kind, Tensor};

use super::{CONFIG, Compute, DESCRIPTION, MODEL, ModelChoice, Run, Tell, Trained};
use crate::checkpoint::{Error, SaveCause, create_folder};
use crate::codec::trace::{self, Agreement};
use crate::config::{CHANGES_FILE, RunChange};
use crate::model::{ImageSize, TokenShape, Tokenizer, images_from_bytes};
use pixtok_base::Misuse;
use pixtok_base::seed::Seed;
use pixtok_torch::tensors;

/// The TorchScript module from images to indices.
pub const ENCODER: &str = "encoder.pt";
/// The TorchScript module from indices to images.
pub const DECODER: &str = "decoder.pt";

/// The largest allowed difference between the images of the traced decoder and the tokenizer's, as
/// a share of the largest magnitude.
const IMAGE_TOLERANCE: f64 = 1e-4;

/// A tokenizer that was published.
#[derive(Debug)]
pub struct Published {
    /// The weights, in words.
    pub weights: String,
    /// The name and the size in bytes of each file, sorted by name.
    pub files: Vec<(String, u64)>,
    /// How closely the traced modules agree with the tokenizer.
    pub agreement: Agreement,
    /// The only size of images that the modules take, if it is only one.
    pub only_size: Option<ImageSize>,
    /// Whether the tokenizer, as pixtok opens it, takes other sizes than the modules.
    pub modules_alone: bool,
}

impl Run {
    /// Writes the whole folder or nothing. The modules are traced on the CPU and compared with the
    /// tokenizer on the device of `compute`.
    ///
    /// # Errors
    /// When `out` is not free, the tokenizer cannot be opened, or its traced modules give different
    /// results.
    pub fn publish(
        &self,
        choice: ModelChoice,
        compute: &Compute,
        out: &Path,
        tell: Tell,
    ) -> Result<Published> {
        check_free(out)?;
        choice.require_fp32("an exported tokenizer is float32")?;
        let device = compute.start(tell)?;
        // A trace keeps the device of its weights; a trace from the CPU can be moved to any device.
        let trained = self.open(choice, Device::Cpu, tell)?;
        trained.better.iter().for_each(|text| tell.note(text));
        publish(&trained, self.path(), out, |folder| {
            if device == Device::Cpu {
                check(folder, &trained, device)
            } else {
                check(folder, &self.open(choice, device, tell)?, device)
            }
        })
    }
}

/// Refuses a folder with something in it.
fn check_free(out: &Path) -> Result<()> {
    if !out.exists() || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    Err(Misuse(format!("{} is there and not empty; give a new folder", out.display())).into())
}

/// Writes the tokenizer of `run` into the new folder `out`, if `check` agrees with what was
/// written.
fn publish(
    trained: &Trained,
    run: &Path,
    out: &Path,
    check: impl FnOnce(&Path) -> Result<Agreement>,
) -> Result<Published> {
    let mut agreement = Agreement::default();
    create_folder(out, |folder| -> Result<()> {
        write_files(folder, trained, run, out)?;
        agreement = check(folder)?;
        Ok(())
    })?;
    let only_size = modules_size(trained);
    let modules_alone = only_size != trained.tokenizer.only_size();
    Ok(Published { weights: trained.weights(), files: files(out)?, agreement, only_size, modules_alone })
}

/// Publishes a tokenizer that is of no run.
#[cfg(test)]
pub(crate) fn publish_toy(trained: &Trained, out: &Path) -> Result<Published> {
    check_free(out)?;
    publish(trained, Path::new("no run"), out, |folder| check(folder, trained, Device::Cpu))
}

/// Writes all files into `folder`, which becomes `out`.
fn write_files(folder: &Path, trained: &Trained, run: &Path, out: &Path) -> Result<()> {
    let failed = |name: &str, cause: SaveCause| Error::SaveFailed { path: out.join(name), cause };
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).map_err(|error| failed(name, error.into()))
    };
    tensors::write(&folder.join(MODEL), &trained.tensors()).map_err(|error| failed(MODEL, error.into()))?;
    let size = trained.config.data.image_size;
    let modules = [
        (ENCODER, trace::encoder(&trained.tokenizer, size)),
        (DECODER, trace::decoder(&trained.tokenizer, size)),
    ];
    for (name, module) in modules {
        let module = module.with_context(|| format!("cannot trace {name}"))?;
        module.save(folder.join(name)).map_err(|error| failed(name, io::Error::other(error).into()))?;
    }
    let validation = validation::of(run, trained.step, trained.choice.weights)?;
    let described = description::json(trained)?;
    write(DESCRIPTION, &(serde_json::to_string_pretty(&described)? + "\n"))?;
    write(CONFIG, &trained.config.to_toml()?)?;
    if !trained.changes.is_empty() {
        write(CHANGES_FILE, &RunChange::lines(&trained.changes)?)?;
    }
    Ok(write("README.md", &card::markdown(trained, out, &validation)?)?)
}

/// Loads the pair from the folder and compares it with the tokenizer on grey and random images of
/// two sizes.
fn check(folder: &Path, trained: &Trained, device: Device) -> Result<Agreement> {
    let load = |name: &str| {
        CModule::load_on_device(folder.join(name), device).with_context(|| format!("cannot load {name}"))
    };
    let (encoder, decoder) = (load(ENCODER)?, load(DECODER)?);
    let mut all = Agreement::default();
    let mut sizes = vec![trained.config.data.image_size];
    sizes.extend(other_size(trained));
    for size in sizes {
        let found =
            trace::compare(&trained.tokenizer, (&encoder, &decoder), &samples(&trained.tokenizer, size))?;
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

/// A second size of images, if the modules take other sizes than that of the training. A sequence
/// doesn't state the size of its image, so its decoder is traced for one.
fn other_size(trained: &Trained) -> Option<ImageSize> {
    let multiple = trained.tokenizer.side_multiple() as u32;
    let other = ImageSize { height: 2 * multiple, width: 3 * multiple };
    let of_grid = trained.tokenizer.shape(other).is_ok_and(|shape| matches!(shape, TokenShape::Grid { .. }));
    (of_grid && trained.tokenizer.only_size().is_none()).then_some(other)
}

/// The only size of images that the modules take; `None` if they take others too.
fn modules_size(trained: &Trained) -> Option<ImageSize> {
    other_size(trained).is_none().then_some(trained.config.data.image_size)
}

/// A grey and a random image, `[2, 3, H, W]` in [−1, 1].
fn samples(tokenizer: &Tokenizer, image: ImageSize) -> Tensor {
    let (height, width) = (i64::from(image.height), i64::from(image.width));
    pixtok_torch::reseed(Seed(0).derive("export samples", &[]));
    let options = (Kind::Uint8, tokenizer.device());
    let grey = Tensor::full([1, 3, height, width], 128, options);
    let random = Tensor::randint(256, [1, 3, height, width], options);
    images_from_bytes(&Tensor::cat(&[grey, random], 0))
}

/// The name and the size of each file, sorted by name.
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Config;
    use crate::model::TokenShape;
    use crate::tests::sequence::{FSQ, RESIDUAL, SIZE, toy, toy_of};
    use crate::variables::Variables;

    /// Publishes the toy; its `config.json` and its card. Its config names another network, of
    /// which `config.json` then has the numbers.
    fn published(trained: &Trained) -> (Value, String) {
        published_for(trained, SIZE, false)
    }

    /// The same of any tokenizer, whose modules take images of one size. `modules_alone`: pixtok
    /// takes others too.
    fn published_for(trained: &Trained, size: ImageSize, modules_alone: bool) -> (Value, String) {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("model");
        let made = publish_toy(trained, &out).unwrap();
        assert_eq!((made.only_size, made.modules_alone), (Some(size), modules_alone));
        assert_eq!(made.agreement.positions, 2 * trained.shape().unwrap().positions() as i64);
        let written: Vec<&str> = made.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(written, ["README.md", DESCRIPTION, CONFIG, DECODER, ENCODER, MODEL]);
        let refused = publish_toy(trained, &out).unwrap_err().to_string();
        assert!(refused.contains("is there and not empty"), "{refused}");
        let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        (serde_json::from_str(&read(DESCRIPTION)).unwrap(), read("README.md"))
    }

    #[test]
    fn a_folder_of_a_sequence_says_so() {
        for (quantizer, axes) in [(FSQ, "[B, 5]"), (RESIDUAL, "[B, 5, 2]")] {
            let (described, card) = published(&toy(quantizer));
            assert_eq!(described["image_size"], json!([16, 24]));
            assert!(described["downsample"].is_null() && described["positions"].is_null(), "{described}");
            assert_eq!(described["any_size"], json!(false));
            for part in [
                "a small sequence of integers",
                "| tokens | 5 for an image, ",
                "| images | trained at 16×24; this size alone |",
                "# height and width: 16 and 24\n",
                "TorchScript, float32, for any batch of images of this size |",
                "pixtok_reader.model import",
                axes,
            ] {
                assert!(card.contains(part), "{part}: {card}");
            }
        }
    }

    /// Rotations are for any size, and the module of the decoder makes images of one.
    #[test]
    fn modules_of_a_sequence_are_of_one_size_even_where_the_tokenizer_is_not() {
        let text = format!(
            "[data]\ntrain = \"none\"\nimage_size = [16, 24]\n[model]\nkind = \"one-d\"\npositions = \"rope\"\n\
             patch = 4\nwidth = 8\ndepth = 1\nheads = 2\nlatent_tokens = 5\n[quantizer]\n{FSQ}\n"
        );
        let config: Config = toml::from_str(&text).unwrap();
        let (config, store) = (config.resolved(), Variables::new(Device::Cpu));
        pixtok_torch::reseed(Seed(1));
        let tokenizer =
            Tokenizer::new(&store, config.model.settings(), &config.quantizer, &config.data).unwrap();
        assert_eq!(tokenizer.only_size(), None);
        let (described, card) = published_for(&Trained::from_parts(config, tokenizer, store), SIZE, true);
        assert_eq!((&described["any_size"], &described["positions"]), (&json!(true), &json!("none")));
        for part in [
            "any height and width that 4 divides, and `encoder.pt` and `decoder.pt` this size alone |",
            "| positions at larger sizes | `none`;",
            "# height and width: 16 and 24\n",
            "TorchScript, float32, for any batch of images of this size |",
        ] {
            assert!(card.contains(part), "{part}: {card}");
        }
    }

    #[test]
    fn pieces_of_an_image_need_not_be_square() {
        for (h, w, downsample, words, axes) in [
            (4, 3, json!([4, 8]), "one for each 4×8 pixels", "[B, H/4, W/8]"),
            (2, 6, json!([8, 4]), "one for each 8×4 pixels", "[B, H/8, W/4]"),
            (4, 6, json!(4), "one for each 4×4 pixels", "[B, H/4, W/4]"),
        ] {
            let (described, card) = published(&toy_of(FSQ, TokenShape::Grid { h, w }));
            assert_eq!(described["downsample"], downsample);
            for part in [words, axes, "a small grid of integers", "pixtok_reader.model import"] {
                assert!(card.contains(part), "{part}: {card}");
            }
        }
    }
}
