//! Reconstructions that were made elsewhere, beside their originals.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use tch::{Device, Tensor};

use super::EvaluateError;
use super::passes::Passed;
use crate::data::{BadSample, Dataset, Split};
use crate::picture::{DecodeOptions, Picture, read};

/// Pairs that are decoded at a time.
const CHUNK: usize = 32;

/// Two folders whose images belong together by name, at their own sizes.
#[derive(Debug)]
pub struct Pairs {
    originals: Arc<Dataset>,
    /// One for each original.
    reconstructions: Vec<PathBuf>,
    unmatched: usize,
    options: DecodeOptions,
    device: Device,
    next: usize,
    ready: VecDeque<Passed>,
}

impl Pairs {
    /// Finds in a folder the reconstruction of every image in `originals`: under the same relative name, with `.png` after it, or
    /// with another ending. Reads no file.
    ///
    /// # Errors
    /// When a folder cannot be used, or an original has no reconstruction or several.
    pub fn open(
        originals: &Arc<Dataset>,
        reconstructions: &Path,
        options: DecodeOptions,
        device: Device,
    ) -> Result<Self, EvaluateError> {
        let recons = Dataset::open(reconstructions, Split::All)?;
        let names: HashMap<String, usize> =
            (0..recons.len()).map(|i| (recons.name(i).into_owned(), i)).collect();
        let mut by_stem: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        for (name, &i) in &names {
            by_stem.entry(Path::new(name).with_extension("")).or_default().push(i);
        }
        let find = |i: usize| {
            let name = originals.name(i);
            if let Some(&found) = names.get(&*name).or_else(|| names.get(&format!("{name}.png"))) {
                return Ok(recons.path(found));
            }
            let folder = reconstructions.display();
            match by_stem.get(&Path::new(&*name).with_extension("")).map(Vec::as_slice) {
                Some(&[found]) => Ok(recons.path(found)),
                Some(several) => Err(EvaluateError::Pairs(format!(
                    "{name} has {} reconstructions in {folder}; keep one",
                    several.len()
                ))),
                None => Err(EvaluateError::Pairs(format!(
                    "{name} has no reconstruction in {folder}; put it there under the same name, with any image ending"
                ))),
            }
        };
        let reconstructions: Vec<PathBuf> = (0..originals.len()).map(find).collect::<Result<_, _>>()?;
        let unmatched = recons.len().saturating_sub(originals.len());
        let originals = Arc::clone(originals);
        Ok(Self { originals, reconstructions, unmatched, options, device, next: 0, ready: VecDeque::new() })
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reconstructions.len()
    }

    /// Whether there are none; never so after [`Pairs::open`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reconstructions.is_empty()
    }

    /// Reconstructions whose originals are not there.
    #[must_use]
    pub fn unmatched(&self) -> usize {
        self.unmatched
    }

    /// Decodes the next pairs, in batches of one size.
    fn fill(&mut self) -> Result<(), EvaluateError> {
        let chunk = self.next..(self.next + CHUNK).min(self.len());
        self.next = chunk.end;
        let (originals, recons, options) = (&self.originals, &self.reconstructions, &self.options);
        let decode =
            |i: usize| (originals.name(i).into_owned(), pair(&originals.path(i), &recons[i], options));
        let decoded: Vec<_> = chunk.into_par_iter().map(decode).collect();
        let mut bad = vec![];
        let mut batch: Vec<(String, Picture, Picture)> = vec![];
        for (name, pair) in decoded {
            let (original, recon) = match pair {
                Ok(pair) => pair,
                Err(reason) => {
                    bad.push(BadSample { name, reason });
                    continue;
                }
            };
            let size = |picture: &Picture| (picture.width, picture.height);
            if size(&original) != size(&recon) {
                return Err(EvaluateError::Pairs(format!(
                    "{name} is {}×{} pixels and its reconstruction {}×{}; give the originals as they were \
                     reconstructed, cropped and resized alike",
                    original.width, original.height, recon.width, recon.height
                )));
            }
            if batch.first().is_some_and(|(_, first, _)| size(first) != size(&original)) {
                self.ready.push_back(self.passed(std::mem::take(&mut batch), vec![])?);
            }
            batch.push((name, original, recon));
        }
        self.ready.push_back(self.passed(batch, bad)?);
        Ok(())
    }

    fn passed(
        &self,
        batch: Vec<(String, Picture, Picture)>,
        bad: Vec<BadSample>,
    ) -> Result<Passed, EvaluateError> {
        let (mut names, mut originals, mut recons) = (vec![], vec![], vec![]);
        for (name, original, recon) in batch {
            names.push(name);
            originals.push(original.to_tensor()?);
            recons.push(recon.to_tensor()?);
        }
        let images = if names.is_empty() {
            None
        } else {
            let stacked = |pictures: &[Tensor]| Tensor::stack(pictures, 0).to_device(self.device);
            Some((stacked(&originals), stacked(&recons)))
        };
        Ok(Passed { names, images, tokens: None, bad })
    }
}

/// Both pictures, or why there is no pair.
fn pair(original: &Path, recon: &Path, options: &DecodeOptions) -> Result<(Picture, Picture), String> {
    let original = read(original, options).map_err(|error| error.to_string())?;
    let recon = read(recon, options).map_err(|error| format!("its reconstruction: {error}"))?;
    Ok((original, recon))
}

impl Iterator for Pairs {
    type Item = Result<Passed, EvaluateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && self.next < self.len()
            && let Err(error) = self.fill()
        {
            self.next = self.len();
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(path: PathBuf, width: usize, height: usize) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, Picture { width, height, rgb: vec![9; 3 * width * height] }.to_png().unwrap())
            .unwrap();
    }

    #[test]
    fn pairs_are_found_by_name_and_batched_by_size() {
        let folder = tempfile::tempdir().unwrap();
        let (originals, recons) = (folder.path().join("originals"), folder.path().join("recons"));
        for (name, width) in [("a.png", 7), ("b.png", 7), ("deep/c.png", 9)] {
            write(originals.join(name), width, 5);
        }
        write(recons.join("a.png"), 7, 5);
        write(recons.join("b.png.png"), 7, 5);
        write(recons.join("deep/c.bmp"), 9, 5);
        write(recons.join("stray.png"), 9, 5);
        let open = || {
            Pairs::open(
                &Arc::new(Dataset::open(&originals, Split::All).unwrap()),
                &recons,
                DecodeOptions::default(),
                Device::Cpu,
            )
        };
        let pairs = open().unwrap();
        assert_eq!((pairs.len(), pairs.unmatched()), (3, 1));
        let batches: Vec<Passed> = pairs.map(Result::unwrap).collect();
        let names: Vec<_> = batches.iter().map(|batch| batch.names.join(" ")).collect();
        assert_eq!(names, ["a.png b.png", "deep/c.png"]);
        assert_eq!(batches[1].images.as_ref().unwrap().1.size(), [1, 3, 5, 9]);

        write(recons.join("a.png"), 8, 5);
        let error = open().unwrap().find_map(Result::err).unwrap().to_string();
        assert!(error.contains("a.png is 7×5 pixels and its reconstruction 8×5"), "{error}");
        fs::remove_file(recons.join("a.png")).unwrap();
        assert!(open().unwrap_err().to_string().contains("a.png has no reconstruction"));
    }
}
