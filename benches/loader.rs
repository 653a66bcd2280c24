//! Images a second from files to batches, epoch by epoch; `bench/run.py` runs it beside PyTorch.
//!
//! Centre crops in batches of 32, of bytes as on their way to the device. Prints one line of JSON.
//!
//! `--mixed N` makes N pictures of the images, of which every 16th has 20 times the pixels of the others, so that some
//! image of a batch is always slow. `--barrier` loads them as a loader does whose threads wait for the last image of a
//! batch before they begin the next.
//!
//! `--aspects N` makes N pictures of twelve aspects of the images; `--buckets` loads them in twelve sizes with about as
//! many pixels as the square.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

use clap::Parser;
use pixtok::batches::Loader;
use pixtok::world::World;
use pixtok_base::seed::Seed;
use pixtok_images::data::{
    Cache, Config, Crop, Cursor, Dataset, Filter, Fit, ImageSize, Prepare, Prepared, Split,
};
use pixtok_images::picture::{DecodeOptions, Picture, read};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use serde_json::json;
use tch::Device;

const BATCH: usize = 32;
/// Of mixed pictures, one in so many is large.
const LARGE_EVERY: usize = 16;
/// How many times its picture it is across and down.
const TILES: (usize, usize) = (5, 4);
/// Twelve aspects: width by height.
const ASPECTS: [f64; 12] = [1.0, 0.8, 1.25, 0.67, 1.5, 0.6, 1.67, 0.5, 2.0, 0.45, 2.2, 0.4];
/// The sides of the sizes are multiples of it.
const MULTIPLE: f64 = 16.0;

#[derive(Parser)]
struct Args {
    /// A folder of images, or of .tar shards or .parquet files
    #[arg(long)]
    data: PathBuf,
    /// Side of the crops in pixels
    #[arg(long, default_value_t = 256)]
    size: u32,
    /// lanczos, bicubic, bilinear or box
    #[arg(long, default_value = "bicubic", value_parser = filter)]
    filter: Filter,
    #[arg(long, default_value_t = 4)]
    epochs: u64,
    /// Take the data so many times for one epoch
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    #[arg(long, default_value_t = 2)]
    workers: usize,
    #[arg(long, default_value_t = 0.0)]
    cache_gib: f64,
    /// So many pictures of very different sizes, made of the images of a folder
    #[arg(long, conflicts_with = "repeat")]
    mixed: Option<usize>,
    /// So many pictures of twelve aspects, cut out of the images of a folder
    #[arg(long, conflicts_with_all = ["repeat", "mixed"])]
    aspects: Option<usize>,
    /// In twelve sizes, each picture in the one nearest to its aspect
    #[arg(long, requires = "aspects")]
    buckets: bool,
    /// With a barrier after each batch, for comparison
    #[arg(long, requires = "mixed")]
    barrier: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn filter(name: &str) -> Result<Filter, String> {
    serde_json::from_value(json!(name)).map_err(|error| error.to_string())
}

/// A folder in which `data` is as often as it is to be taken.
fn repeated(data: &Path, repeat: usize) -> tempfile::TempDir {
    let (folder, data) = (tempfile::tempdir().unwrap(), data.canonicalize().unwrap());
    let files = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let is_shard = |file: &PathBuf| file.extension().is_some_and(|end| end == "tar" || end == "parquet");
    let shards: Vec<PathBuf> = files.filter(is_shard).collect();
    for turn in 0..repeat {
        if shards.is_empty() {
            symlink(&data, folder.path().join(turn.to_string())).unwrap();
        }
        for shard in &shards {
            let name = shard.file_name().unwrap().to_str().unwrap();
            symlink(shard, folder.path().join(format!("{turn}-{name}"))).unwrap();
        }
    }
    folder
}

/// The JPEGs directly in a folder.
fn photographs(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "jpg" || end == "jpeg"));
    files.sort();
    files
}

/// A folder of `count` pictures: `data`'s, some of them tiled to 20 times their pixels.
fn mixed(data: &Path, count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, file) in photographs(data).iter().cycle().take(count).enumerate() {
        let target = folder.path().join(format!("{number:05}.jpg"));
        if number % LARGE_EVERY > 0 {
            symlink(file.canonicalize().unwrap(), target).unwrap();
            continue;
        }
        let small = read(file, &DecodeOptions::default()).unwrap().release();
        let rows = small.rgb.chunks(3 * small.width).flat_map(|row| row.repeat(TILES.0));
        let large = Picture {
            width: TILES.0 * small.width,
            height: TILES.1 * small.height,
            rgb: rows.collect::<Vec<u8>>().repeat(TILES.1),
        };
        fs::write(target, large.to_jpeg(90).unwrap()).unwrap();
    }
    folder
}

/// Height and width of as many pixels as a square of `side`, with this aspect.
fn sides(side: f64, aspect: f64) -> (f64, f64) {
    (side / aspect.sqrt(), side * aspect.sqrt())
}

/// A folder of `count` pictures of twelve aspects, each of 0.4 of the pixels of the largest square in a picture of
/// `data`.
fn of_aspects(data: &Path, count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, file) in photographs(data).iter().cycle().take(count).enumerate() {
        let whole = read(file, &DecodeOptions::default()).unwrap();
        let side = whole.width.min(whole.height) as f64 * 0.4_f64.sqrt();
        let (height, width) = sides(side, ASPECTS[number % ASPECTS.len()]);
        let part = whole.centre_crop(width as usize, height as usize);
        fs::write(folder.path().join(format!("{number:05}.jpg")), part.to_jpeg(90).unwrap()).unwrap();
    }
    folder
}

/// Twelve sizes with about as many pixels as the square of `size`, which is the first.
fn sizes(size: u32) -> Vec<ImageSize> {
    let rounded = |side: f64| ((side / MULTIPLE).round() * MULTIPLE) as u32;
    let of = |aspect: &f64| {
        let (height, width) = sides(f64::from(size), *aspect);
        ImageSize { height: rounded(height), width: rounded(width) }
    };
    ASPECTS.iter().map(of).collect()
}

/// Images a second in each epoch, where the threads wait for the last image of a batch before they begin the next.
/// Batches are loaded ahead all the same.
fn with_barrier(dataset: &Arc<Dataset>, config: &Config, epochs: u64) -> Vec<f64> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(config.workers).build().unwrap();
    let prepare = Prepare::new(config, Fit::Centre);
    let options = config.decode_options();
    let (sender, batches) = sync_channel(config.queue);
    let images = dataset.len() / BATCH * BATCH;
    let set = Arc::clone(dataset);
    let thread = thread::spawn(move || {
        for epoch in 0..epochs {
            let mut order: Vec<usize> = (0..images).collect();
            order.sort_by_key(|&image| Seed(0).derive("order", &[epoch, image as u64]).0);
            for batch in order.chunks(BATCH) {
                let load = |&image: &usize| {
                    let picture = set.picture(image, &options).unwrap();
                    prepare.picture(&picture).unwrap()
                };
                let images: Vec<Prepared> = pool.install(|| batch.par_iter().map(load).collect());
                sender.send(images).unwrap();
            }
        }
    });
    let speeds = (0..epochs).map(|_| speed(images, batches.iter().take(images / BATCH))).collect();
    thread.join().unwrap();
    speeds
}

/// Images a second, when so many come in these batches.
fn speed<T>(images: usize, batches: impl Iterator<Item = T>) -> f64 {
    let start = Instant::now();
    batches.for_each(|batch| drop(std::hint::black_box(batch)));
    images as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let args = Args::parse();
    let config = Config {
        image_size: ImageSize { height: args.size, width: args.size },
        buckets: args.buckets.then(|| sizes(args.size)),
        filter: args.filter,
        crop: Crop::Centre {},
        flip: false,
        workers: args.workers,
        cache_gib: args.cache_gib,
        ..Config::default()
    };
    let folder = match (args.mixed, args.aspects) {
        (Some(count), _) => mixed(&args.data, count),
        (_, Some(count)) => of_aspects(&args.data, count),
        _ => repeated(&args.data, args.repeat),
    };
    let opened = Instant::now();
    let dataset = Dataset::open(folder.path(), Split::All).unwrap();
    let open_secs = opened.elapsed().as_secs_f64();
    let dataset = Arc::new(dataset.with_cache(Cache::new(&config).unwrap()));
    let images = dataset.len() / BATCH * BATCH;
    let speeds = if args.barrier {
        with_barrier(&dataset, &config, args.epochs)
    } else {
        let start = Cursor::default();
        let mut loader = Loader::train(
            Arc::clone(&dataset),
            &config,
            BATCH,
            Seed(0),
            start,
            Device::Cpu,
            &World::single(),
        )
        .unwrap();
        let epoch =
            |_| speed(images, loader.by_ref().take(images / BATCH).map(|batch| batch.unwrap().images));
        (0..args.epochs).map(epoch).collect()
    };
    println!("{}", json!({ "images": images, "open_secs": open_secs, "images_per_sec": speeds }));
}
