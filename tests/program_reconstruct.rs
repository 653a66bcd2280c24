//! `pixtok reconstruct` writes a file for each image and overwrites none.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::program::{ended, refused, with_bad_images};
use common::{Scratch, device, photographs, pixtok, said};
use pixtok_images::picture::{DecodeOptions, Picture, read};
use serde_json::{Map, Value};

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
    let thin = Picture { width: 9, height: 1, rgb: vec![9; 27] };
    fs::write(scratch.path("thin.png"), thin.to_png().unwrap()).unwrap();
    refused(
        &reconstruct("thin.png", &[]),
        2,
        &["cannot use ", "thin.png: it is 9×1 pixels", "needs 2 or more"],
    );
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
    // A different path to the same place does not help, and originals are not overwritten.
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

/// Pictures of odd sizes below `odd/`, one of them a JPEG; their names and sizes.
fn odd(scratch: &Scratch) -> [(&'static str, (usize, usize)); 3] {
    let all = [("a.png", (131, 97)), ("deep/b.jpg", (40, 121)), ("c.png", (64, 32))];
    for (name, (width, height)) in all {
        let rgb = (0..3 * width * height).map(|i| (i * i / 97 % 251) as u8).collect();
        let picture = Picture { width, height, rgb };
        let file = scratch.path("odd").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let jpeg = file.extension().is_some_and(|ending| ending == "jpg");
        fs::write(file, if jpeg { picture.to_jpeg(90).unwrap() } else { picture.to_png().unwrap() }).unwrap();
    }
    all
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn picture(path: PathBuf) -> Picture {
    read(&path, &DecodeOptions::default()).unwrap().release()
}

/// Runs `pixtok prepare` with this recipe into the folder `out`.
fn prepare(scratch: &Scratch, recipe: &str, out: &str, args: &[&str]) -> Output {
    let (recipe, out) = (text(&scratch.path(recipe)), text(&scratch.path(out)));
    pixtok(&[&["prepare", &recipe, "--out", &out], args].concat())
}

fn eval(scratch: &Scratch, reconstructions: &str, args: &[&str]) -> Output {
    let (folder, device) = (text(&scratch.path(reconstructions)), device());
    let all = ["eval", &folder, "--threads", "1", "--device", &device, "--json", "-"];
    pixtok(&[&all, args].concat())
}

fn figures(output: &Output) -> Map<String, Value> {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Prepared images are exactly those that the metrics compare with, so they count as perfect
/// copies.
#[test]
fn prepared_originals_are_those_of_the_metrics() {
    let scratch = trained();
    odd(&scratch);
    fs::write(scratch.path("odd/film.mov"), "not an image").unwrap();
    let (data, protocol) = (text(&scratch.path("odd")), text(&scratch.path("tiny.toml")));
    let done = prepare(&scratch, "tiny.toml", "prepared", &["--data", &data]);
    ended(&done, 0, &["3 original(s) of ", "1 file is passed over"]);
    assert_eq!(
        (
            picture(scratch.path("prepared/deep/b.jpg.png")).width,
            picture(scratch.path("prepared/c.png")).height
        ),
        (32, 32)
    );
    let found = figures(&eval(&scratch, "prepared", &["--data", &data, "--protocol", &protocol]));
    for (name, most) in [("psnr_db", 100.0), ("ssim", 1.0), ("l1", 0.0), ("images", 3.0)] {
        let value = found[name].as_f64().unwrap();
        assert!((value - most).abs() < 1e-9, "{name} is {value}");
    }
    // A run gives the same as its config, and so do its own validation images, the default.
    ended(&prepare(&scratch, "run", "of-run", &["--data", &data, "--names", "png"]), 0, &["3 original(s)"]);
    let bytes = |file: &str| fs::read(scratch.path(file)).unwrap();
    assert_eq!(bytes("of-run/a.png.png"), bytes("prepared/a.png"));
    ended(&prepare(&scratch, "run", "own", &[]), 0, &["3 original(s)", "val in "]);
    assert_eq!(figures(&eval(&scratch, "own", &["--protocol", &protocol]))["psnr_db"], 100.0);

    with_bad_images(&scratch, "bad", 2);
    let folder = text(&scratch.path("bad"));
    let bad = ["--data", &folder];
    let config = fs::read_to_string(scratch.path("tiny.toml")).unwrap();
    let config = config.replace("image_size = 32", "image_size = 32\nmax_bad_fraction = 0.5");
    fs::write(scratch.path("lax.toml"), config).unwrap();
    let left_out = ["left out cut.jpg: the JPEG is cut short", "left out link.jpg"];
    let done = prepare(&scratch, "lax.toml", "few", &bad);
    ended(&done, 0, &[&["2 original(s)"], &left_out[..]].concat());
    let strict = prepare(&scratch, "run", "too-few", &bad);
    refused(&strict, 6, &[&["2 of 4 images", "data.max_bad_fraction"], &left_out[..]].concat());
    for (recipe, out, args, parts) in [
        ("run", "few", &["--data", &data][..], &["few is not empty"][..]),
        ("absent", "x", &[], &["absent does not exist", "a config, a run folder"]),
        ("val", "x", &[], &["holds neither a run nor a model"]),
        ("run", "x", &["--split", "train"], &["give it too"]),
    ] {
        refused(&prepare(&scratch, recipe, out, args), 2, parts);
        assert!(!scratch.path("x").exists());
    }
    fs::copy(scratch.path("odd/a.png"), scratch.path("odd/deep/b.jpg.png")).unwrap();
    let clash = prepare(&scratch, "run", "x", &["--data", &data]);
    refused(&clash, 2, &["deep/b.jpg and deep/b.jpg.png would both be ", "--names png"]);
}

#[test]
fn whole_pictures_have_their_originals() {
    let scratch = trained();
    let all = odd(&scratch);
    let (data, path) = (text(&scratch.path("odd")), |name: &str| text(&scratch.path(name)));
    let done = reconstruct(&scratch, "odd", &["--out", &path("recons")]);
    ended(&done, 0, &["3 reconstruction", "2 of 3 were cut", "multiples of 2 pixels", "--fit whole"]);
    let refused_pair = eval(&scratch, "recons", &["--data", &data]);
    refused(
        &refused_pair,
        2,
        &["131×97 pixels and its reconstruction 130×96", "pixtok prepare", "--fit whole"],
    );
    let done = prepare(&scratch, "run", "cut", &["--data", &data, "--fit", "whole"]);
    ended(&done, 0, &["3 original(s)", "2 of 3 were cut at their borders to multiples of 2 pixels"]);
    for (name, (width, height)) in all {
        let original = picture(scratch.path("odd").join(name));
        assert_eq!((original.width, original.height), (width, height));
        let file = if name.ends_with("png") { name.to_owned() } else { format!("{name}.png") };
        assert_eq!(picture(scratch.path("cut").join(file)), original.centre_crop(width & !1, height & !1));
    }
    assert_eq!(figures(&eval(&scratch, "recons", &["--data", &path("cut")]))["images"], 3);

    // The same as whole pictures are encoded, with the names of the decoded files.
    let (run, tokens, decoded, device) = (path("run"), path("tokens"), path("decoded"), device());
    let compute = ["--threads", "1", "--device", &device];
    let encode = ["encode", &run, "--data", &data, "--out", &tokens, "--format", "jsonl", "--fit", "whole"];
    ended(&pixtok(&[&encode[..], &compute].concat()), 0, &[]);
    let decode = ["decode", &run, "--tokens", &tokens, "--out", &decoded];
    ended(&pixtok(&[&decode[..], &compute].concat()), 0, &["3 image(s)"]);
    let done = prepare(&scratch, "run", "scaled", &["--data", &data, "--fit", "scaled"]);
    ended(&done, 0, &["2 of 3 were scaled to multiples of 2 pixels"]);
    // Whole pictures ignore data.resize.
    let config = fs::read_to_string(scratch.path("tiny.toml")).unwrap();
    let config = config.replace("image_size = 32", "image_size = 32\nresize = 48");
    fs::write(scratch.path("resized.toml"), config).unwrap();
    for fit in ["scaled", "whole"] {
        let out = format!("{fit}-again");
        ended(
            &prepare(&scratch, "resized.toml", &out, &["--data", &data, "--fit", fit]),
            0,
            &["3 original(s)"],
        );
        let earlier = if fit == "whole" { "cut" } else { fit };
        let bytes =
            [earlier, out.as_str()].map(|folder| fs::read(scratch.path(folder).join("a.png")).unwrap());
        assert_eq!(bytes[0], bytes[1], "{fit}");
    }
    assert_eq!(figures(&eval(&scratch, "decoded", &["--data", &path("scaled")]))["images"], 3);
}
