//! Images a second from files to batches, epoch by epoch; `bench/run.py` runs it beside PyTorch.
//!
//! Centre crops in batches of 32, of bytes as on their way to the device. Prints one line of JSON.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use pixtok::batches::Loader;
use pixtok_base::seed::Seed;
use pixtok_images::data::{Cache, Config, Crop, Cursor, Dataset, Filter, ImageSize, Split};
use serde_json::json;
use tch::Device;

const BATCH: usize = 32;

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

fn main() {
    let args = Args::parse();
    let config = Config {
        image_size: ImageSize { height: args.size, width: args.size },
        filter: args.filter,
        crop: Crop::Centre {},
        flip: false,
        workers: args.workers,
        cache_gib: args.cache_gib,
        ..Config::default()
    };
    let folder = repeated(&args.data, args.repeat);
    let opened = Instant::now();
    let dataset = Dataset::open(folder.path(), Split::All).unwrap();
    let open_secs = opened.elapsed().as_secs_f64();
    let dataset = Arc::new(dataset.with_cache(Cache::new(&config).unwrap()));
    let batches = dataset.len() / BATCH;
    let mut loader =
        Loader::train(Arc::clone(&dataset), &config, BATCH, Seed(0), Cursor::default(), Device::Cpu).unwrap();
    let speeds: Vec<f64> = (0..args.epochs)
        .map(|_| {
            let start = Instant::now();
            for batch in loader.by_ref().take(batches) {
                drop(std::hint::black_box(batch.unwrap().images));
            }
            (batches * BATCH) as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    println!("{}", json!({ "images": batches * BATCH, "open_secs": open_secs, "images_per_sec": speeds }));
}
