use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::data::order::order;
use crate::data::{Crop, ImageSize, Split};
use crate::picture::Picture;

/// Writes a 9x8 picture whose every pixel is (index, 0, 255 - index), except for a marked column on
/// the left.
fn write_picture(path: &Path, index: u8) {
    let mut rgb = [index, 0, 255 - index].repeat(9 * 8);
    for row in rgb.chunks_mut(27) {
        row[1] = 200;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, Picture { width: 9, height: 8, rgb }.to_png().unwrap()).unwrap();
}

/// `images` pictures in two class folders; those in `bad` are damaged.
fn folder(images: u8, bad: &[u8]) -> (tempfile::TempDir, Arc<Dataset>) {
    let root = tempfile::tempdir().unwrap();
    for index in 0..images {
        let path = root.path().join(format!("c{}/{index:03}.png", index / 10));
        write_picture(&path, index);
        if bad.contains(&index) {
            fs::write(&path, "no picture").unwrap();
        }
    }
    let dataset = Arc::new(Dataset::open(root.path(), Split::All).unwrap());
    (root, dataset)
}

fn config(workers: usize) -> Config {
    Config {
        image_size: ImageSize { height: 7, width: 5 },
        resize: Some(8),
        workers,
        queue: 2,
        ..Config::default()
    }
}

type Memory = Vec<u8>;

fn allocate(shape: [usize; 4]) -> Result<Memory, MemoryError> {
    Ok(vec![0; shape.iter().product()])
}

fn train(dataset: &Arc<Dataset>, workers: usize, batch: usize, start: Cursor) -> Loader<Memory> {
    Loader::train(Arc::clone(dataset), &config(workers), batch, Seed(11), start, Share::whole(), allocate)
        .unwrap()
}

/// The values of the image in `slot`, `[3, 7, 5]`.
fn image(batch: &Batch<Memory>, slot: usize) -> &[u8] {
    &batch.images[slot * 105..(slot + 1) * 105]
}

/// Everything in a batch except for its bad images, for comparison.
type Content = (Vec<String>, Vec<u8>, Cursor);

fn content(batch: &Batch<Memory>) -> Content {
    (batch.names.clone(), batch.images[..batch.names.len() * 105].to_vec(), batch.cursor)
}

fn contents(loader: Loader<Memory>, batches: usize) -> Vec<Content> {
    loader.take(batches).map(|batch| content(&batch.unwrap())).collect()
}

const START: Cursor = Cursor { epoch: 0, position: 0, ahead: 0 };

#[test]
fn batches_hold_the_named_pictures() {
    let (_root, dataset) = folder(20, &[]);
    for batch in train(&dataset, 2, 3, START).take(10) {
        let batch = batch.unwrap();
        assert_eq!((batch.names.len(), batch.images.len()), (3, 3 * 105));
        for (slot, name) in batch.names.iter().enumerate() {
            let index: u8 = name[3..6].parse().unwrap();
            assert_eq!(batch.labels[slot], Some(usize::from(index >= 10)));
            assert_eq!(image(&batch, slot)[3 * 5 + 2], index);
            assert_eq!(image(&batch, slot)[2 * 35 + 6 * 5 + 4], 255 - index);
        }
    }
}

#[test]
fn an_epoch_shows_every_image_once_and_drops_the_remainder() {
    let (_root, dataset) = folder(20, &[]);
    let batches = contents(train(&dataset, 2, 6, START), 6);
    for epoch in 0..2 {
        let mut names: Vec<&String> = batches[3 * epoch..3 * epoch + 3].iter().flat_map(|b| &b.0).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 18);
        assert_eq!(batches[3 * epoch + 2].2, Cursor { epoch: epoch as u64, position: 18, ahead: 0 });
    }
    assert_ne!(batches[0].0, batches[3].0);
}

#[test]
fn any_number_of_threads_gives_the_same_batches() {
    let (_root, dataset) = folder(20, &[3, 4, 17]);
    let one = contents(train(&dataset, 1, 4, START), 15);
    assert_eq!(one, contents(train(&dataset, 4, 4, START), 15));
    let other = Loader::train(Arc::clone(&dataset), &config(1), 4, Seed(12), START, Share::whole(), allocate)
        .unwrap();
    assert_ne!(one, contents(other, 15));
}

#[test]
fn a_cursor_resumes_exactly() {
    let (_root, dataset) = folder(20, &[3, 4, 17]);
    let whole = contents(train(&dataset, 2, 4, START), 12);
    for stop in 0..11 {
        let resumed = contents(train(&dataset, 3, 4, whole[stop].2), 12 - stop - 1);
        assert_eq!(resumed, whole[stop + 1..], "after batch {stop}");
    }
}

#[test]
fn augmentation_depends_on_the_image_not_on_its_place() {
    let (_root, dataset) = folder(20, &[]);
    let images = |batch_size| -> Vec<(String, Vec<u8>)> {
        let mut images: Vec<_> = contents(train(&dataset, 2, batch_size, START), 20 / batch_size)
            .into_iter()
            .flat_map(|(names, bytes, _)| {
                names.into_iter().zip(bytes.chunks(105).map(<[u8]>::to_vec).collect::<Vec<_>>())
            })
            .collect();
        images.sort();
        images
    };
    assert_eq!(images(4), images(10));
}

#[test]
fn bad_images_are_skipped_and_reported() {
    let (_root, dataset) = folder(20, &[3, 4, 17]);
    let clean = contents(train(&folder(20, &[]).1, 1, 1, START), 20);
    let batches: Vec<Batch<Memory>> = train(&dataset, 2, 5, START).take(6).map(Result::unwrap).collect();
    // The good images of the first epoch, in the order that they would have without the bad ones.
    let expected: Vec<&String> = clean
        .iter()
        .map(|(names, ..)| &names[0])
        .filter(|name| !["c0/003.png", "c0/004.png", "c1/017.png"].contains(&name.as_str()))
        .take(15)
        .collect();
    assert_eq!(batches[..3].iter().flat_map(|batch| &batch.names).collect::<Vec<_>>(), expected);
    let mut bad: Vec<&BadSample> = batches[..3].iter().flat_map(|batch| &batch.bad).collect();
    bad.sort_by_key(|sample| &sample.name);
    for (sample, name) in bad.iter().zip(["c0/003.png", "c0/004.png", "c1/017.png"]) {
        assert_eq!(sample.name, name);
        assert!(sample.reason.contains("not an image"), "{}", sample.reason);
    }
}

#[test]
fn a_file_that_is_gone_or_unreadable_is_a_bad_image() {
    let (root, dataset) = folder(6, &[]);
    fs::remove_file(root.path().join("c0/002.png")).unwrap();
    let batch = train(&dataset, 1, 5, START).next().unwrap().unwrap();
    assert_eq!(batch.bad[0].name, "c0/002.png");
    assert!(batch.bad[0].reason.contains("cannot read"), "{}", batch.bad[0].reason);
}

#[test]
fn too_few_good_images_are_an_error() {
    let (_root, dataset) = folder(9, &[0, 1, 5]);
    let fail = |batch_size| {
        let mut loader = train(&dataset, 2, batch_size, START);
        let error = loader.next().unwrap().unwrap_err();
        assert!(loader.next().is_none());
        error
    };
    let DataError::BatchTooLarge { good: 6, total: 9, bad, .. } = fail(7) else { panic!() };
    assert_eq!(bad.len(), 3);
    let larger =
        Loader::train(Arc::clone(&dataset), &config(1), 10, Seed(0), START, Share::whole(), allocate)
            .unwrap_err();
    assert!(larger.to_string().contains("9 of 9 images"), "{larger}");
    let zero = Loader::train(Arc::clone(&dataset), &config(1), 0, Seed(0), START, Share::whole(), allocate)
        .unwrap_err();
    assert!(zero.to_string().contains("at least 1"), "{zero}");
    let (_root, none) = folder(9, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let error = train(&none, 2, 4, START).next().unwrap().unwrap_err();
    assert!(matches!(&error, DataError::NoGoodImages { total: 9, bad } if bad.len() == 9));
    assert!(error.to_string().contains("none of the 9 images can be used; for instance c0/00"), "{error}");
    let eval = Loader::eval(none, &config(1), 4, None, Share::whole(), allocate).unwrap().next().unwrap();
    assert!(matches!(eval, Err(DataError::NoGoodImages { .. })));
}

fn eval(dataset: &Arc<Dataset>, batch_size: usize, max_images: Option<usize>) -> Vec<Batch<Memory>> {
    let loader =
        Loader::eval(Arc::clone(dataset), &config(2), batch_size, max_images, Share::whole(), allocate)
            .unwrap();
    loader.map(Result::unwrap).collect()
}

#[test]
fn evaluation_is_one_pass_in_order_over_the_centres() {
    let (_root, dataset) = folder(20, &[3]);
    let batches = eval(&dataset, 8, None);
    assert_eq!(batches.iter().map(|batch| batch.names.len()).collect::<Vec<_>>(), [8, 8, 3]);
    let names: Vec<&String> = batches.iter().flat_map(|batch| &batch.names).collect();
    assert!(names.is_sorted() && names.len() == 19);
    let indices = batches.iter().flat_map(|batch| batch.image_indices.clone());
    assert!(indices.eq((0..20).filter(|&image| image != 3)));
    // The marked column at the left of the 9 columns is outside a centre crop of 5, in every
    // picture.
    assert!(batches.iter().all(|batch| {
        (0..batch.names.len()).all(|slot| image(batch, slot)[35..70].iter().all(|&value| value == 0))
    }));
    assert_eq!(batches[0].bad.len(), 1);
}

#[test]
fn evaluation_of_some_images_spreads_them() {
    let (_root, dataset) = folder(20, &[]);
    let batches = eval(&dataset, 3, Some(4));
    let names: Vec<&String> = batches.iter().flat_map(|batch| &batch.names).collect();
    assert_eq!(names, ["c0/000.png", "c0/005.png", "c1/010.png", "c1/015.png"]);
    assert_eq!(batches[1].image_indices, [15]);
    assert_eq!(eval(&dataset, 100, Some(100))[0].names.len(), 20);
    assert!(eval(&dataset, 3, Some(0)).is_empty());
}

#[test]
fn bad_images_at_the_end_of_an_evaluation_are_reported() {
    let (_root, dataset) = folder(8, &[6, 7]);
    let batches = eval(&dataset, 3, None);
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[1].bad.len(), 2);
}

#[test]
fn a_random_resized_crop_is_reproducible() {
    let (_root, dataset) = folder(12, &[]);
    let crop = Crop::RandomResized { scale: [0.3, 1.0], ratio: [0.75, 1.333] };
    let config = Config { crop, resize: None, ..config(2) };
    let loader =
        || Loader::train(Arc::clone(&dataset), &config, 4, Seed(1), START, Share::whole(), allocate).unwrap();
    let batches = || contents(loader(), 6);
    assert_eq!(batches(), batches());
}

fn threads() -> usize {
    let own = |name: &str| name.starts_with("decode-");
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| own(name) && name.contains("77"))
        .count()
}

/// Waits until this number of the loader's own threads exists. A thread is counted by its name,
/// which it takes only once it runs.
fn wait_for_threads(expected: usize) {
    let started = Instant::now();
    while threads() != expected {
        assert!(started.elapsed() < Duration::from_secs(30), "{} threads, not {expected}", threads());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn dropping_a_loader_stops_its_threads() {
    let (_root, dataset) = folder(20, &[]);
    // More threads than in any other test, so that the last ones can be distinguished from theirs.
    let mut loader = train(&dataset, 78, 4, START);
    loader.next().unwrap().unwrap();
    wait_for_threads(1);
    drop(loader);
    wait_for_threads(0);
}

#[test]
fn a_loader_that_nobody_reads_can_be_dropped() {
    let (_root, dataset) = folder(20, &[]);
    let started = Instant::now();
    for _ in 0..20 {
        drop(train(&dataset, 2, 4, START));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_cache_changes_nothing_from_one_epoch_to_the_next() {
    let (root, _) = folder(20, &[3]);
    let batches = |cache_gib: f64, crop| {
        let config = Config { cache_gib, crop, resize: None, ..config(2) };
        let cache = crate::data::Cache::new(&config).unwrap();
        let dataset = Arc::new(Dataset::open(root.path(), Split::All).unwrap().with_cache(cache));
        let start = |from| {
            Loader::train(Arc::clone(&dataset), &config, 4, Seed(1), from, Share::whole(), allocate).unwrap()
        };
        let batches = contents(start(START), 12);
        // A resumed run, whose cache holds different images.
        assert_eq!(contents(start(batches[5].2), 6), batches[6..]);
        batches
    };
    let resized = Crop::RandomResized { scale: [0.3, 1.0], ratio: [0.75, 1.333] };
    for crop in [Crop::Random {}, Crop::Centre {}, resized] {
        // Space for all images, for seven, and for none.
        let kept = batches(1e-3, crop);
        assert_eq!(batches(1500.0 / 1_073_741_824.0, crop), kept);
        assert_eq!(batches(1e-9, crop), kept);
    }
    assert_eq!(batches(1e-3, resized), batches(0.0, resized));
}

#[test]
fn kept_images_are_not_read_again() {
    let (root, _) = folder(8, &[]);
    let config = Config { cache_gib: 1e-3, ..config(1) };
    let cache = crate::data::Cache::new(&config).unwrap();
    let dataset = Arc::new(Dataset::open(root.path(), Split::All).unwrap().with_cache(cache));
    let mut loader =
        Loader::train(Arc::clone(&dataset), &config, 8, Seed(1), START, Share::whole(), allocate).unwrap();
    loader.next().unwrap().unwrap();
    drop(root);
    let after: Vec<Batch<Memory>> = Loader::eval(dataset, &config, 8, None, Share::whole(), allocate)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!((after[0].names.len(), after[0].bad.len()), (8, 0));
}

/// The batches that a loader should give, computed only from the rules: one batch at a time, one
/// image after the other. `batch_size` is this process's.
fn by_the_rules(
    dataset: &Dataset,
    (seed, window): (Seed, usize),
    (share, start): (Share, Cursor),
    batch_size: usize,
    is_bad: impl Fn(u64, usize) -> bool,
    batches: usize,
) -> Vec<(Vec<usize>, Vec<usize>, Cursor)> {
    let (mut made, mut bad, mut cursor) = (vec![], vec![], start);
    while made.len() < batches {
        let order = order(dataset, window, seed, cursor.epoch);
        // A single process takes everything. Several take turns, if there is a turn for each.
        let begin = cursor.position as usize;
        let own: Vec<usize> = if share.size == 1 {
            (begin..order.len()).collect()
        } else {
            let turns = (order.len() - begin) / (batch_size * share.size);
            let turn = |turn| begin + (turn * share.size + share.rank) * batch_size;
            (0..turns).flat_map(|number| turn(number)..turn(number) + batch_size).collect()
        };
        let (mut good, mut taken) = (vec![], cursor.ahead as usize);
        while made.len() < batches {
            let room = batch_size - good.len();
            if own.len() - taken < room {
                break;
            }
            // As many as there is space for, including the bad ones.
            for &place in &own[taken..taken + room] {
                let image = order[place] as usize;
                if is_bad(cursor.epoch, image) { bad.push(image) } else { good.push(image) }
            }
            taken += room;
            if good.len() == batch_size {
                let (position, ahead) = if share.size == 1 {
                    (begin + taken, 0)
                } else {
                    (begin + taken / batch_size * batch_size * share.size, taken % batch_size)
                };
                let end = Cursor { epoch: cursor.epoch, position: position as u64, ahead: ahead as u64 };
                made.push((std::mem::take(&mut good), std::mem::take(&mut bad), end));
            }
        }
        cursor = Cursor { epoch: cursor.epoch + 1, ..START };
    }
    made
}

/// Loads 25 batches in which images are bad or slow at random, and compares them with the rules.
fn keeps_the_rules(dataset: &Arc<Dataset>, round: u64, share: Share, batch_size: usize, start: Cursor) {
    let names: Vec<String> = (0..dataset.len()).map(|image| dataset.name(image).into_owned()).collect();
    let choice = |what: &str, below: u64| Seed(round).derive(what, &[]).0 % below;
    let share_of_bad = choice("bad", 5);
    // Different images in every epoch, so that the pattern moves through the batches.
    let is_bad = move |epoch: u64, image: usize| {
        Seed(round).derive("is bad", &[epoch, image as u64]).0 % 10 < share_of_bad
    };
    let (seed, window) = (Seed(round), 7);
    let pass = Pass::Train { seed, window };
    let loaded = Arc::new(Mutex::new(0_u64));
    let load = move |image: usize, seed: Seed, planes: &mut [u8]| {
        let turn = {
            let mut loaded = loaded.lock().unwrap();
            *loaded += 1;
            *loaded
        };
        thread::sleep(Duration::from_micros(Seed(round).derive("wait", &[turn]).0 % 300));
        planes.fill(image as u8);
        let epoch = (0..).find(|&epoch| pass.seed(epoch, image).0 == seed.0).unwrap();
        if is_bad(epoch, image) { Err("bad".to_owned()) } else { Ok(Marks::default()) }
    };
    let workers = 1 + choice("workers", 5) as usize;
    let config = Config { queue: 1 + choice("queue", 3) as usize, ..config(workers) };
    let plan = (pass, share, start);
    let loader = Loader::start(Arc::clone(dataset), &config, plan, batch_size, allocate, load);
    let made = loader.unwrap().take(25).map(|batch| {
        let batch: Batch<Memory> = batch.unwrap();
        let place = |name: &String| names.binary_search(name).unwrap();
        let images: Vec<usize> = batch.names.iter().map(place).collect();
        for (slot, &index) in images.iter().enumerate() {
            assert!(image(&batch, slot).iter().all(|&value| usize::from(value) == index), "round {round}");
        }
        (images, batch.bad.iter().map(|bad| place(&bad.name)).collect::<Vec<_>>(), batch.cursor)
    });
    let made: Vec<_> = made.collect();
    let expected = by_the_rules(dataset, (seed, window), (share, start), batch_size, is_bad, 25);
    assert_eq!(made, expected, "round {round}, {share:?}");
}

#[test]
fn images_take_their_places_whichever_are_bad_and_whichever_are_slow() {
    let (_root, dataset) = folder(23, &[]);
    for round in 0..60_u64 {
        let choice = |what: &str, below: u64| Seed(round).derive(what, &[]).0 % below;
        let start = Cursor { epoch: round % 3, position: choice("start", 12), ahead: 0 };
        keeps_the_rules(&dataset, round, Share::whole(), 1 + choice("batch", 7) as usize, start);
    }
}

#[test]
fn processes_skip_their_own_bad_images() {
    let (_root, dataset) = folder(97, &[]);
    for round in 0..60_u64 {
        let choice = |what: &str, below: u64| Seed(round).derive(what, &[]).0 % below;
        let size = 2 + choice("processes", 3) as usize;
        let share = Share { rank: choice("rank", size as u64) as usize, size };
        let own = 1 + choice("batch", 6) as usize;
        let ahead = choice("ahead", own as u64);
        let start = Cursor { epoch: round % 3, position: choice("start", 50), ahead };
        keeps_the_rules(&dataset, round, share, own, start);
    }
}

#[test]
fn a_batch_does_not_wait_for_its_slowest_image() {
    let (_root, dataset) = folder(20, &[]);
    let pass = Pass::Eval { images: 20 };
    let (release, slow) = channel::<()>();
    let (tell, loaded) = channel();
    let (slow, tell) = (Mutex::new(slow), Mutex::new(tell));
    let load = move |image: usize, _, planes: &mut [u8]| {
        if image == 1 {
            slow.lock().unwrap().recv().unwrap();
        }
        planes.fill(image as u8);
        tell.lock().unwrap().send(image).unwrap();
        Ok(Marks::default())
    };
    // Batches of 4, three of them ahead: one is being made and two are ready.
    let plan = (pass, Share::whole(), START);
    let mut loader = Loader::start(Arc::clone(&dataset), &config(2), plan, 4, allocate, load).unwrap();
    let before: HashSet<usize> =
        (0..11).map(|_| loaded.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
    assert_eq!(before, (0..12).filter(|&image| image != 1).collect());
    // And no more.
    assert!(loaded.recv_timeout(Duration::from_millis(50)).is_err());
    release.send(()).unwrap();
    for batch in 0..5 {
        let made: Batch<Memory> = loader.next().unwrap().unwrap();
        for slot in 0..4 {
            assert!(image(&made, slot).iter().all(|&value| usize::from(value) == 4 * batch + slot));
        }
    }
    assert!(loader.next().is_none());
}

#[test]
fn a_panic_while_loading_is_an_error() {
    let (_root, dataset) = folder(20, &[]);
    let load = |image: usize, _, _: &mut [u8]| {
        assert!(image != 13, "a test");
        Ok(Marks::default())
    };
    let plan = (Pass::Eval { images: 20 }, Share::whole(), START);
    let loader = Loader::<Memory>::start(dataset, &config(1), plan, 4, allocate, load).unwrap();
    let batches: Vec<_> = loader.map(|batch| batch.map(|batch| batch.names.len())).collect();
    assert!(batches[..batches.len() - 1].iter().all(|batch| matches!(batch, Ok(4))));
    assert!(matches!(batches.last(), Some(Err(DataError::Loader(_)))), "{batches:?}");
}

#[test]
fn a_lack_of_memory_is_an_error() {
    let (_root, dataset) = folder(20, &[]);
    let none = |_| Err::<Memory, MemoryError>("there is none".into());
    let mut loader = Loader::train(dataset, &config(2), 4, Seed(1), START, Share::whole(), none).unwrap();
    assert!(matches!(loader.next(), Some(Err(DataError::BatchMemory(_)))));
    assert!(loader.next().is_none());
}

/// The results of `load` for each of `size` processes.
fn shares<T>(size: usize, load: impl Fn(Share) -> T) -> Vec<T> {
    (0..size).map(|rank| load(Share { rank, size })).collect()
}

/// A share of batches of 12 images of all processes together.
fn part(dataset: &Arc<Dataset>, start: Cursor, share: Share) -> Loader<Memory> {
    Loader::train(Arc::clone(dataset), &config(2), 12, Seed(3), start, share, allocate).unwrap()
}

/// What `size` processes load from `start` on: batches of 12, each the parts one after another.
fn together(dataset: &Arc<Dataset>, size: usize, start: Cursor, batches: usize) -> Vec<Content> {
    let parts = shares(size, |share| contents(part(dataset, start, share), batches));
    let whole = |number: usize| {
        let parts: Vec<&Content> = parts.iter().map(|part| &part[number]).collect();
        let names = parts.iter().flat_map(|(names, ..)| names.clone()).collect();
        let bytes = parts.iter().flat_map(|(_, bytes, _)| bytes.clone()).collect();
        assert!(parts.iter().all(|(.., cursor)| *cursor == parts[0].2), "batch {number} of {size} processes");
        (names, bytes, parts[0].2)
    };
    (0..batches).map(whole).collect()
}

/// Tars with these numbers of pictures.
fn tars(pictures: &[u8]) -> (tempfile::TempDir, Arc<Dataset>) {
    let root = tempfile::tempdir().unwrap();
    let mut index = 0;
    for (tar, &count) in pictures.iter().enumerate() {
        let mut builder = tar::Builder::new(vec![]);
        for _ in 0..count {
            let path = root.path().join("picture.png");
            write_picture(&path, index);
            builder.append_path_with_name(&path, format!("{index:03}.png")).unwrap();
            fs::remove_file(path).unwrap();
            index += 1;
        }
        fs::write(root.path().join(format!("{tar}.tar")), builder.into_inner().unwrap()).unwrap();
    }
    let dataset = Arc::new(Dataset::open(root.path(), Split::All).unwrap());
    (root, dataset)
}

/// Sets whose epochs have 3 and 4 whole batches of 12: a folder, fewer tars than processes, and
/// more.
fn sets() -> [(tempfile::TempDir, Arc<Dataset>); 4] {
    [folder(41, &[]), folder(48, &[]), tars(&[41]), tars(&[9, 5, 11, 3, 8, 5])]
}

#[test]
fn the_batches_of_all_processes_are_together_those_of_one() {
    for (_root, dataset) in sets() {
        // From the start, within a batch, near the end of an epoch, and at the very end.
        for position in [0, 7, 25, dataset.len() as u64] {
            let start = Cursor { epoch: 1, position, ahead: 0 };
            let whole = contents(part(&dataset, start, Share::whole()), 10);
            assert!(whole.iter().all(|(names, ..)| names.len() == 12));
            assert!(whole[9].2.epoch > 1);
            for size in [1, 2, 3, 4] {
                assert_eq!(together(&dataset, size, start, 10), whole, "{size} processes from {position} on");
            }
        }
    }
}

#[test]
fn another_number_of_processes_goes_on_with_the_same_images() {
    for (_root, dataset) in sets() {
        let start = Cursor { epoch: 0, position: 5, ahead: 0 };
        let whole = contents(part(&dataset, start, Share::whole()), 17);
        for (before, after) in [(1, 2), (2, 1), (2, 3), (3, 2), (4, 1), (3, 4)] {
            let stopped = together(&dataset, before, start, 7);
            for stop in [0, 3, 6] {
                let resumed = together(&dataset, after, stopped[stop].2, 10);
                assert_eq!(resumed, whole[stop + 1..stop + 11], "{before}, then {after} processes");
            }
        }
    }
}

#[test]
fn processes_with_bad_images_resume_exactly() {
    let (_root, dataset) = folder(97, &[3, 4, 17, 40, 41, 66, 80, 81, 82, 90]);
    for size in [2, 3, 4] {
        let whole = shares(size, |share| contents(part(&dataset, START, share), 20));
        assert!(whole.iter().any(|batches| batches.iter().any(|batch| batch.2.ahead > 0)));
        for stop in [0, 1, 4, 6, 7, 8, 13] {
            let resumed = shares(size, |share| {
                contents(part(&dataset, whole[share.rank][stop].2, share), 20 - stop - 1)
            });
            for (resumed, whole) in resumed.iter().zip(&whole) {
                assert_eq!(*resumed, whole[stop + 1..], "{size} processes after batch {stop}");
            }
        }
    }
}

#[test]
fn a_process_takes_each_image_of_its_share_once() {
    let bad = [3, 4, 17, 40, 41, 66, 80, 81, 82, 90];
    let (_root, dataset) = folder(97, &bad);
    for share in shares(3, |share| share) {
        let order = order(&dataset, config(1).shuffle_window, Seed(3), 0);
        let own: Vec<String> = share
            .of_batches(&order, 12)
            .into_iter()
            .map(|image| dataset.name(image as usize).into_owned())
            .collect();
        let damaged = |name: &String| bad.contains(&name[3..6].parse::<u8>().unwrap());
        let batches: Vec<Batch<Memory>> = part(&dataset, START, share)
            .map(Result::unwrap)
            .take_while(|batch: &Batch<Memory>| batch.cursor.epoch == 0)
            .collect();
        let shown: Vec<&String> = batches.iter().flat_map(|batch| &batch.names).collect();
        let expected: Vec<&String> = own.iter().filter(|name| !damaged(name)).collect();
        // What doesn't fill a batch at the end is dropped.
        assert_eq!(shown, expected[..expected.len() / 4 * 4]);
        let last = batches[batches.len() - 1].cursor;
        let taken = last.position as usize / 3 + last.ahead as usize;
        let skipped: Vec<&String> =
            batches.iter().flat_map(|batch| &batch.bad).map(|bad| &bad.name).collect();
        assert!(skipped.into_iter().eq(own[..taken].iter().filter(|name| damaged(name))));
    }
}

#[test]
fn processes_refuse_batches_that_they_cannot_divide_or_fill() {
    let (_root, dataset) = folder(10, &[2]);
    let train = |batch_size, share| {
        Loader::train(Arc::clone(&dataset), &config(1), batch_size, Seed(1), START, share, allocate)
    };
    let refused = |batch_size, size| {
        let errors = shares(size, |share| train(batch_size, share).unwrap_err().to_string());
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        errors[0].clone()
    };
    assert_eq!(refused(8, 3), "train.batch_size = 8: must be a multiple of the number of processes, 3");
    assert!(refused(12, 3).contains("a batch of 12 is larger than the data set: 10 of 10 images"));
    assert!(refused(0, 3).contains("train.batch_size = 0: must be at least 1"));
    // A single batch of all images, one of which is bad.
    let errors = shares(2, |share| train(10, share).unwrap().next().unwrap().err());
    let ([Some(error), None] | [None, Some(error)]) = &errors[..] else { panic!("{errors:?}") };
    assert!(error.to_string().contains("of 2 can use 4 of its 5 images of an epoch"), "{error}");
    assert!(matches!(error, DataError::ShareTooSmall { bad, .. } if bad.len() == 1));
}

#[test]
fn a_cursor_reads_as_it_was_written() {
    let plain = Cursor { epoch: 2, position: 31, ahead: 0 };
    let text = serde_json::to_string(&plain).unwrap();
    assert_eq!(text, r#"{"epoch":2,"position":31}"#);
    assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), plain);
    let ahead = Cursor { ahead: 3, ..plain };
    assert_eq!(serde_json::from_str::<Cursor>(&serde_json::to_string(&ahead).unwrap()).unwrap(), ahead);
}

#[test]
fn processes_share_an_evaluation() {
    let (_root, dataset) = folder(20, &[]);
    let names = |share, most| {
        let loader = Loader::eval(Arc::clone(&dataset), &config(2), 3, most, share, allocate).unwrap();
        loader.flat_map(|batch: Result<Batch<Memory>, _>| batch.unwrap().names).collect::<Vec<String>>()
    };
    for most in [None, Some(7)] {
        let mut together = shares(3, |share| names(share, most)).concat();
        together.sort();
        assert_eq!(together, names(Share::whole(), most));
    }
}
