//! WebDataset shards as a data set. The place of each image in its tar is indexed, so that images
//! are read there and nothing is unpacked.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::index::Index;
use super::omitted::OmittedMembers;
use super::samples::endings::Endings;
use super::samples::labels::{Labels, Survey};
use super::samples::webdataset::{Located, Shard, no_image};
use super::{DataError, Selection, Share, Split};

/// The number of tars that are kept open. A process may have 1024 open files on most systems, and
/// an epoch's order uses only a few tars at a time.
const OPEN_FILES: usize = 128;
/// Stands for a missing label.
const NO_LABEL: u32 = u32::MAX;

/// The images in tars, in the order of the tars.
#[derive(Debug)]
pub(super) struct Shards {
    tars: Vec<Tar>,
    /// The images' names in their tars.
    index: Index,
    places: Vec<Place>,
    /// The reasons why images cannot be used: indices into `reasons`, of which there are a few. A
    /// set of captions may have an image for only a few of its samples.
    faults: HashMap<u32, usize>,
    reasons: Vec<String>,
    labels: Vec<String>,
    notes: Vec<String>,
    passed_over: Vec<(&'static str, u64)>,
    /// The tars that were read most recently.
    open: Mutex<OpenTars>,
}

/// Open files and the indices of their tars; the one read last is at the end.
type OpenTars = VecDeque<(usize, Arc<File>)>;

#[derive(Debug)]
struct Tar {
    path: PathBuf,
    /// The name of the file.
    name: String,
    images: Range<u32>,
}

/// The place of an image; takes 16 bytes.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u64,
    /// The size in bytes, at most that of the longest member that is read, 2^31.
    size: u32,
    /// An index into the labels, or [`NO_LABEL`].
    label: u32,
}

impl Shards {
    /// Indexes the tars of `path` by their headers, all at once. `found_more` is told how many more
    /// samples were found.
    pub(super) fn open(
        path: &Path,
        tars: Vec<PathBuf>,
        split: Split,
        selection: &Selection,
        found_more: &(dyn Fn(u64) + Sync),
    ) -> Result<Shards, DataError> {
        let endings = Arc::new(Endings::of(selection));
        let scan = |tar: &PathBuf| {
            let scanned = scan(tar, &endings);
            found_more(scanned.as_ref().map_or(0, |(samples, _)| samples.len() as u64));
            scanned
        };
        let scans: Vec<Result<_, DataError>> = tars.par_iter().map(scan).collect();
        let mut omitted = OmittedMembers::default();
        let mut take = |(samples, own)| {
            omitted.append(own);
            samples
        };
        let scans: Vec<Vec<Located>> =
            scans.into_iter().map(|scan| scan.map(&mut take)).collect::<Result<_, _>>()?;
        let mut survey = Survey::default();
        for sample in scans.iter().flatten() {
            survey.add(sample.label.as_ref(), || sample.name.clone());
        }
        // Training uses no labels, so a note on labels that cannot be converted does not matter
        // here.
        let taken = survey.settle(&endings.labels(), None, None, false, &mut vec![])?;
        let number = |sample: &Located| taken.number(sample.label.as_ref());
        let numbers: BTreeSet<i64> = scans.iter().flatten().filter_map(number).collect();
        let numbers: Vec<i64> = numbers.into_iter().collect();
        let mut shards = Shards {
            tars: vec![],
            index: Index::default(),
            places: vec![],
            faults: HashMap::new(),
            reasons: vec![],
            labels: match taken.classes() {
                [] => numbers.iter().map(i64::to_string).collect(),
                names => names.to_vec(),
            },
            notes: omitted.words(),
            passed_over: omitted.counts(),
            open: Mutex::default(),
        };
        let (mut found, mut images) = (0, 0);
        for (tar, samples) in tars.into_iter().zip(scans) {
            found += samples.len();
            images += samples.iter().filter(|sample| sample.image.is_some()).count();
            if found > u32::MAX as usize {
                return Err(DataError::TooManyFiles(path.to_owned()));
            }
            shards.add(tar, samples, split, (&taken, &numbers));
        }
        if images == 0 {
            return Err(DataError::empty(path, &shards.notes));
        }
        if shards.places.is_empty() {
            return Err(split.empty(found));
        }
        Ok(shards)
    }

    fn add(
        &mut self,
        path: PathBuf,
        samples: Vec<Located>,
        split: Split,
        (taken, numbers): (&Labels, &[i64]),
    ) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let first = self.places.len() as u32;
        for sample in samples {
            if !split.takes(format!("{name}/{}", sample.name).as_bytes()) {
                continue;
            }
            let image = sample.image.unwrap_or_else(|| Err(no_image()));
            let (start, size) = image.unwrap_or_else(|reason| {
                let known = self.reasons.iter().position(|known| *known == reason);
                let at = known.unwrap_or(self.reasons.len());
                if known.is_none() {
                    self.reasons.push(reason);
                }
                self.faults.insert(self.places.len() as u32, at);
                (0, 0)
            });
            let number = taken.number(sample.label.as_ref());
            let label = number.and_then(|number| numbers.binary_search(&number).ok());
            let label = label.map_or(NO_LABEL, |label| label as u32);
            self.index.push(sample.name.as_bytes());
            self.places.push(Place { start, size: size as u32, label });
        }
        self.tars.push(Tar { path, name, images: first..self.places.len() as u32 });
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn labels(&self) -> &[String] {
        &self.labels
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many members are skipped, for each reason that occurs.
    pub(super) fn passed_over(&self) -> &[(&'static str, u64)] {
        &self.passed_over
    }

    pub(super) fn label(&self, index: usize) -> Option<usize> {
        Some(self.places[index].label).filter(|&label| label != NO_LABEL).map(|label| label as usize)
    }

    /// The images of each tar of `share`.
    pub(super) fn ranges(&self, share: Share) -> Vec<Range<u32>> {
        let own = self.tars.iter().enumerate().filter(|&(tar, _)| share.takes(tar));
        own.map(|(_, tar)| tar.images.clone()).collect()
    }

    /// The index in `tars` of the tar with image `index`.
    fn tar_of(&self, index: usize) -> usize {
        self.tars.partition_point(|tar| tar.images.end as usize <= index)
    }

    pub(super) fn name(&self, index: usize) -> String {
        format!("{}/{}", self.tars[self.tar_of(index)].name, String::from_utf8_lossy(self.index.get(index)))
    }

    /// The content of image `index`, or the reason why it cannot be read.
    pub(super) fn read(&self, index: usize) -> Result<Vec<u8>, String> {
        if let Some(&reason) = self.faults.get(&(index as u32)) {
            return Err(self.reasons[reason].clone());
        }
        let Place { start, size, .. } = self.places[index];
        let mut bytes = vec![0; size as usize];
        self.file(self.tar_of(index))
            .and_then(|file| file.read_exact_at(&mut bytes, start))
            .map_err(|error| format!("cannot read it: {error}"))?;
        Ok(bytes)
    }

    /// The file with image `index`, and offset and length there; `None` if it cannot be used.
    pub(super) fn stored(&self, index: usize) -> Option<(Arc<File>, u64, u64)> {
        let start = self.offset(index)?;
        Some((self.file(self.tar_of(index)).ok()?, start, self.places[index].size.into()))
    }

    fn file(&self, tar: usize) -> io::Result<Arc<File>> {
        if let Some(file) = known(&mut self.lock(), tar) {
            return Ok(file);
        }
        // Opened without the lock: it may take long, and other threads have their own files to
        // read.
        let file = Arc::new(File::open(&self.tars[tar].path)?);
        let mut open = self.lock();
        if let Some(file) = known(&mut open, tar) {
            // Another thread was faster.
            return Ok(file);
        }
        if open.len() == OPEN_FILES {
            open.pop_front();
        }
        open.push_back((tar, Arc::clone(&file)));
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, OpenTars> {
        // No code that holds the lock leaves the list half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of tars.
    pub(super) fn tars(&self) -> usize {
        self.tars.len()
    }

    /// The path of one tar.
    pub(super) fn tar(&self, tar: usize) -> &Path {
        &self.tars[tar].path
    }

    /// The images in one tar.
    pub(super) fn images_of(&self, tar: usize) -> Range<usize> {
        let Range { start, end } = self.tars[tar].images;
        start as usize..end as usize
    }

    /// The offset of image `index` in its tar; `None` if it cannot be used.
    pub(super) fn offset(&self, index: usize) -> Option<u64> {
        (!self.faults.contains_key(&(index as u32))).then(|| self.places[index].start)
    }

    /// A hash of the names, places and sizes of the images.
    pub(super) fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for tar in &self.tars {
            hasher.update(&(tar.name.len() as u64).to_le_bytes());
            hasher.update(tar.name.as_bytes());
            hasher.update(&(tar.images.len() as u64).to_le_bytes());
        }
        for (name, place) in self.index.iter().zip(&self.places) {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name);
            hasher.update(&place.start.to_le_bytes());
            hasher.update(&place.size.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The file of `tar`, if it is open. It is marked as read last, which it mostly is already.
fn known(open: &mut OpenTars, tar: usize) -> Option<Arc<File>> {
    let at = open.iter().rposition(|&(other, _)| other == tar)?;
    if at + 1 < open.len() {
        let found = open.remove(at)?;
        open.push_back(found);
    }
    open.back().map(|(_, file)| Arc::clone(file))
}

fn scan(tar: &Path, endings: &Arc<Endings>) -> Result<(Vec<Located>, OmittedMembers), DataError> {
    let (mut shard, mut samples) = (Shard::open(tar, endings)?, vec![]);
    while let Some(sample) = shard.locate()? {
        samples.push(sample);
    }
    Ok((samples, shard.omitted()))
}

#[cfg(test)]
mod tests;
