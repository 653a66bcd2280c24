//! Parquet files as a data set. The page of every image is indexed, so that training reads pages in
//! any order.
//!
//! A page holds from a handful to thousands of images and can only be decompressed as a whole.
//! Therefore pages are shuffled, and images only within a window that fits in memory: see
//! [`TableRows::window`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use parquet::data_type::ByteArray;
use rayon::prelude::*;

use super::index::Index;
use super::samples::parquet::{NO_BYTES, Rows, Tables};
use super::{DataError, Selection, Share, Split};
use crate::data::samples::parquet::pages::Pages;

/// The most bytes of decompressed images that are kept, besides one page per thread.
const KEPT: u64 = 512 << 20;
/// Stands for a missing label.
const NO_LABEL: u32 = u32::MAX;

/// The images in Parquet files, in row order.
#[derive(Debug)]
pub(super) struct TableRows {
    tables: Tables,
    files: Vec<Pages>,
    pages: Vec<PageOf>,
    /// Indexed by image.
    places: Vec<Place>,
    /// The keys, if the rows have their own.
    keys: Option<Index>,
    labels: Vec<String>,
    recent: Mutex<Recent>,
}

/// A page and its images.
#[derive(Debug)]
struct PageOf {
    file: u32,
    /// Its index among the pages of its file.
    page: u32,
    /// Its first row in the file.
    first: u64,
    images: Range<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    /// The row within its page.
    row: u32,
    /// An index into the labels, or [`NO_LABEL`].
    label: u32,
}

/// The content of a page, or the reason why it cannot be read.
type Loaded = Arc<OnceLock<Result<Vec<Option<ByteArray>>, String>>>;

/// The pages used most recently.
#[derive(Debug, Default)]
struct Recent {
    pages: HashMap<usize, Recently>,
    /// Maps the time of last use to the page.
    used: BTreeMap<u64, usize>,
    clock: u64,
    bytes: u64,
}

/// A page that was used recently.
#[derive(Debug, Default)]
struct Recently {
    loaded: Loaded,
    used: u64,
    /// The bytes that count towards the total; 0 until the page has been read.
    bytes: u64,
}

impl TableRows {
    /// Indexes the Parquet files of `path`. Reads the labels, the keys and the headers of the pages
    /// of images. `found_more` is told how many more rows were found.
    pub(super) fn open(
        path: &std::path::Path,
        files: Vec<PathBuf>,
        split: Split,
        selection: &Selection,
        found_more: &(dyn Fn(u64) + Sync),
    ) -> Result<TableRows, DataError> {
        let tables = Tables::open(path, files, selection, Share::whole())?;
        let scan = |file: usize| {
            let scanned = tables.scan(file);
            found_more(scanned.as_ref().map_or(0, |(_, rows)| rows.labels.len() as u64));
            scanned
        };
        let scans: Vec<Result<(Pages, Rows), DataError>> =
            (0..tables.len()).into_par_iter().map(scan).collect();
        let scans: Vec<(Pages, Rows)> = scans.into_iter().collect::<Result<_, _>>()?;
        let numbers: BTreeSet<i64> =
            scans.iter().flat_map(|(_, rows)| &rows.labels).flatten().copied().collect();
        let numbers: Vec<i64> = numbers.into_iter().collect();
        let classes = tables.classes();
        let mut set = TableRows {
            keys: scans.iter().any(|(_, rows)| rows.keys.is_some()).then(Index::default),
            files: vec![],
            pages: vec![],
            places: vec![],
            labels: match classes {
                [] => numbers.iter().map(i64::to_string).collect(),
                names => names.to_vec(),
            },
            recent: Mutex::default(),
            tables,
        };
        let mut found = 0;
        for (pages, rows) in scans {
            found += rows.labels.len();
            if found > u32::MAX as usize {
                return Err(DataError::TooManyFiles(path.to_owned()));
            }
            set.add(pages, &rows, split, &numbers);
        }
        if found == 0 {
            return Err(DataError::Unclear(format!(
                "{} has no rows; give files with images",
                path.display()
            )));
        }
        if set.places.is_empty() {
            return Err(split.empty(found));
        }
        Ok(set)
    }

    fn add(&mut self, pages: Pages, rows: &Rows, split: Split, numbers: &[i64]) {
        let (file, named) = (self.files.len(), !self.tables.classes().is_empty());
        let mut row = 0;
        for (page, stored) in pages.pages.iter().enumerate() {
            let (first, start) = (row, self.places.len() as u32);
            for own in 0..stored.rows {
                let number = rows.labels[row as usize];
                let key = rows.keys.as_ref().map(|keys| keys[row as usize].as_str());
                let name = key.map_or_else(|| self.tables.numbered(file, row), str::to_owned);
                row += 1;
                if !split.takes(name.as_bytes()) {
                    continue;
                }
                if let Some(keys) = &mut self.keys {
                    keys.push(name.as_bytes());
                }
                let place = number.and_then(|number| match named {
                    true => usize::try_from(number).ok(),
                    false => numbers.binary_search(&number).ok(),
                });
                let label = place.map_or(NO_LABEL, |place| place as u32);
                self.places.push(Place { row: own as u32, label });
            }
            let images = start..self.places.len() as u32;
            self.pages.push(PageOf { file: file as u32, page: page as u32, first, images });
        }
        self.files.push(pages);
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The notes that matter for training, which uses no labels or captions: those on splits and
    /// missing files.
    pub(super) fn notes(&self) -> &[String] {
        self.tables.notes_of_splits()
    }

    pub(super) fn labels(&self) -> &[String] {
        &self.labels
    }

    pub(super) fn label(&self, index: usize) -> Option<usize> {
        Some(self.places[index].label).filter(|&label| label != NO_LABEL).map(|label| label as usize)
    }

    /// The key of the image in an export.
    pub(super) fn name(&self, index: usize) -> String {
        if let Some(keys) = &self.keys {
            return String::from_utf8_lossy(keys.get(index)).into_owned();
        }
        let file = self.pages[self.page_of(index)].file;
        self.tables.numbered(file as usize, self.row(index))
    }

    /// The row of image `index` in its file.
    pub(super) fn row(&self, index: usize) -> u64 {
        self.pages[self.page_of(index)].first + u64::from(self.places[index].row)
    }

    /// The images of each page of the files of `share`.
    pub(super) fn ranges(&self, share: Share) -> Vec<Range<u32>> {
        let own = self.pages.iter().filter(|page| share.takes(page.file as usize));
        own.map(|page| page.images.clone()).collect()
    }

    /// The number of images that can be shuffled together, at most `asked`, so that their pages
    /// stay in memory until their last image has been drawn. In a page of r images, the last one to
    /// be drawn waits 1 + ln r times as long as an average image.
    pub(super) fn window(&self, asked: usize) -> usize {
        let rows =
            self.pages.iter().map(|page| self.files[page.file as usize].pages[page.page as usize].rows);
        let (rows, bytes): (u64, u64) = (rows.sum(), self.files.iter().map(Pages::bytes).sum());
        let each = bytes as f64 / rows.max(1) as f64;
        let last = 2.0 + (rows as f64 / self.pages.len().max(1) as f64).max(1.0).ln();
        ((KEPT as f64 / (each.max(1.0) * last)) as usize).clamp(1, asked.max(1))
    }

    fn page_of(&self, index: usize) -> usize {
        self.pages.partition_point(|page| page.images.end as usize <= index)
    }

    /// The content of image `index`, or the reason why it cannot be read.
    pub(super) fn read(&self, index: usize) -> Result<ByteArray, String> {
        let page = self.page_of(index);
        let loaded = self.lock().get(page);
        let mut read = false;
        // The lock is not held while a page is read. Other threads that want this page wait for it
        // here.
        let images = loaded.get_or_init(|| {
            let PageOf { file, page, .. } = self.pages[page];
            read = true;
            self.files[file as usize].read(page as usize)
        });
        if read {
            self.lock().keep(page, &loaded);
        }
        let image = images.as_ref().map_err(Clone::clone)?.get(self.places[index].row as usize);
        image.cloned().flatten().ok_or_else(|| NO_BYTES.to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        // No code panics while it holds the lock.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of files.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// The path of one file.
    pub(super) fn file(&self, file: usize) -> &Path {
        self.files[file].path()
    }

    /// The images in one file.
    pub(super) fn images_of(&self, file: usize) -> Range<usize> {
        let first = self.pages.partition_point(|page| (page.file as usize) < file);
        let end = self.pages.partition_point(|page| page.file as usize <= file);
        let own = &self.pages[first..end];
        let bound =
            |page: Option<&PageOf>, end: fn(&PageOf) -> u32| page.map_or(0, |page| end(page) as usize);
        bound(own.first(), |page| page.images.start)..bound(own.last(), |page| page.images.end)
    }

    /// A hash of the files' names and sizes and of the selection of rows.
    pub(super) fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.tables.fingerprint().as_bytes());
        for page in &self.pages {
            hasher.update(&page.images.start.to_le_bytes());
            for place in &self.places[page.images.start as usize..page.images.end as usize] {
                hasher.update(&place.row.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

impl Recent {
    /// Returns the page and marks it as used last. The page is empty if it has not been read yet.
    fn get(&mut self, page: usize) -> Loaded {
        self.clock += 1;
        let now = self.clock;
        let Recently { loaded, used, .. } = self.pages.entry(page).or_default();
        self.used.remove(used);
        *used = now;
        self.used.insert(now, page);
        Arc::clone(loaded)
    }

    /// Counts a page that has been read, and drops the pages that were unused for longest.
    fn keep(&mut self, page: usize, loaded: &Loaded) {
        // The page was dropped while it was being read. Then only its readers hold it, even if
        // another thread has read it again in the meantime.
        let Some(own) = self.pages.get_mut(&page).filter(|own| Arc::ptr_eq(&own.loaded, loaded)) else {
            return;
        };
        let images = loaded.get().and_then(|images| images.as_ref().ok());
        let bytes: usize = images.map_or(0, |images| images.iter().flatten().map(ByteArray::len).sum());
        own.bytes = bytes as u64;
        self.bytes += own.bytes;
        while self.bytes > KEPT
            && let Some((_, oldest)) = self.used.pop_first()
        {
            self.bytes -= self.pages.remove(&oldest).map_or(0, |page| page.bytes);
            if oldest == page {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests;
