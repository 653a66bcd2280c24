//! Reconstructions that were made elsewhere, beside their originals.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use tch::{Device, Tensor};

use super::EvaluateError;
use super::passes::Passed;
use crate::data::{BadSample, Dataset, Loader, Split};
use crate::picture::{DecodeOptions, Picture, PictureError, read};

/// Pairs that are decoded at a time.
const CHUNK: usize = 32;

/// A folder of reconstructions, to be found by the names of their originals.
#[derive(Debug)]
pub struct Reconstructions {
    folder: PathBuf,
    by_name: HashMap<String, PathBuf>,
    /// Those that differ in their ending alone are together.
    by_stem: HashMap<PathBuf, Vec<PathBuf>>,
}

impl Reconstructions {
    /// Lists a folder; reads no file.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(folder: &Path) -> Result<Self, EvaluateError> {
        let files = Dataset::open(folder, Split::All)?;
        let (mut by_name, mut by_stem) = (HashMap::new(), HashMap::new());
        for i in 0..files.len() {
            let name = files.name(i).into_owned();
            by_stem.entry(Path::new(&name).with_extension("")).or_insert_with(Vec::new).push(files.path(i));
            by_name.insert(name, files.path(i));
        }
        Ok(Self { folder: folder.to_owned(), by_name, by_stem })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none; never so after [`Reconstructions::open`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// That of the original called `name`: under the same relative name, with `.png` after it, or with another ending.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, name: &str) -> Result<&Path, EvaluateError> {
        if let Some(found) = self.by_name.get(name).or_else(|| self.by_name.get(&format!("{name}.png"))) {
            return Ok(found);
        }
        let folder = self.folder.display();
        match self.by_stem.get(&Path::new(name).with_extension("")).map(Vec::as_slice) {
            Some([found]) => Ok(found),
            Some(several) => Err(EvaluateError::Pairs(format!(
                "{name} has {} reconstructions in {folder}; keep one",
                several.len()
            ))),
            None => Err(EvaluateError::Pairs(format!(
                "{name} has no reconstruction in {folder}; put it there under the same name, with any image ending"
            ))),
        }
    }
}

/// Originals with their reconstructions.
#[derive(Debug)]
pub struct Pairs<'a> {
    originals: Originals,
    reconstructions: &'a Reconstructions,
    options: DecodeOptions,
    device: Device,
    ready: VecDeque<Passed>,
}

/// Where the originals come from.
#[derive(Debug)]
enum Originals {
    /// From their files, at their own sizes.
    Whole {
        dataset: Arc<Dataset>,
        /// The next one's place.
        next: usize,
    },
    /// Resized and cut as for a tokenizer.
    Prepared(Loader),
}

impl<'a> Pairs<'a> {
    /// Images at their own sizes.
    ///
    /// # Errors
    /// When one has no reconstruction, or several.
    pub fn whole(
        dataset: &Arc<Dataset>,
        reconstructions: &'a Reconstructions,
        options: DecodeOptions,
        device: Device,
    ) -> Result<Self, EvaluateError> {
        (0..dataset.len()).try_for_each(|i| reconstructions.find(&dataset.name(i)).map(|_| ()))?;
        let originals = Originals::Whole { dataset: Arc::clone(dataset), next: 0 };
        Ok(Self { originals, reconstructions, options, device, ready: VecDeque::new() })
    }

    /// Images as a loader prepares them; the reconstructions are of that size.
    #[must_use]
    pub fn prepared(
        loader: Loader,
        reconstructions: &'a Reconstructions,
        options: DecodeOptions,
        device: Device,
    ) -> Self {
        let originals = Originals::Prepared(loader);
        Self { originals, reconstructions, options, device, ready: VecDeque::new() }
    }

    /// Makes the next batches ready, if there are any.
    fn fill(&mut self) -> Result<(), EvaluateError> {
        let (originals, bad) = match &mut self.originals {
            Originals::Whole { dataset, next } => {
                let chunk = *next..(*next + CHUNK).min(dataset.len());
                *next = chunk.end;
                if chunk.is_empty() {
                    return Ok(());
                }
                let (dataset, options) = (&*dataset, &self.options);
                let decoded: Vec<_> = chunk
                    .into_par_iter()
                    .map(|i| (dataset.name(i).into_owned(), read(&dataset.path(i), options)))
                    .collect();
                apart(decoded)
            }
            Originals::Prepared(loader) => {
                let Some(batch) = loader.next() else { return Ok(()) };
                let batch = batch?;
                let pictures =
                    (0..batch.names.len()).map(|i| Picture::from_tensor(&batch.images.get(i as i64)));
                let pictures: Vec<Picture> = pictures.collect::<Result<_, _>>()?;
                (batch.names.into_iter().zip(pictures).collect(), batch.bad)
            }
        };
        self.pair(originals, bad)
    }

    /// Reads the reconstructions of these originals, and puts batches of one size on the queue.
    fn pair(
        &mut self,
        originals: Vec<(String, Picture)>,
        mut bad: Vec<BadSample>,
    ) -> Result<(), EvaluateError> {
        let (recons, options) = (self.reconstructions, &self.options);
        let paths: Vec<&Path> =
            originals.iter().map(|(name, _)| recons.find(name)).collect::<Result<_, _>>()?;
        let recons: Vec<_> = paths.par_iter().map(|path| read(path, options)).collect();
        let mut batch: Vec<(String, Picture, Picture)> = vec![];
        for ((name, original), recon) in originals.into_iter().zip(recons) {
            let recon = match recon {
                Ok(recon) => recon,
                Err(error) => {
                    bad.push(BadSample { name, reason: format!("its reconstruction: {error}") });
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
                self.ready.push_back(passed(std::mem::take(&mut batch), vec![], self.device)?);
            }
            batch.push((name, original, recon));
        }
        self.ready.push_back(passed(batch, bad, self.device)?);
        Ok(())
    }
}

/// What was decoded, and what was not.
fn apart(decoded: Vec<(String, Result<Picture, PictureError>)>) -> (Vec<(String, Picture)>, Vec<BadSample>) {
    let (mut good, mut bad) = (vec![], vec![]);
    for (name, picture) in decoded {
        match picture {
            Ok(picture) => good.push((name, picture)),
            Err(error) => bad.push(BadSample { name, reason: error.to_string() }),
        }
    }
    (good, bad)
}

fn passed(
    batch: Vec<(String, Picture, Picture)>,
    bad: Vec<BadSample>,
    device: Device,
) -> Result<Passed, EvaluateError> {
    let (mut names, mut originals, mut recons) = (vec![], vec![], vec![]);
    for (name, original, recon) in batch {
        names.push(name);
        originals.push(original.to_tensor()?);
        recons.push(recon.to_tensor()?);
    }
    let stacked = |pictures: &[Tensor]| Tensor::stack(pictures, 0).to_device(device);
    let images = (!names.is_empty()).then(|| (stacked(&originals), stacked(&recons)));
    Ok(Passed { names, images, tokens: None, bad })
}

impl Iterator for Pairs<'_> {
    type Item = Result<Passed, EvaluateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && let Err(error) = self.fill()
        {
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
        let dataset = || Arc::new(Dataset::open(&originals, Split::All).unwrap());
        let found = || Reconstructions::open(&recons).unwrap();
        let (all, options, device) = (found(), DecodeOptions::default, Device::Cpu);
        let pairs = Pairs::whole(&dataset(), &all, options(), device).unwrap();
        assert_eq!(pairs.reconstructions.len(), 4);
        let batches: Vec<Passed> = pairs.map(Result::unwrap).collect();
        let names: Vec<_> = batches.iter().map(|batch| batch.names.join(" ")).collect();
        assert_eq!(names, ["a.png b.png", "deep/c.png"]);
        assert_eq!(batches[1].images.as_ref().unwrap().1.size(), [1, 3, 5, 9]);

        write(recons.join("a.png"), 8, 5);
        let error = Pairs::whole(&dataset(), &all, options(), device)
            .unwrap()
            .find_map(Result::err)
            .unwrap()
            .to_string();
        assert!(error.contains("a.png is 7×5 pixels and its reconstruction 8×5"), "{error}");
        fs::remove_file(recons.join("a.png")).unwrap();
        let error = Pairs::whole(&dataset(), &found(), options(), device).unwrap_err().to_string();
        assert!(error.contains("a.png has no reconstruction"));
    }
}
