//! Reconstructions from another program, paired with their originals.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use tch::{Device, Tensor};

use super::passes::{Files, Passed};
use super::{EvaluateError, Reconstructions};
use crate::batches::{Loader, picture_of, tensor_of};
use pixtok_images::data::{BadSample, Dataset, Marks};
use pixtok_images::picture::{DecodeOptions, Decoded, Picture, Traits, read};

/// Originals and their reconstructions.
#[derive(Debug)]
pub struct Pairs {
    originals: Originals,
    reconstructions: Reconstructions,
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
        batch_size: usize,
        /// The index of the next original.
        next: usize,
    },
    /// A loader, which resizes and crops them as for a tokenizer.
    Prepared(Loader),
}

impl Pairs {
    /// Pairs with originals at their own sizes, in batches of up to `batch_size`.
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

    /// Pairs with originals that a loader prepares. The reconstructions must have the prepared
    /// size.
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

    /// Prepares the next batches, if there are any.
    fn fill(&mut self) -> Result<(), EvaluateError> {
        let (originals, bad, marks) = match &mut self.originals {
            Originals::Whole { dataset, batch_size, next } => {
                let chunk = *next..(*next + *batch_size).min(dataset.len());
                *next = chunk.end;
                if chunk.is_empty() {
                    return Ok(());
                }
                let (dataset, options) = (&*dataset, &self.options);
                let decoded: Vec<_> = chunk
                    .into_par_iter()
                    .map(|i| (dataset.name(i).into_owned(), dataset.picture(i, options).map(released)))
                    .collect();
                apart(decoded)
            }
            Originals::Prepared(loader) => {
                let Some(batch) = loader.next() else { return Ok(()) };
                let batch = batch?;
                let pictures = (0..batch.names.len()).map(|i| picture_of(&batch.images.get(i as i64)));
                let pictures: Vec<Picture> = pictures.collect::<Result<_, _>>()?;
                (batch.names.into_iter().zip(pictures).collect(), batch.bad, batch.marks)
            }
        };
        self.pair(originals, bad, Files::of_originals(marks))
    }

    /// Reads the reconstructions of these originals, and queues batches of equal size.
    fn pair(
        &mut self,
        originals: Vec<(String, Picture)>,
        mut bad: Vec<BadSample>,
        mut files: Files,
    ) -> Result<(), EvaluateError> {
        let (recons, options) = (&self.reconstructions, &self.options);
        let paths: Vec<&Path> =
            originals.iter().map(|(name, _)| recons.of(name)).collect::<Result<_, _>>()?;
        let recons: Vec<_> = paths.par_iter().map(|path| read(path, options).map(released)).collect();
        let mut batch: Vec<(String, Picture, Picture)> = vec![];
        for ((name, original), recon) in originals.into_iter().zip(recons) {
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
            batch.push((name, original, recon));
        }
        self.ready.push_back(passed(batch, bad, files, self.device)?);
        Ok(())
    }
}

/// Moves the picture out of its decoding buffer, so that it can be kept while others are decoded.
fn released(decoded: Decoded) -> (Picture, Traits) {
    let traits = decoded.traits();
    (decoded.release(), traits)
}

/// A name, and its picture or the reason why there is none.
type NamedResult = (String, Result<(Picture, Traits), String>);

/// Splits results into the decoded pictures, the failures, and the traits of the pictures.
fn apart(decoded: Vec<NamedResult>) -> (Vec<(String, Picture)>, Vec<BadSample>, Marks) {
    let (mut good, mut bad, mut marks) = (vec![], vec![], Marks::default());
    for (name, picture) in decoded {
        match picture {
            Ok((picture, traits)) => {
                marks.transparent += usize::from(traits.transparent);
                good.push((name, picture));
            }
            Err(reason) => bad.push(BadSample { name, reason }),
        }
    }
    (good, bad, marks)
}

fn passed(
    batch: Vec<(String, Picture, Picture)>,
    bad: Vec<BadSample>,
    files: Files,
    device: Device,
) -> Result<Passed, EvaluateError> {
    let (mut names, mut originals, mut recons) = (vec![], vec![], vec![]);
    for (name, original, recon) in batch {
        names.push(name);
        originals.push(tensor_of(&original)?);
        recons.push(tensor_of(&recon)?);
    }
    let stacked = |pictures: &[Tensor]| Tensor::stack(pictures, 0).to_device(device);
    let images = (!names.is_empty()).then(|| (stacked(&originals), stacked(&recons)));
    Ok(Passed { names, images, tokens: None, bad, files })
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
    use std::path::PathBuf;

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
}
