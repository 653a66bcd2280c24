//! Reconstructions from another program, paired with their originals.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tch::{Device, Tensor};

use super::passes::{Files, Passed};
use super::{EvaluateError, Reconstructions};
use crate::batches::{Loader, picture_of, share_of, tensor_of};
use crate::world::World;
use pixtok_images::data::{BadSample, DataError, Dataset, Marks, Pipeline, threads};
use pixtok_images::picture::{DecodeOptions, Decoded, Picture, Traits, read};

/// Originals and their reconstructions.
#[derive(Debug)]
pub struct Pairs {
    originals: Originals,
    reconstructions: Arc<Reconstructions>,
    options: DecodeOptions,
    device: Device,
    ready: VecDeque<Passed>,
}

/// The source of the originals.
#[derive(Debug)]
enum Originals {
    /// Their files, at their own sizes.
    Whole {
        dataset: Arc<Dataset>,
        /// Those of this process's share.
        images: Vec<usize>,
        batch_size: usize,
        /// Started when the first batch is wanted.
        pictures: Option<Pipeline<Pair>>,
    },
    /// A loader, which resizes and crops them as for a tokenizer.
    Prepared(Loader),
}

impl Pairs {
    /// Pairs with originals at their own sizes, those of this process's share of `world`, in batches
    /// of up to `batch_size`.
    #[must_use]
    pub fn whole(
        dataset: &Arc<Dataset>,
        batch_size: usize,
        reconstructions: Reconstructions,
        options: DecodeOptions,
        device: Device,
        world: &World,
    ) -> Self {
        let images = dataset.evaluated_by(share_of(world), None);
        let dataset = Arc::clone(dataset);
        let originals = Originals::Whole { dataset, images, batch_size, pictures: None };
        Self {
            originals,
            reconstructions: Arc::new(reconstructions),
            options,
            device,
            ready: VecDeque::new(),
        }
    }

    /// Pairs with originals that a loader prepares. The reconstructions must have the prepared
    /// size.
    #[must_use]
    pub fn prepared(
        loader: Loader,
        reconstructions: Reconstructions,
        options: DecodeOptions,
        device: Device,
    ) -> Self {
        Self {
            originals: Originals::Prepared(loader),
            reconstructions: Arc::new(reconstructions),
            options,
            device,
            ready: VecDeque::new(),
        }
    }

    /// The data set of the originals.
    pub(super) fn dataset(&self) -> &Arc<Dataset> {
        match &self.originals {
            Originals::Whole { dataset, .. } => dataset,
            Originals::Prepared(loader) => loader.dataset(),
        }
    }

    /// Prepares the next batches, if there are any.
    fn fill(&mut self) -> Result<(), EvaluateError> {
        let (recons, options) = (&self.reconstructions, &self.options);
        let (pairs, bad, marks) = match &mut self.originals {
            Originals::Whole { dataset, images, batch_size, pictures } => {
                let pictures = match pictures {
                    Some(pictures) => pictures,
                    None => {
                        let images = std::mem::take(images);
                        pictures.insert(read_whole(dataset, images, *batch_size, recons, options)?)
                    }
                };
                let read: Vec<Pair> =
                    pictures.take(*batch_size).collect::<Result<_, _>>().map_err(DataError::from)?;
                if read.is_empty() {
                    return Ok(());
                }
                apart(read)?
            }
            Originals::Prepared(loader) => {
                let Some(batch) = loader.next() else { return Ok(()) };
                let batch = batch?;
                let pictures = (0..batch.names.len()).map(|i| picture_of(&batch.images.get(i as i64)));
                let pictures: Vec<Picture> = pictures.collect::<Result<_, _>>()?;
                let paths = batch.names.iter().map(|name| Ok(recons.of(name)?.to_owned()));
                let paths: Vec<PathBuf> = paths.collect::<Result<_, EvaluateError>>()?;
                let (count, options) = (paths.len(), options.clone());
                let workers = count.clamp(1, threads(0));
                let recons = Pipeline::map(paths, workers, count, move |path| picture_at(&path, &options))?;
                let recons: Vec<_> = recons.collect::<Result<_, _>>().map_err(DataError::from)?;
                let named = batch.image_indices.into_iter().zip(batch.names);
                let pairs = named.zip(pictures).zip(recons);
                let pairs = pairs.map(|((named, original), recon)| (named, original, recon)).collect();
                (pairs, batch.bad, batch.marks)
            }
        };
        self.pair(pairs, bad, Files::of_originals(marks))
    }

    /// Puts batches of one size on the queue.
    fn pair(
        &mut self,
        pairs: Vec<NamedPair>,
        mut bad: Vec<BadSample>,
        mut files: Files,
    ) -> Result<(), EvaluateError> {
        let mut batch: Vec<(Named, Picture, Picture)> = vec![];
        for ((index, name), original, recon) in pairs {
            let (recon, traits) = match recon {
                Ok(recon) => recon,
                Err(error) => {
                    bad.push(BadSample { name, reason: format!("its reconstruction: {error}") });
                    continue;
                }
            };
            files.transparent_reconstructions += usize::from(traits.transparent);
            files.lossy_reconstructions += usize::from(traits.lossy);
            let size = |picture: &Picture| (picture.width, picture.height);
            if size(&original) != size(&recon) {
                return Err(EvaluateError::Pairs(format!(
                    "{name} is {}×{} pixels and its reconstruction {}×{}; give the originals as they were \
                     reconstructed: `pixtok prepare RUN --data ORIGINALS --out DIR` writes them so, with \
                     --fit whole as `pixtok reconstruct` cuts them, with --fit scaled as `pixtok encode \
                     --fit whole` takes them, else as an evaluation does (without --protocol images keep \
                     their own sizes)",
                    original.width, original.height, recon.width, recon.height
                )));
            }
            if batch.first().is_some_and(|(_, first, _)| size(first) != size(&original)) {
                let batch = std::mem::take(&mut batch);
                self.ready.push_back(passed(batch, vec![], Files::default(), self.device)?);
            }
            batch.push(((index, name), original, recon));
        }
        self.ready.push_back(passed(batch, bad, files, self.device)?);
        Ok(())
    }
}

/// A picture with the properties of its file, moved out of its decoding buffer so that it can be kept while others are
/// decoded; or why there is none.
type PictureResult = Result<(Picture, Traits), String>;

/// The index of an original in its data set, and its name.
type Named = (usize, String);

/// A good original, and its reconstruction.
type NamedPair = (Named, Picture, PictureResult);

/// An original, and its reconstruction if the original can be used.
type Pair = (Named, Result<(Picture, Traits, PictureResult), Unread>);

/// Why there is no pair.
enum Unread {
    /// The original is bad.
    Bad(String),
    /// No reconstruction has its name.
    Missing(EvaluateError),
}

fn released(decoded: Decoded) -> (Picture, Traits) {
    let traits = decoded.traits();
    (decoded.release(), traits)
}

fn picture_at(path: &Path, options: &DecodeOptions) -> PictureResult {
    read(path, options).map(released).map_err(|error| error.to_string())
}

/// The originals `images` at their own sizes with their reconstructions, from first to last.
fn read_whole(
    dataset: &Arc<Dataset>,
    images: Vec<usize>,
    batch_size: usize,
    recons: &Arc<Reconstructions>,
    options: &DecodeOptions,
) -> Result<Pipeline<Pair>, DataError> {
    let (dataset, recons, options) = (Arc::clone(dataset), Arc::clone(recons), options.clone());
    // Pictures may be large: a few for each thread.
    let ahead = batch_size.min(2 * threads(0));
    Pipeline::map(images, 0, ahead, move |i| {
        let name = dataset.name(i).into_owned();
        let pair = || {
            let (original, traits) = dataset.picture(i, &options).map(released).map_err(Unread::Bad)?;
            let path = recons.of(&name).map_err(Unread::Missing)?;
            Ok((original, traits, picture_at(path, &options)))
        };
        let pair = pair();
        ((i, name), pair)
    })
}

/// The pairs, the bad originals, and the marks of the good ones.
fn apart(read: Vec<Pair>) -> Result<(Vec<NamedPair>, Vec<BadSample>, Marks), EvaluateError> {
    let (mut good, mut bad, mut marks) = (vec![], vec![], Marks::default());
    for ((index, name), pair) in read {
        match pair {
            Ok((original, traits, recon)) => {
                marks.transparent += usize::from(traits.transparent);
                good.push(((index, name), original, recon));
            }
            Err(Unread::Bad(reason)) => bad.push(BadSample { name, reason }),
            Err(Unread::Missing(error)) => return Err(error),
        }
    }
    Ok((good, bad, marks))
}

fn passed(
    batch: Vec<(Named, Picture, Picture)>,
    bad: Vec<BadSample>,
    files: Files,
    device: Device,
) -> Result<Passed, EvaluateError> {
    let (mut image_indices, mut names) = (vec![], vec![]);
    let (mut originals, mut recons) = (vec![], vec![]);
    for ((index, name), original, recon) in batch {
        image_indices.push(index);
        names.push(name);
        originals.push(tensor_of(&original)?);
        recons.push(tensor_of(&recon)?);
    }
    let stacked = |pictures: &[Tensor]| Tensor::stack(pictures, 0).to_device(device);
    let images = (!names.is_empty()).then(|| (stacked(&originals), stacked(&recons)));
    Ok(Passed { image_indices, names, images, tokens: None, bad, files })
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
    use pixtok_images::data::Split;

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
        let found = || Reconstructions::find(&recons, &dataset, None);
        let (options, device) = (DecodeOptions::default, Device::Cpu);
        assert_eq!(found().unwrap().unused(), ["stray.png"]);
        let alone = World::single();
        let pairs = Pairs::whole(&dataset, 32, found().unwrap(), options(), device, &alone);
        let batches: Vec<Passed> = pairs.map(Result::unwrap).collect();
        let indices: Vec<_> = batches.iter().map(|batch| batch.image_indices.clone()).collect();
        assert_eq!(indices, [vec![0, 1], vec![2]]);
        let names: Vec<_> = batches.iter().map(|batch| batch.names.join(" ")).collect();
        assert_eq!(names, ["a.png b.png", "deep/c.png"]);
        assert_eq!(batches[1].images.as_ref().unwrap().1.size(), [1, 3, 5, 9]);

        write(recons.join("a.png"), 8, 5);
        let mut pairs = Pairs::whole(&dataset, 32, found().unwrap(), options(), device, &alone);
        let error = pairs.find_map(Result::err).unwrap().to_string();
        assert!(error.contains("a.png is 7×5 pixels and its reconstruction 8×5"), "{error}");
        fs::remove_file(recons.join("a.png")).unwrap();
        assert!(found().unwrap_err().to_string().contains("a.png has no reconstruction"));
    }
}
