//! `pixtok train --check-data`: reads every image once before the training, and lists those that
//! cannot be used. The images go through the loader of the training and its evaluations, so that
//! what passes here is what passes there.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use tch::Device;

use super::Tell;
use crate::batches::Loader;
use crate::config::Config;
use crate::train::TrainError;
use crate::world::World;
use pixtok_images::data::{BadSample, BadSamples, DataError, Dataset};

/// The most reasons that are counted in the summary.
const MOST_REASONS: usize = 8;

/// What was read.
pub(super) struct Checked {
    /// The number of images and the bad ones: for training, for validation.
    parts: [(usize, Vec<BadSample>); 2],
    limit: f64,
}

/// Reads and decodes all images of both sets. Each that cannot be used is told at once, with its
/// reason.
pub(super) fn read_all(
    config: &Config,
    (train_set, val_set): (&Arc<Dataset>, &Arc<Dataset>),
    tell: Tell,
) -> Result<Checked> {
    let read = |what: &str, set: &Arc<Dataset>| -> Result<(usize, Vec<BadSample>)> {
        Ok((set.len(), bad_images(config, what, set, tell)?))
    };
    let parts =
        [read("reading the training images", train_set)?, read("reading the validation images", val_set)?];
    Ok(Checked { parts, limit: config.data.max_bad_fraction })
}

/// The images of a set that cannot be used.
fn bad_images(config: &Config, what: &str, set: &Arc<Dataset>, tell: Tell) -> Result<Vec<BadSample>> {
    let (batch_size, alone) = (config.eval.batch_size, World::single());
    let loader = Loader::eval(Arc::clone(set), &config.data, batch_size, None, Device::Cpu, &alone)?;
    let work = tell.work(what, Some(set.len() as u64));
    let (mut bad, mut known) = (vec![], BadSamples::new(set.len(), config.data.max_bad_fraction));
    for batch in loader {
        let found = match batch {
            Ok(batch) => {
                work.add((batch.names.len() + batch.bad.len()) as u64);
                batch.bad
            }
            // It lists them all again.
            Err(DataError::NoGoodImages { bad, .. }) => bad,
            Err(error) => return Err(error.into()),
        };
        for sample in found {
            if known.record(&sample) {
                tell.say(&format!("cannot be used: {}: {}", place(set, &sample.name), sample.reason));
                bad.push(sample);
            }
        }
    }
    Ok(bad)
}

/// The path of an image, or its name in the archive that holds it.
fn place(set: &Dataset, name: &str) -> String {
    let path = set.root().join(name);
    if path.exists() || path.is_symlink() {
        return path.display().to_string();
    }
    let root = set.root();
    // The name begins with that of its archive.
    let folder = if root.is_file() { root.parent().unwrap_or(Path::new("")) } else { root };
    folder.join(name).display().to_string()
}

impl Checked {
    /// Whether every image can be used.
    pub fn is_fine(&self) -> bool {
        self.parts.iter().all(|(_, bad)| bad.is_empty())
    }

    /// Tells the counts, and refuses a training on more bad images than the settings allow.
    ///
    /// # Errors
    /// [`TrainError`] when a set has more.
    pub fn before_training(&self, tell: Tell) -> Result<(), TrainError> {
        if self.is_fine() {
            tell.note(&self.words());
        } else {
            tell.say(&self.words());
        }
        self.check()
    }

    fn check(&self) -> Result<(), TrainError> {
        for (total, bad) in &self.parts {
            let mut counted = BadSamples::new(*total, self.limit);
            for sample in bad {
                counted.record(sample);
            }
            counted.check()?;
        }
        Ok(())
    }

    /// The counts, by set and by reason, and what to do.
    pub fn words(&self) -> String {
        let [(train, bad), (val, others)] = &self.parts;
        let (total, count) = (train + val, bad.len() + others.len());
        if count == 0 {
            return format!("checked {total} images: all can be used");
        }
        let mut words = format!(
            "checked {total} images: {count} cannot be used ({} of {train} for training, {} of {val} for validation)",
            bad.len(),
            others.len()
        );
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for sample in bad.iter().chain(others) {
            *reasons.entry(&sample.reason).or_default() += 1;
        }
        let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
        reasons.sort_by_key(|&(_, count)| Reverse(count));
        for (reason, count) in reasons.iter().take(MOST_REASONS) {
            let _ = write!(words, "\n  {count} with: {reason}");
        }
        if reasons.len() > MOST_REASONS {
            let _ = write!(words, "\n  and {} other reasons", reasons.len() - MOST_REASONS);
        }
        let limit = self.limit;
        words += &if self.check().is_ok() {
            format!(
                "\nrepair or remove them; a training leaves them out, as data.max_bad_fraction = {limit} allows"
            )
        } else {
            format!("\nrepair or remove them; a training stops at more than data.max_bad_fraction = {limit}")
        };
        words
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::*;
    use pixtok_images::data::Split;
    use pixtok_images::picture::Picture;

    const CONFIG: &str = "[data]\nimage_size = 16\nmax_bad_fraction = 0.3\n[quantizer]\nkind = \"fsq\"";

    fn config(folder: &Path) -> Config {
        let file = folder.join("config.toml");
        fs::write(&file, CONFIG).unwrap();
        Config::read(&file, &[]).unwrap().0
    }

    #[test]
    fn every_image_is_read_and_what_is_wrong_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("train")).unwrap();
        fs::create_dir(at("val")).unwrap();
        let picture = Picture { width: 7, height: 5, rgb: vec![9; 105] }.to_png().unwrap();
        for name in ["train/a.png", "train/b.png", "train/c.png", "train/d.png", "val/e.png"] {
            fs::write(at(name), &picture).unwrap();
        }
        let open = |name: &str| Arc::new(Dataset::open(&at(name), Split::All).unwrap());
        let said = Mutex::new(vec![]);
        let sink = |text: &str| said.lock().unwrap().push(text.to_owned());
        let read = || {
            let sets = (&open("train"), &open("val"));
            read_all(&config(folder.path()), sets, Tell::to(&sink)).unwrap()
        };
        let fine = read();
        assert!(fine.is_fine() && fine.check().is_ok());
        assert_eq!(fine.words(), "checked 5 images: all can be used");
        assert_eq!(said.lock().unwrap().len(), 0);

        fs::write(at("train/b.png"), &picture[..picture.len() / 2]).unwrap();
        let one = read();
        let path = at("train/b.png").display().to_string();
        assert!(said.lock().unwrap()[0].starts_with(&format!("cannot be used: {path}: ")));
        let words = one.words();
        assert!(
            words.starts_with("checked 5 images: 1 cannot be used (1 of 4 for training, 0 of 1"),
            "{words}"
        );
        assert!(words.contains("\n  1 with: ") && words.contains("a training leaves them out"), "{words}");
        assert!(!one.is_fine() && one.check().is_ok(), "0.25 of the set is allowed");

        // No image is left for validation.
        fs::write(at("val/e.png"), "no picture").unwrap();
        let more = read();
        assert!(more.words().contains("1 of 1 for validation"), "{}", more.words());
        assert!(more.words().contains("a training stops at more than"), "{}", more.words());
        assert!(more.check().unwrap_err().to_string().contains("e.png"));
    }
}
