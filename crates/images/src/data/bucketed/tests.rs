use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::*;
use crate::data::attempts::Attempts;
use crate::data::{Batch, Cache, Config, Loader, MemoryError, Split};
use crate::picture::Picture;

/// Heights and widths of the buckets: twelve aspects.
const SIZES: [(u32, u32); 12] =
    [(8, 8), (8, 9), (9, 8), (8, 11), (11, 8), (7, 12), (12, 7), (6, 13), (13, 6), (5, 14), (14, 5), (4, 16)];
const START: Cursor = Cursor { epoch: 0, position: 0, ahead: 0 };

/// The bytes of a batch, and the shape that they were asked for.
#[derive(Debug)]
struct Memory {
    shape: [usize; 4],
    bytes: Vec<u8>,
}

impl BatchMemory for Memory {
    type Image = Vec<u8>;
    type Rest = [usize; 4];

    fn split(self, images: usize) -> Result<([usize; 4], Vec<Vec<u8>>), MemoryError> {
        let ((), parts) = <Vec<u8> as BatchMemory>::split(self.bytes, images)?;
        Ok((self.shape, parts))
    }

    fn join(shape: [usize; 4], images: Vec<Vec<u8>>) -> Result<Self, MemoryError> {
        Ok(Self { shape, bytes: images.concat() })
    }
}

fn allocate(shape: [usize; 4]) -> Result<Memory, MemoryError> {
    Ok(Memory { shape, bytes: vec![0; shape.iter().product()] })
}

/// A picture of an aspect near to that of bucket `index % 12`, whose red is `index` everywhere.
fn picture(index: usize) -> Picture {
    let (height, width) = SIZES[index % 12];
    // Slightly off the bucket's aspect, and of another size.
    let (height, width) = (6 * height as usize + index % 2, 6 * width as usize + index % 3);
    let mut rgb: Vec<u8> = (0..3 * width * height).map(|at| (at * 7 % 200) as u8).collect();
    rgb.chunks_mut(3).for_each(|pixel| pixel[0] = index as u8);
    Picture { width, height, rgb }
}

/// `images` pictures in a folder, or dealt to `tars` tars. Those in `bad` are cut short, so that
/// they still have a size.
fn dataset(images: usize, tars: usize, bad: &[usize]) -> (tempfile::TempDir, Arc<Dataset>) {
    let root = tempfile::tempdir().unwrap();
    let file = |index: usize| {
        let png = picture(index).to_png().unwrap();
        if bad.contains(&index) { png[..40].to_vec() } else { png }
    };
    let name = |index: usize| format!("{index:03}.png");
    if tars == 0 {
        (0..images).for_each(|index| fs::write(root.path().join(name(index)), file(index)).unwrap());
    }
    for tar in 0..tars {
        let mut builder = tar::Builder::new(vec![]);
        for index in (tar..images).step_by(tars) {
            let (bytes, mut header) = (file(index), tar::Header::new_gnu());
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append_data(&mut header, name(index), &bytes[..]).unwrap();
        }
        fs::write(root.path().join(format!("{tar}.tar")), builder.into_inner().unwrap()).unwrap();
    }
    let set = open(root.path());
    (root, set)
}

fn open(root: &Path) -> Arc<Dataset> {
    Arc::new(Dataset::open(root, Split::All).unwrap())
}

fn config(workers: usize) -> Config {
    let sizes = SIZES.map(|(height, width)| ImageSize { height, width });
    Config { image_size: sizes[0], buckets: Some(sizes.to_vec()), workers, queue: 2, ..Config::default() }
}

/// Names, bytes, shape and cursor of a batch.
type Content = (Vec<String>, Vec<u8>, [usize; 4], Cursor);

fn loader(set: &Arc<Dataset>, config: &Config, batch: usize, start: Cursor, share: Share) -> Loader<Memory> {
    Loader::train(Arc::clone(set), config, batch, Seed(7), start, share, allocate).unwrap()
}

fn content(batch: &Batch<Memory>) -> Content {
    (batch.names.clone(), batch.images.bytes.clone(), batch.images.shape, batch.cursor)
}

fn contents(set: &Arc<Dataset>, batch: usize, start: Cursor, share: Share, count: usize) -> Vec<Content> {
    let loader = loader(set, &config(3), batch, start, share);
    loader.take(count).map(|batch| content(&batch.unwrap())).collect()
}

/// What `size` processes load together: the parts of each batch one after another.
fn together(set: &Arc<Dataset>, batch: usize, start: Cursor, size: usize, count: usize) -> Vec<Content> {
    let part = |rank| contents(set, batch, start, Share { rank, size }, count);
    let parts: Vec<Vec<Content>> = (0..size).map(part).collect();
    let whole = |number: usize| {
        let (_, _, [own, channels, height, width], cursor) = parts[0][number];
        let mut whole = (vec![], vec![], [own * size, channels, height, width], cursor);
        for part in &parts {
            let (names, bytes, shape, own_cursor) = &part[number];
            assert_eq!((*shape, *own_cursor), ([own, channels, height, width], cursor));
            whole.0.extend_from_slice(names);
            whole.1.extend_from_slice(bytes);
        }
        whole
    };
    (0..count).map(whole).collect()
}

fn index_of(name: &str) -> usize {
    let at = name.len() - "000.png".len();
    name[at..at + 3].parse().unwrap()
}

#[test]
fn every_image_comes_once_an_epoch_in_the_size_of_its_aspect() {
    // 4 images in each bucket.
    for tars in [0, 3] {
        let (_root, set) = dataset(48, tars, &[]);
        let batches = contents(&set, 4, START, Share::whole(), 36);
        for (epoch, batches) in batches.chunks(12).enumerate() {
            let mut seen: Vec<usize> =
                batches.iter().flat_map(|batch| &batch.0).map(|name| index_of(name)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..48));
            let last = Cursor { epoch: epoch as u64, position: 48, ahead: 0 };
            assert_eq!(batches[11].3, last);
            let shapes: BTreeSet<[usize; 4]> = batches.iter().map(|batch| batch.2).collect();
            assert_eq!(shapes.len(), 12);
        }
        for (names, bytes, shape, _) in &batches {
            let [images, channels, height, width] = *shape;
            assert_eq!((images, channels, bytes.len()), (4, 3, 4 * 3 * height * width));
            for (image, name) in bytes.chunks(3 * height * width).zip(names) {
                let index = index_of(name);
                assert_eq!(SIZES[index % 12], (height as u32, width as u32), "{name}");
                assert!(image[..height * width].iter().all(|&red| usize::from(red) == index));
            }
        }
        let orders: BTreeSet<Vec<&String>> =
            batches.chunks(12).map(|epoch| epoch.iter().flat_map(|batch| &batch.0).collect()).collect();
        assert_eq!(orders.len(), 3);
    }
}

#[test]
fn what_does_not_fill_a_batch_waits_for_the_next_epoch() {
    // 50 images: buckets of 5 and of 4, in batches of 3.
    let (_root, set) = dataset(50, 0, &[]);
    let batches = contents(&set, 3, START, Share::whole(), 50);
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    for name in batches.iter().flat_map(|batch| &batch.0) {
        *times.entry(index_of(name)).or_default() += 1;
    }
    // After three epochs nothing waits.
    assert_eq!(times.len(), 50);
    assert!(times.values().all(|times| *times == 3), "{times:?}");
    let per_epoch = |epoch| batches.iter().filter(|batch| batch.3.epoch == epoch).count();
    assert_eq!(per_epoch(0), 12);
    assert_eq!(per_epoch(1), 2 * 2 + 10, "two of each bucket of 5");
}

#[test]
fn any_number_of_processes_and_threads_gives_the_same_batches() {
    for (set, batch) in [(dataset(50, 0, &[]), 6), (dataset(50, 2, &[]), 6), (dataset(31, 0, &[]), 12)] {
        let whole = together(&set.1, batch, START, 1, 30);
        let one: Vec<Content> = loader(&set.1, &config(1), batch, START, Share::whole())
            .take(30)
            .map(|batch| content(&batch.unwrap()))
            .collect();
        assert_eq!(one, whole);
        for size in [2, 3] {
            assert_eq!(together(&set.1, batch, START, size, 30), whole, "{size} processes");
        }
    }
}

#[test]
fn every_cursor_resumes_exactly_with_any_number_of_processes() {
    // The pictures in the folder that cannot be used change nothing of it.
    let (root, set) = dataset(50, 0, &[3, 17, 29, 40]);
    let whole = contents(&set, 6, START, Share::whole(), 25);
    for (stop, (.., cursor)) in whole.iter().enumerate().take(20) {
        // As in a new process, which knows nothing of bad images.
        let fresh = open(root.path());
        for size in [1, 2, 3] {
            let resumed = together(&fresh, 6, *cursor, size, 5);
            assert_eq!(resumed, whole[stop + 1..stop + 6], "after batch {stop}, {size} processes");
        }
    }
}

#[test]
fn another_image_of_the_bucket_takes_the_place_of_a_bad_one() {
    let bad = [3, 17, 29, 40];
    let (_root, set) = dataset(48, 0, &bad);
    let (_clean_root, clean) = dataset(48, 0, &[]);
    let expected = contents(&clean, 4, START, Share::whole(), 24);
    let mut reported = BTreeSet::new();
    for (batch, expected) in loader(&set, &config(2), 4, START, Share::whole()).take(24).zip(&expected) {
        let batch = batch.unwrap();
        assert_eq!((batch.images.shape, batch.cursor), (expected.2, expected.3));
        let image = 3 * expected.2[2] * expected.2[3];
        for (slot, (name, meant)) in batch.names.iter().zip(&expected.0).enumerate() {
            let index = index_of(name);
            if bad.contains(&index_of(meant)) {
                assert!(index % 12 == index_of(meant) % 12 && !bad.contains(&index));
                assert_eq!(usize::from(batch.images.bytes[slot * image]), index);
            } else {
                assert_eq!(name, meant);
                assert_eq!(batch.images.bytes[slot * image..][..image], expected.1[slot * image..][..image]);
            }
        }
        for sample in &batch.bad {
            assert!(sample.reason.contains("PNG"), "{}", sample.reason);
            reported.insert(index_of(&sample.name));
        }
    }
    assert!(reported.into_iter().eq(bad));
}

#[test]
fn the_bucket_with_the_nearest_aspect_fills_one_without_a_good_image() {
    // All images of the bucket of index 5, whose neighbour is that of index 3.
    let (_root, set) = dataset(48, 0, &[5, 17, 29, 41]);
    let (_clean_root, clean) = dataset(48, 0, &[]);
    let [filled, whole] = [&set, &clean].map(|set| together(set, 4, START, 1, 24));
    for (batch, meant) in filled.iter().zip(&whole) {
        assert_eq!((batch.2, batch.3), (meant.2, meant.3));
        let buckets = [batch, meant].map(|batch| index_of(&batch.0[0]) % 12);
        assert!(buckets == if batch.2[2..] == [7, 12] { [3, 5] } else { [buckets[1]; 2] }, "{buckets:?}");
    }
}

#[test]
fn an_image_that_failed_is_tried_again_in_the_next_epoch() {
    let (_root, dataset) = dataset(48, 0, &[]);
    let buckets = Arc::new(dataset.buckets(&config(1)).unwrap());
    let source = Source { dataset, buckets, seed: Seed(7), window: 7, share: Share::whole(), batch_size: 4 };
    let attempts = Attempts::new(&source);
    // The image that takes the turn of image 3, and how many bad ones were met.
    let taken = |epoch: u64, fails: bool| {
        let job = Job { batch: 0, slot: 0, bucket: 3, epoch, image: 3, memory: vec![0_u8] };
        let load = |image: usize, _: &mut [u8]| {
            if fails && image == 3 { Err("the disk is away".to_owned()) } else { Ok(Marks::default()) }
        };
        let done = attempts.done(job, load);
        (done.loaded.unwrap().image, done.bad.len())
    };
    let (other, bad) = taken(0, true);
    assert!(other != 3 && other % 12 == 3 && bad == 1);
    assert_eq!(taken(0, false), (other, 0));
    assert_eq!(taken(1, false), (3, 0));
}

#[test]
fn a_process_that_cannot_read_a_bucket_stays_with_the_others() {
    let ((_root, set), (_clean_root, clean)) = (dataset(48, 0, &[5, 17, 29, 41]), dataset(48, 0, &[]));
    let places = |set: &Arc<Dataset>, rank| -> Vec<([usize; 4], Cursor)> {
        let batches = contents(set, 4, START, Share { rank, size: 2 }, 30);
        batches.into_iter().map(|(_, _, shape, cursor)| (shape, cursor)).collect()
    };
    assert_eq!(places(&clean, 0), places(&set, 1));
}

#[test]
fn a_set_without_a_good_image_is_an_error_that_has_all_of_them() {
    let (_root, none) = dataset(48, 0, &(0..48).collect::<Vec<usize>>());
    let mut loader = loader(&none, &config(2), 4, START, Share::whole());
    let Some(Err(DataError::NoGoodImages { total: 48, bad })) = loader.next() else { panic!() };
    let names: BTreeSet<&String> = bad.iter().map(|sample| &sample.name).collect();
    assert_eq!(names.len(), 48);
    assert!(loader.next().is_none());
}

#[test]
fn a_picture_without_a_size_counts_as_bad_when_its_turn_comes() {
    let (root, _) = dataset(47, 0, &[]);
    fs::write(root.path().join("047.png"), "no picture").unwrap();
    let set = open(root.path());
    assert!(set.bucket_counts(&config(1)).is_none());
    let read = std::cell::Cell::new(0);
    let sizes = set.read_picture_sizes(&config(3), &|more| read.set(read.get() + more)).unwrap();
    assert_eq!((sizes[..2].to_vec(), sizes.len(), read.get()), (vec![[48, 48], [55, 49]], 48, 48));
    let (counts, unknown) = set.bucket_counts(&config(1)).unwrap();
    assert_eq!((counts[0].1, counts[11].1, unknown), (5, 3, 1));
    // So another process that can read it has other buckets.
    let digest = |bad: &[usize]| {
        let (_root, set) = dataset(48, 0, bad);
        set.read_picture_sizes(&config(1), &|_| ()).unwrap();
        (set.bucket_digest(&config(1)).unwrap(), set.bucket_digest(&Config::default()))
    };
    assert_ne!(digest(&[]).0, set.bucket_digest(&config(1)).unwrap());
    assert_eq!(digest(&[]), digest(&[47]));
    assert_eq!(digest(&[]).1, None);
    let bad: Vec<String> = loader(&set, &config(2), 3, START, Share::whole())
        .take(25)
        .flat_map(|batch| batch.unwrap().bad)
        .map(|sample| sample.name)
        .collect();
    assert!(!bad.is_empty() && bad.iter().all(|name| name == "047.png"), "{bad:?}");
}

#[test]
fn a_cache_changes_nothing_from_one_epoch_to_the_next() {
    // Those of one bucket are bad, so that images of another one are cut to its size.
    let (root, _) = dataset(48, 0, &[5, 17, 29, 41]);
    let batches = |cache_gib: f64| {
        let config = Config { cache_gib, ..config(2) };
        let cache = Cache::new(&config).unwrap();
        let set = Arc::new(Dataset::open(root.path(), Split::All).unwrap().with_cache(cache));
        let loader = loader(&set, &config, 4, START, Share::whole());
        loader.take(30).map(|batch| content(&batch.unwrap())).collect::<Vec<_>>()
    };
    // Space for all images, and for none.
    assert_eq!(batches(1e-3), batches(1e-9));
}

#[test]
fn memory_that_is_lacking_and_small_sets_are_errors() {
    let (_root, set) = dataset(12, 0, &[]);
    let none = |_| Err::<Memory, MemoryError>("there is none".into());
    let mut loader =
        Loader::train(Arc::clone(&set), &config(2), 4, Seed(1), START, Share::whole(), none).unwrap();
    assert!(matches!(loader.next(), Some(Err(DataError::BatchMemory(_)))));
    assert!(loader.next().is_none());
    let fail = |batch, share| {
        let set = Arc::clone(&set);
        Loader::train(set, &config(1), batch, Seed(1), START, share, allocate).unwrap_err().to_string()
    };
    assert!(fail(13, Share::whole()).contains("a batch of 13 is larger than the data set"));
    assert!(fail(0, Share::whole()).contains("at least 1"));
    assert!(fail(4, Share { rank: 0, size: 3 }).contains("a multiple of the number of processes"));
    // One image in each bucket: the first batch comes in the fourth epoch.
    let batches = contents(&set, 4, START, Share::whole(), 13);
    assert!(batches[..12].iter().all(|batch| batch.3.epoch == 3) && batches[12].3.epoch == 7);
    assert!(batches[0].0.iter().all(|name| *name == batches[0].0[0]));
}
