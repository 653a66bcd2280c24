//! Keeps decoded pictures in a file without a name for later epochs.
//!
//! The file is written with plain calls, which fail when the disk is full, and read through a
//! memory map, which saves a copy. Each image has its own place in the file, which is written once
//! before any thread can read it.

use std::env;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::{MmapOptions, MmapRaw};

use super::resample::View;
use super::transform::Form;
use super::{Config, DataError};
use crate::picture::DecodeOptions;

const GIB: f64 = 1_073_741_824.0;

/// Space for decoded images.
#[derive(Debug)]
pub struct Cache {
    file: File,
    map: MmapRaw,
    capacity: u64,
    /// The number of bytes that are allocated to images.
    used: AtomicU64,
}

impl Cache {
    /// A cache of the size of `data.cache_gib`; `None` for 0. The file is sparse: it takes only the
    /// disk space of its content.
    ///
    /// # Errors
    /// When it cannot be made, or the disk has less space. The folder is that of temporary files.
    pub fn new(config: &Config) -> Result<Option<Arc<Cache>>, DataError> {
        if config.cache_gib == 0.0 {
            return Ok(None);
        }
        let path = env::temp_dir();
        let fail = |reason: String| DataError::Cache { gib: config.cache_gib, path: path.clone(), reason };
        let capacity = (config.cache_gib * GIB) as u64;
        if let Ok(disk) = rustix::fs::statvfs(&path) {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if disk.f_blocks > 0 && free < capacity {
                return Err(fail(format!("it has {:.2} GiB free", free as f64 / GIB)));
            }
        }
        let make = || {
            let file = tempfile::tempfile_in(&path)?;
            // A map of length 0 is refused.
            file.set_len(capacity.max(1))?;
            let map = MmapOptions::new().map_raw_read_only(&file)?;
            Ok::<_, std::io::Error>((file, map))
        };
        let (file, map) = make().map_err(|error| fail(error.to_string()))?;
        Ok(Some(Arc::new(Cache { file, map, capacity, used: AtomicU64::new(0) })))
    }

    /// Writes `bytes` and returns their offset; `None` if they do not fit on the disk or below the
    /// limit.
    fn write(&self, bytes: &[u8]) -> Option<u64> {
        let length = bytes.len() as u64;
        let take = |used: u64| used.checked_add(length).filter(|&end| end <= self.capacity);
        let start = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        if self.file.write_all_at(bytes, start).is_err() {
            // The disk is full, so the next write would fail too.
            self.used.store(self.capacity, Ordering::Relaxed);
            return None;
        }
        Some(start)
    }
}

/// The place of an image in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u64,
    width: u32,
    height: u32,
}

/// The images of one data set in the cache.
#[derive(Debug)]
pub(super) struct Kept {
    cache: Arc<Cache>,
    places: Vec<OnceLock<Place>>,
    /// How the kept images were decoded and transformed. The first caller decides.
    form: OnceLock<(Form, DecodeOptions)>,
}

impl Kept {
    /// An empty set for `images` images.
    pub(super) fn new(cache: Arc<Cache>, images: usize) -> Kept {
        Kept { cache, places: vec![OnceLock::new(); images], form: OnceLock::new() }
    }

    /// Whether images are kept in this form.
    pub(super) fn is_of(&self, form: Form, decode: &DecodeOptions) -> bool {
        let own = self.form.get_or_init(|| (form, decode.clone()));
        (own.0, &own.1) == (form, decode)
    }

    /// Image `index`, if it is kept.
    pub(super) fn get(&self, index: usize) -> Option<View<'_>> {
        let Place { start, width, height } = *self.places[index].get()?;
        let (width, height) = (width as usize, height as usize);
        // SAFETY: `start` and the length describe a range within the map, since `write` allocated
        // it. The range was written before its place was set, and is never written again, because
        // no other image gets it. The file has no name and its handle stays in the cache, so nobody
        // else changes or shortens it.
        #[allow(unsafe_code, reason = "a view into a memory map")]
        let bytes = unsafe {
            std::slice::from_raw_parts(self.cache.map.as_ptr().add(start as usize), 3 * width * height)
        };
        Some(View { width, height, bytes })
    }

    /// Keeps image `index` if there is space.
    pub(super) fn put(&self, index: usize, image: View) {
        if let Some(start) = self.cache.write(image.bytes) {
            let place = Place { start, width: image.width as u32, height: image.height as u32 };
            // If another thread was faster, its place holds the same bytes.
            let _ = self.places[index].set(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::transform::Transform;

    fn cache(bytes: u64) -> Arc<Cache> {
        let config = Config { cache_gib: bytes as f64 / GIB, ..Config::default() };
        Cache::new(&config).unwrap().unwrap()
    }

    #[test]
    fn images_come_back_until_the_room_ends() {
        let kept = Kept::new(cache(3 * 70), 4);
        let image = |value: u8| vec![value; 3 * 5 * 7];
        for index in [2, 0, 1] {
            kept.put(index, View { width: 5, height: 7, bytes: &image(index as u8) });
        }
        for index in [0, 2] {
            let view = kept.get(index).unwrap();
            assert_eq!((view.width, view.height, view.bytes), (5, 7, &*image(index as u8)));
        }
        assert!(kept.get(1).is_none() && kept.get(3).is_none());
    }

    #[test]
    fn threads_share_it() {
        let kept = Kept::new(cache(3 * 64 * 1000), 1000);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let kept = &kept;
                scope.spawn(move || {
                    for index in (thread % 2..1000).step_by(2) {
                        kept.put(index, View { width: 8, height: 8, bytes: &[index as u8; 192] });
                        if let Some(view) = kept.get(index) {
                            assert!(view.bytes.iter().all(|&byte| byte == index as u8));
                        }
                    }
                });
            }
        });
        assert!((0..1000).filter(|&index| kept.get(index).is_some()).count() >= 500);
    }

    #[test]
    fn another_form_has_no_use_of_it() {
        let kept = Kept::new(cache(1), 1);
        let config = Config::default();
        let decode = config.decode_options();
        assert!(kept.is_of(Transform::train(&config).form(), &decode));
        assert!(kept.is_of(Transform::eval(&config).form(), &decode));
        let larger = Config { resize: Some(99), ..Config::default() };
        assert!(!kept.is_of(Transform::train(&larger).form(), &decode));
        assert!(
            !kept.is_of(Transform::train(&config).form(), &DecodeOptions { lenient_jpeg: true, ..decode })
        );
    }

    #[test]
    fn none_is_made_for_nothing_and_too_much_is_refused() {
        assert!(Cache::new(&Config::default()).unwrap().is_none());
        let message = Cache::new(&Config { cache_gib: 1e6, ..Config::default() }).unwrap_err().to_string();
        for part in ["data.cache_gib = 1000000", "GiB free", "set TMPDIR"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
