//! Reconstructions that were made elsewhere, beside their originals.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use tch::{Device, Tensor};

use super::EvaluateError;
use super::passes::Passed;
use crate::data::{BadSample, Dataset, ImageFolder, Loader, Split};
use crate::picture::{DecodeOptions, Decoded, Picture, read};

/// The reconstructions of a set of originals, by the originals' names.
#[derive(Debug)]
pub struct Reconstructions {
    by_original: HashMap<String, PathBuf>,
    unused: usize,
}

impl Reconstructions {
    /// Finds in `folder` the reconstruction of each original: under its relative name, with `.png` after it, or with
    /// another ending. Each is taken once, in this order. Reads no file.
    ///
    /// # Errors
    /// When the folder cannot be used, or an original has no reconstruction or several.
    pub fn find(folder: &Path, originals: &Dataset) -> Result<Self, EvaluateError> {
        let files = ImageFolder::open(folder, Split::All)?;
        let mut left: BTreeMap<String, PathBuf> =
            (0..files.len()).map(|i| (files.name(i).into_owned(), files.path(i))).collect();
        let mut by_original = HashMap::new();
        let exact: [fn(&str) -> String; 2] = [str::to_owned, |name| format!("{name}.png")];
        for other_name in exact {
            for name in (0..originals.len()).map(|i| originals.name(i)) {
                if !by_original.contains_key(&*name)
                    && let Some(path) = left.remove(&other_name(&name))
                {
                    by_original.insert(name.into_owned(), path);
                }
            }
        }
        let mut by_stem: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        for (name, path) in left {
            by_stem.entry(Path::new(&name).with_extension("")).or_default().push(path);
        }
        for name in (0..originals.len()).map(|i| originals.name(i)) {
            if by_original.contains_key(&*name) {
                continue;
            }
            let several = by_stem.remove(&Path::new(&*name).with_extension("")).unwrap_or_default();
            let path = match <[PathBuf; 1]>::try_from(several) {
                Ok([path]) => path,
                Err(several) => return Err(not_one(&name, folder, several.len())),
            };
            by_original.insert(name.into_owned(), path);
        }
        Ok(Self { by_original, unused: by_stem.values().map(Vec::len).sum() })
    }

    /// Files that are no original's.
    #[must_use]
    pub fn unused(&self) -> usize {
        self.unused
    }

    fn of(&self, name: &str) -> Result<&Path, EvaluateError> {
        let path = self.by_original.get(name).map(PathBuf::as_path);
        path.ok_or_else(|| {
            EvaluateError::Pairs(format!("{name} was not among the originals that were looked for"))
        })
    }
}

fn not_one(name: &str, folder: &Path, several: usize) -> EvaluateError {
    let folder = folder.display();
    EvaluateError::Pairs(if several == 0 {
        format!(
            "{name} has no reconstruction in {folder}; put it there under the same name, with any image ending"
        )
    } else {
        format!(
            "{name} has {several} reconstructions in {folder}; keep one, or give each the name of its original"
        )
    })
}

/// Originals with their reconstructions.
#[derive(Debug)]
pub struct Pairs {
    originals: Originals,
    reconstructions: Reconstructions,
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
        batch_size: usize,
        /// The next one's place.
        next: usize,
    },
    /// Resized and cut as for a tokenizer.
    Prepared(Loader),
}

impl Pairs {
    /// Images at their own sizes, up to `batch_size` at a time.
    #[must_use]
    pub fn whole(
        dataset: &Arc<Dataset>,
        batch_size: usize,
        reconstructions: Reconstructions,
        options: DecodeOptions,
        device: Device,
    ) -> Self {
        let originals = Originals::Whole { dataset: Arc::clone(dataset), batch_size, next: 0 };
        Self { originals, reconstructions, options, device, ready: VecDeque::new() }
    }

    /// Images as a loader prepares them; the reconstructions are of that size.
    #[must_use]
    pub fn prepared(
        loader: Loader,
        reconstructions: Reconstructions,
        options: DecodeOptions,
        device: Device,
    ) -> Self {
        let originals = Originals::Prepared(loader);
        Self { originals, reconstructions, options, device, ready: VecDeque::new() }
    }

    /// Makes the next batches ready, if there are any.
    fn fill(&mut self) -> Result<(), EvaluateError> {
        let (originals, bad) = match &mut self.originals {
            Originals::Whole { dataset, batch_size, next } => {
                let chunk = *next..(*next + *batch_size).min(dataset.len());
                *next = chunk.end;
                if chunk.is_empty() {
                    return Ok(());
                }
                let (dataset, options) = (&*dataset, &self.options);
                let decoded: Vec<_> = chunk
                    .into_par_iter()
                    .map(|i| {
                        (dataset.name(i).into_owned(), dataset.picture(i, options).map(Decoded::release))
                    })
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
        let (recons, options) = (&self.reconstructions, &self.options);
        let paths: Vec<&Path> =
            originals.iter().map(|(name, _)| recons.of(name)).collect::<Result<_, _>>()?;
        let recons: Vec<_> = paths.par_iter().map(|path| read(path, options).map(Decoded::release)).collect();
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
                     reconstructed, cropped and resized alike (without --protocol images keep their own sizes)",
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
fn apart(decoded: Vec<(String, Result<Picture, String>)>) -> (Vec<(String, Picture)>, Vec<BadSample>) {
    let (mut good, mut bad) = (vec![], vec![]);
    for (name, picture) in decoded {
        match picture {
            Ok(picture) => good.push((name, picture)),
            Err(reason) => bad.push(BadSample { name, reason }),
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

impl Iterator for Pairs {
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
        let dataset = Arc::new(Dataset::open(&originals, Split::All).unwrap());
        let found = || Reconstructions::find(&recons, &dataset);
        let (options, device) = (DecodeOptions::default, Device::Cpu);
        assert_eq!(found().unwrap().unused(), 1);
        let pairs = Pairs::whole(&dataset, 32, found().unwrap(), options(), device);
        let batches: Vec<Passed> = pairs.map(Result::unwrap).collect();
        let names: Vec<_> = batches.iter().map(|batch| batch.names.join(" ")).collect();
        assert_eq!(names, ["a.png b.png", "deep/c.png"]);
        assert_eq!(batches[1].images.as_ref().unwrap().1.size(), [1, 3, 5, 9]);

        write(recons.join("a.png"), 8, 5);
        let mut pairs = Pairs::whole(&dataset, 32, found().unwrap(), options(), device);
        let error = pairs.find_map(Result::err).unwrap().to_string();
        assert!(error.contains("a.png is 7×5 pixels and its reconstruction 8×5"), "{error}");
        fs::remove_file(recons.join("a.png")).unwrap();
        assert!(found().unwrap_err().to_string().contains("a.png has no reconstruction"));
    }

    #[test]
    fn a_reconstruction_belongs_to_one_original() {
        let folder = tempfile::tempdir().unwrap();
        let (originals, recons) = (folder.path().join("originals"), folder.path().join("recons"));
        for name in ["a.bmp", "a.png"] {
            write(originals.join(name), 7, 5);
        }
        write(recons.join("a.png"), 7, 5);
        let dataset = Dataset::open(&originals, Split::All).unwrap();
        let error = Reconstructions::find(&recons, &dataset).unwrap_err().to_string();
        assert!(error.contains("a.bmp has no reconstruction"), "{error}");
        write(recons.join("a.bmp.png"), 7, 5);
        assert!(Reconstructions::find(&recons, &dataset).is_ok());
    }
}
