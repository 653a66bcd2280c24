//! `pixtok reconstruct` writes a file for each image and overwrites none.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::process::Output;

use common::program::{ended, refused, with_bad_images};
use common::{Scratch, device, photographs, pixtok};

/// A run folder `run` with a tokenizer of one training step.
fn trained() -> Scratch {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=1"]);
    scratch
}

/// Reconstructs `input` from the scratch folder.
fn reconstruct(scratch: &Scratch, input: &str, args: &[&str]) -> Output {
    let (run, input, device) = (scratch.path("run"), scratch.path(input), device());
    let (run, input) = (run.to_str().unwrap(), input.to_str().unwrap());
    let verb = ["reconstruct", run, input, "--threads", "1", "--device", &device];
    pixtok(&[&verb, args].concat())
}

#[test]
fn images_and_folders_are_reconstructed() {
    let scratch = trained();
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let reconstruct = |input: &str, args: &[&str]| reconstruct(&scratch, input, args);
    let files = |folder: &str| {
        assert!(scratch.path(folder).join(".pixtok-output").is_file());
        fs::read_dir(scratch.path(folder)).unwrap().count() - 1
    };
    ended(&reconstruct("val/01.jpg", &["--out", &path("one")]), 0, &["1 reconstruction"]);
    assert_eq!(files("one"), 1);
    ended(
        &reconstruct("val", &["--out", &path("all"), "--sheet", &path("sheet.png")]),
        0,
        &["3 reconstruction"],
    );
    assert_eq!(files("all"), 3);
    assert!(fs::read(scratch.path("sheet.png")).unwrap().starts_with(b"\x89PNG"));
    with_bad_images(&scratch, "bad", 0);
    refused(&reconstruct("bad/cut.jpg", &[]), 1, &["bad/cut.jpg", "cut short"]);
    refused(&reconstruct("absent.jpg", &[]), 2, &["absent.jpg does not exist"]);
    refused(
        &reconstruct("val", &["--out", &path("tiny.toml/x")]),
        1,
        &["cannot make the folder", "tiny.toml/x"],
    );
}

#[test]
fn reconstructions_have_a_file_each() {
    let scratch = trained();
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let reconstruct = |input: &str, args: &[&str]| reconstruct(&scratch, input, args);
    let photograph = photographs("train").remove(0);
    let pictures = |folder: &str, names: &[&str]| {
        for name in names {
            let file = scratch.path(folder).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::copy(&photograph, file).unwrap();
        }
    };
    pictures("same", &["deep/a.jpg", "deep/a.png", "deep/a.jpg.png", "deep/A.jpg", "b"]);
    let clash = reconstruct("same", &["--out", &path("out")]);
    refused(&clash, 2, &["deep/a.jpg and ", "deep/a.jpg.png would both be", "--names png"]);
    assert!(!scratch.path("out").exists());
    let all = reconstruct("same", &["--out", &path("out"), "--names", "png"]);
    ended(&all, 0, &["4 reconstruction", "1 file is passed over", "1 without one"]);
    let mut written: Vec<String> = fs::read_dir(scratch.path("out/deep"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert_eq!(written, ["A.jpg.png", "a.jpg.png", "a.jpg.png.png", "a.png.png"]);

    pictures("folder", &["a.bmp", "a.bmp.png/b.png"]);
    refused(&reconstruct("folder", &["--out", &path("out2")]), 2, &["one inside the other", "rename one"]);
    pictures("beside", &["a.jpg", "b.png"]);
    let sheet = ["--out", &path("out3"), "--sheet", &path("out3/b.png")];
    refused(&reconstruct("beside", &sheet), 2, &["b.png and the sheet", "another name"]);
    // Another path to the same place does not help, and originals are not overwritten.
    let around = path("beside/../out3/b.png");
    refused(&reconstruct("beside", &["--out", &path("out3"), "--sheet", &around]), 2, &["and the sheet"]);
    let original = path("beside/b.png");
    let over = reconstruct("beside", &["--out", &path("out3"), "--sheet", &original]);
    refused(&over, 2, &["the sheet", "would replace", "another name"]);
    // Into the folder of the originals: `a.jpg.png` would be new, but `b.png` would be overwritten.
    refused(
        &reconstruct("beside", &["--out", &path("beside")]),
        2,
        &["would replace", "b.png", "another --out"],
    );
    pictures("others", &["a.jpg", "a.jpg.png"]);
    let over = reconstruct("others", &["--out", &path("others"), "--names", "png"]);
    refused(&over, 2, &["others/a.jpg would replace ", "others/a.jpg.png; choose"]);
    fs::remove_file(scratch.path("beside/b.png")).unwrap();
    let into = scratch.path("beside/a.jpg.png");
    fs::create_dir(&into).unwrap();
    refused(&reconstruct("beside", &["--out", &path("beside")]), 2, &["which is a folder"]);
}
