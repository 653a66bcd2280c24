//! `pixtok eval` and `pixtok reconstruct` in the processes of a launcher give what one process
//! gives.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/weights.rs"]
mod weights;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::program::{ended, refused, with_bad_images};
use common::{ROOT, Scratch, contents, device, pixtok, said};
use numbers::Numbers;
use serde_json::{Map, Value};

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs `size` processes side by side, as torchrun starts them, each with the arguments of its
/// number.
fn processes(size: u32, args: impl Fn(u32) -> Vec<String>) -> Vec<Output> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let children: Vec<_> = (0..size)
        .map(|rank| {
            Command::new(env!("CARGO_BIN_EXE_pixtok"))
                .args(args(rank))
                .args(["--threads", "1", "--device", &device()])
                .current_dir(ROOT)
                .env_remove("PIXTOK_WEIGHTS")
                .envs([("RANK", rank.to_string()), ("WORLD_SIZE", size.to_string())])
                .envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port.as_str())])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

/// The figures that follow from the order of the tokens, or from time.
const OF_ORDER: [&str; 6] = [
    "usage_batch",
    "usage_64k",
    "bits_per_token_zstd",
    "bits_per_pixel_zstd",
    "encode_images_per_sec",
    "decode_images_per_sec",
];

/// An evaluation of a folder with bad images, into `out`. Batches of one image have the same bits in
/// every division.
fn evaluation(scratch: &Scratch, out: &str, more: &[&str]) -> Vec<String> {
    let path = |name: &str| text(&scratch.path(out).join(name));
    let (run, data) = (text(&scratch.path("run")), text(&scratch.path("bad")));
    let mut args: Vec<String> =
        ["eval", &run, "--data", &data, "--batch-size", "1", "--stability"].map(str::to_owned).to_vec();
    for (flag, name) in [
        ("--per-image", "images.csv"),
        ("--code-counts", "codes.csv"),
        ("--pictures", "pictures"),
        ("--json", "figures.json"),
    ] {
        args.extend([flag.to_owned(), path(name)]);
    }
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    args
}

fn figures(scratch: &Scratch, out: &str) -> Map<String, Value> {
    serde_json::from_slice(&fs::read(scratch.path(out).join("figures.json")).unwrap()).unwrap()
}

#[test]
fn figures_of_several_processes_are_those_of_one() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=data.max_bad_fraction=0.5"]);
    with_bad_images(&scratch, "bad", 5);
    let inception = scratch.path("inception-fid.safetensors");
    weights::write(&Numbers::read("nets"), "inception", &inception);
    let inception = text(&inception);
    let weights = ["--fid-weights", inception.as_str()];
    let alone = evaluation(&scratch, "one", &weights);
    let alone: Vec<&str> = alone.iter().map(String::as_str).collect();
    let output = pixtok(&[&alone[..], &["--threads", "1", "--device", &device()]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let (expected, files) = (figures(&scratch, "one"), contents(&scratch.path("one")));
    assert_eq!(expected["images"], 5);
    assert_eq!(expected["left_out"].as_array().unwrap().len(), 2);
    // With nine processes, two have no image at all.
    for size in [2, 3, 9] {
        let out = format!("of-{size}");
        let outputs = processes(size, |_| evaluation(&scratch, &out, &weights));
        for (rank, output) in outputs.iter().enumerate() {
            ended(output, 0, &[]);
            // One process prints the table; each names the images that it left out.
            assert_eq!(output.stdout.is_empty(), rank > 0, "{}", said(output));
        }
        let named: usize = outputs.iter().map(|output| said(output).matches("left out ").count()).sum();
        assert_eq!(named, 2);
        let mut found = figures(&scratch, &out);
        let rfid = |figures: &Map<String, Value>| figures["rfid"].as_f64().unwrap();
        assert!((rfid(&found) / rfid(&expected) - 1.0).abs() < 1e-5, "{} {}", rfid(&found), rfid(&expected));
        for (name, value) in &expected {
            if name != "rfid" && !OF_ORDER.contains(&name.as_str()) {
                assert_eq!(found.remove(name).as_ref(), Some(value), "{name} of {size} processes");
            }
        }
        for name in ["usage_batch", "usage_64k", "bits_per_token_zstd", "encode_images_per_sec"] {
            assert!(found[name].as_f64().unwrap() > 0.0, "{name}");
        }
        let mut written = contents(&scratch.path(&out));
        for (name, bytes) in &files {
            let own = written.remove(name);
            assert!(name == "figures.json" || own.as_ref() == Some(bytes), "{name} of {size} processes");
        }
        assert!(written.is_empty(), "{:?}", written.keys());
    }
}

#[test]
fn all_processes_end_where_one_cannot_go_on() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=1"]);
    with_bad_images(&scratch, "bad", 5);
    // 2 of 7, though one process has none of the two.
    for output in processes(3, |_| evaluation(&scratch, "out", &[])) {
        refused(&output, 6, &["2 of 7 images", "data.max_bad_fraction = 0.01"]);
    }
    let outputs = processes(3, |rank| {
        let protocol: &[&str] = if rank == 1 { &["--protocol", "nowhere.toml"] } else { &[] };
        evaluation(&scratch, "out", protocol)
    });
    assert!(said(&outputs[1]).contains("nowhere.toml"), "{}", said(&outputs[1]));
    for rank in [0, 2] {
        refused(&outputs[rank], 1, &["the evaluation failed in process 1 of 3"]);
    }
}

#[test]
fn reconstructions_in_a_folder_are_shared_too() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=1"]);
    let path = |name: &str| text(&scratch.path(name));
    let reconstruct = |out: &str, more: &[&str]| -> Vec<String> {
        let (run, images, out) = (path("run"), path("train"), path(out));
        let own = ["reconstruct", &run, &images, "--out", &out];
        own.into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let alone = reconstruct("one", &[]);
    let alone: Vec<&str> = alone.iter().map(String::as_str).collect();
    let output = pixtok(&[&alone[..], &["--threads", "1", "--device", &device()]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let outputs = processes(3, |_| reconstruct("three", &[]));
    for (words, output) in ["0 of 3: 4 of 10", "1 of 3: 3 of 10", "2 of 3: 3 of 10"].iter().zip(&outputs) {
        ended(output, 0, &[&format!("process {words} images in ")]);
    }
    assert_eq!(contents(&scratch.path("three")), contents(&scratch.path("one")));
    let sheet = path("sheet.png");
    for output in processes(2, |_| reconstruct("sheet", &["--sheet", &sheet])) {
        refused(&output, 2, &["--sheet shows images of the whole folder", "start a single process"]);
    }
    // Both processes notice that two images, one of each, would have the same file.
    fs::copy(scratch.path("train/00.jpg"), scratch.path("train/00.jpg.png")).unwrap();
    for output in processes(2, |_| reconstruct("clash", &[])) {
        refused(&output, 2, &["00.jpg.png would both be", "--names png"]);
    }

    // The figures of folders of originals and reconstructions.
    fs::remove_file(scratch.path("train/00.jpg.png")).unwrap();
    let measure = |out: &str| {
        let json = path(out);
        ["eval", &path("prepared-recons"), "--data", &path("prepared"), "--json", &json]
            .map(str::to_owned)
            .to_vec()
    };
    let (run, train, prepared, recons) =
        (path("run"), path("train"), path("prepared"), path("prepared-recons"));
    let output = pixtok(&["prepare", &run, "--data", &train, "--out", &prepared, "--fit", "whole"]);
    assert!(output.status.success(), "{}", said(&output));
    let output =
        pixtok(&["reconstruct", &run, &prepared, "--out", &recons, "--threads", "1", "--device", &device()]);
    assert!(output.status.success(), "{}", said(&output));
    for (size, out) in [(1, "one.json"), (3, "three.json")] {
        for output in processes(size, |_| measure(out)) {
            ended(&output, 0, &[]);
        }
    }
    let read = |name: &str| -> Map<String, Value> {
        let mut figures: Map<String, Value> =
            serde_json::from_slice(&fs::read(scratch.path(name)).unwrap()).unwrap();
        // Whether pictures are mixed up is judged by the first images of a process.
        figures.remove("notes");
        figures
    };
    assert_eq!(read("three.json"), read("one.json"));
    assert_eq!(read("one.json")["images"], 10);
}

/// Each process would do the same.
#[test]
fn a_comparison_runs_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_pixtok"))
        .args(["compare", "quickstart", "--dry-run"])
        .envs([("RANK", "1"), ("WORLD_SIZE", "2")])
        .output()
        .unwrap();
    refused(&output, 2, &["torchrun started 2 processes", "--devices"]);
}
