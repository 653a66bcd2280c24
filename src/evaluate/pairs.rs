//! Reconstructions that were made elsewhere, beside their originals.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use tch::{Device, Tensor};

use super::EvaluateError;
use super::passes::{Files, Passed};
use crate::batches::{Loader, picture_of, tensor_of};
use pixtok_images::data::{BadSample, Dataset, EXTENSIONS, ImageFolder, Marks, composed};
use pixtok_images::picture::{DecodeOptions, Decoded, Picture, Traits, read};

/// What is compared of an original's name, and of a file's name.
type Way = (fn(&str) -> String, fn(&str) -> String);

/// How a reconstruction may be named, the closest match first.
const WAYS: [Way; 8] = [
    (str::to_owned, str::to_owned),
    (with_png, str::to_owned),
    (spelt, spelt),
    (|name| spelt(&with_png(name)), spelt),
    (stem, stem),
    (|name| spelt(&stem(name)), |name| spelt(&stem(name))),
    (bare, bare),
    (|name| spelt(&bare(name)), |name| spelt(&bare(name))),
];

fn with_png(name: &str) -> String {
    format!("{name}.png")
}

fn spelt(name: &str) -> String {
    composed(name).into_owned()
}

/// The name without its extension.
fn stem(name: &str) -> String {
    Path::new(name).with_extension("").to_string_lossy().into_owned()
}

/// The name without its image endings: `a.jpg` becomes `a.jpg.png` when prepared, and `a.png` when
/// decoded from tokens.
fn bare(name: &str) -> String {
    let mut name = name;
    while let Some((rest, ending)) = name.rsplit_once('.')
        && EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known))
        && !rest.is_empty()
        && !rest.ends_with('/')
    {
        name = rest;
    }
    name.to_owned()
}

/// The reconstructions of a set of originals, by the originals' names.
#[derive(Debug)]
pub struct Reconstructions {
    by_original: HashMap<String, PathBuf>,
    unused: usize,
}

impl Reconstructions {
    /// Finds in `folder` the reconstruction of each original. Its name is the original's relative
    /// name, the same with `.png` after it, the same with another extension, or the same without
    /// any; Unicode spellings (NFC and NFD) may differ. Each file is used once, in this order. But
    /// if every original has a file with `.png` after its name, those files are used. Only the
    /// originals that an evaluation of at most `max_images` takes need one. Reads no file.
    ///
    /// # Errors
    /// When the folder cannot be used, or one of these originals has no reconstruction or several.
    pub fn find(
        folder: &Path,
        originals: &Dataset,
        max_images: Option<usize>,
    ) -> Result<Self, EvaluateError> {
        // Reconstructions are outputs of pixtok, perhaps one folder for each split.
        let files = ImageFolder::open_with_outputs(folder)?;
        let mut left: BTreeMap<String, PathBuf> =
            (0..files.len()).map(|i| (files.name(i).into_owned(), files.path(i))).collect();
        let needed: HashSet<String> =
            originals.evaluated(max_images).map(|i| originals.name(i).into_owned()).collect();
        // The other originals take part too, so that none of the needed ones gets another's file.
        let mut wanted: Vec<String> = (0..originals.len()).map(|i| originals.name(i).into_owned()).collect();
        let mut by_original = HashMap::with_capacity(wanted.len());
        let mut ways = WAYS;
        let after = |name: &String| {
            left.contains_key(&with_png(name)) || !(needed.contains(name) || left.contains_key(name))
        };
        if wanted.iter().all(after) {
            ways.swap(0, 1);
        }
        for (of_original, of_file) in ways {
            let mut named: HashMap<String, Vec<String>> = HashMap::new();
            if !wanted.is_empty() {
                for name in left.keys() {
                    named.entry(of_file(name)).or_default().push(name.clone());
                }
            }
            let mut missing = vec![];
            for original in wanted {
                match named.remove(&of_original(&original)).as_deref() {
                    None => missing.push(original),
                    Some([name]) => {
                        by_original.extend(left.remove(name).map(|path| (original, path)));
                    }
                    Some(several) if needed.contains(&original) => {
                        return Err(not_one(&original, folder, several.len()));
                    }
                    Some(_) => missing.push(original),
                }
            }
            wanted = missing;
        }
        match wanted.iter().find(|name| needed.contains(*name)) {
            Some(name) => Err(not_one(name, folder, 0)),
            None => Ok(Self { by_original, unused: left.len() }),
        }
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
                let pictures =
                    (0..batch.names.len()).map(|i| picture_of(&batch.images.get(i as i64)));
                let pictures: Vec<Picture> = pictures.collect::<Result<_, _>>()?;
                (batch.names.into_iter().zip(pictures).collect(), batch.bad, batch.marks)
            }
        };
        self.pair(originals, bad, Files::of_originals(marks))
    }

    /// Reads the reconstructions of these originals, and puts batches of one size on the queue.
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

/// The picture, moved out of its decoding buffer so that it can be kept while others are decoded.
fn released(decoded: Decoded) -> (Picture, Traits) {
    let traits = decoded.traits();
    (decoded.release(), traits)
}

/// A name, and its picture or why there is none.
type NamedResult = (String, Result<(Picture, Traits), String>);

/// The decoded pictures, the failures, and the marks of the pictures.
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

    use super::*;
    use pixtok_images::data::Split;
    use pixtok_base::paths::mark_output;

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
    fn folders_that_pixtok_wrote_are_searched() {
        let folder = tempfile::tempdir().unwrap();
        let (originals, recons) = (folder.path().join("originals"), folder.path().join("recons"));
        for name in ["train/a.png", "val/b.png"] {
            write(originals.join(name), 7, 5);
            write(recons.join(name), 7, 5);
        }
        for split in ["train", "val"] {
            mark_output(&recons.join(split)).unwrap();
        }
        let dataset = Dataset::open(&originals, Split::All).unwrap();
        let found = Reconstructions::find(&recons, &dataset, None).unwrap();
        assert_eq!((found.of("val/b.png").unwrap(), found.unused()), (&*recons.join("val/b.png"), 0));
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
        let error = Reconstructions::find(&recons, &dataset, None).unwrap_err().to_string();
        assert!(error.contains("a.bmp has no reconstruction"), "{error}");
        write(recons.join("a.bmp.png"), 7, 5);
        assert!(Reconstructions::find(&recons, &dataset, None).is_ok());
    }

    #[test]
    fn originals_that_are_not_evaluated_need_no_reconstruction() {
        let folder = tempfile::tempdir().unwrap();
        let (originals, recons) = (folder.path().join("originals"), folder.path().join("recons"));
        for name in ["a.jpg", "a.jpg.png", "b.png", "c.png", "d.png"] {
            write(originals.join(name), 7, 5);
        }
        let dataset = Dataset::open(&originals, Split::All).unwrap();
        // Two of five: a.jpg and b.png.
        write(recons.join("b.png"), 7, 5);
        let missing = Reconstructions::find(&recons, &dataset, Some(2)).unwrap_err().to_string();
        assert!(missing.contains("a.jpg has no reconstruction"), "{missing}");
        write(recons.join("a.bmp"), 7, 5);
        let found = Reconstructions::find(&recons, &dataset, Some(2)).unwrap();
        assert_eq!((found.of("a.jpg").unwrap(), found.unused()), (&*recons.join("a.bmp"), 0));
        // The file of an original that is not evaluated goes to no other original.
        fs::rename(recons.join("a.bmp"), recons.join("a.jpg.png")).unwrap();
        assert!(Reconstructions::find(&recons, &dataset, Some(2)).is_err());
        fs::remove_file(recons.join("a.jpg.png")).unwrap();
        write(recons.join("a.jpg"), 7, 5);
        write(recons.join("c.png"), 7, 5);
        assert_eq!(Reconstructions::find(&recons, &dataset, Some(2)).unwrap().unused(), 0);
        assert!(Reconstructions::find(&recons, &dataset, None).is_err());
    }

    /// Pairs the names.
    fn paired(originals: &[&str], recons: &[&str]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for (part, names) in [("originals", originals), ("recons", recons)] {
            for name in names {
                write(folder.path().join(part).join(name), 7, 5);
            }
        }
        let dataset = Dataset::open(&folder.path().join("originals"), Split::All).unwrap();
        let recons = folder.path().join("recons");
        let found = Reconstructions::find(&recons, &dataset, None).map_err(|error| error.to_string())?;
        let name =
            |name: &&str| found.of(name).unwrap().strip_prefix(&recons).unwrap().to_str().unwrap().to_owned();
        Ok(originals.iter().map(name).collect())
    }

    #[test]
    fn png_after_every_name_is_one_way_for_all() {
        let both = ["cat.jpg", "cat.jpg.png"];
        assert_eq!(
            paired(&both, &["cat.jpg.png", "cat.jpg.png.png"]).unwrap(),
            ["cat.jpg.png", "cat.jpg.png.png"]
        );
        assert_eq!(paired(&both, &both).unwrap(), both);
    }

    #[test]
    fn prepared_originals_pair_with_what_was_decoded() {
        assert_eq!(
            paired(&["x/cat.jpg.png", "dog.png"], &["x/cat.png", "dog.jpg"]).unwrap(),
            ["x/cat.png", "dog.jpg"]
        );
        assert_eq!(paired(&["v1.5.png"], &["v1.5.jpg.png"]).unwrap(), ["v1.5.jpg.png"]);
        let message = paired(&["a.jpg.png", "a.bmp.png"], &["a.png"]).unwrap_err();
        assert!(message.contains("has no reconstruction"), "{message}");
    }

    #[test]
    fn names_are_the_same_however_their_letters_are_spelt() {
        let (composed, apart) = ("caf\u{e9}", "cafe\u{301}");
        for (a, b) in [(composed, apart), (apart, composed)] {
            for (original, recon) in [(".png", ".png"), (".jpg", ".jpg.png"), (".jpg", ".bmp")] {
                let (original, recon) = (format!("{a}/{a}{original}"), format!("{b}/{b}{recon}"));
                assert_eq!(paired(&[&original], &[&recon]).unwrap(), [recon]);
            }
        }
        // If both spellings exist, each original has its own.
        let both = [format!("{composed}.png"), format!("{apart}.png")];
        let both = [both[0].as_str(), both[1].as_str()];
        assert_eq!(paired(&both, &both).unwrap(), both);
        let message =
            paired(&["q\u{307}\u{323}.jpg"], &["q\u{323}\u{307}.png", "q\u{323}\u{307}.bmp"]).unwrap_err();
        assert!(message.contains("has 2 reconstructions"), "{message}");
    }
}
