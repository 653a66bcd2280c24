//! Positions at sizes beyond the trained one, and tokenizers that take a single size: what the
//! commands do with them, what they write, and what they refuse.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::program::{ended, refused};
use common::{Scratch, device, pixtok, said};
use serde_json::Value;

/// A small transformer over the 32×32 pixels of the scratch folder's config.
fn vit(keys: &str) -> String {
    format!("--set=model={{kind=\"vit\",patch=4,width=32,depth=1,heads=2{keys}}}")
}

/// Runs a verb on what lies at `name` in the scratch folder, on one thread.
fn run(scratch: &Scratch, verb: &str, name: &str, args: &[&str]) -> Output {
    let (tokenizer, device) = (scratch.path(name), device());
    pixtok(&[&[verb, tokenizer.to_str().unwrap(), "--threads", "1", "--device", &device], args].concat())
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The files of a folder of pictures, with their bytes.
fn pictures(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<(String, Vec<u8>)> = entries
        .filter(|path| path.extension().is_some_and(|ending| ending == "png"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn positions_go_from_the_flag_to_the_tokens_and_back() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=1", &vit(",extension=\"ntk\"")]);
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let val = path("val");
    let encode = |out: &str, args: &[&str]| {
        let out = path(out);
        let whole = ["--data", &val, "--out", &out, "--format", "jsonl", "--fit", "whole", "--resize", "48"];
        let output = run(&scratch, "encode", "run", &[&whole[..], args].concat());
        assert!(output.status.success(), "{}", said(&output));
        json(&Path::new(&out).join("tokens.json"))["positions"].clone()
    };
    assert_eq!(encode("own", &[]), "ntk");
    assert_eq!(encode("other", &["--positions", "interpolate"]), "interpolate");
    let merged = pixtok(&["merge", &path("own"), &path("other"), "--out", &path("both")]);
    refused(&merged, 2, &["differ in the positions of their tokenizer"]);
    // A job goes on only with the positions with which it began.
    let (out, again) = (path("other"), ["--format", "jsonl", "--fit", "whole", "--resize", "48"]);
    let output = run(&scratch, "encode", "run", &[&["--data", &val, "--out", &out][..], &again].concat());
    refused(&output, 2, &["set.positions was \"interpolate\" and is \"ntk\""]);

    // Tokens are decoded with the positions with which they were made.
    for (out, args) in [("unsaid", &[][..]), ("said", &["--positions", "interpolate"][..])] {
        let (tokens, images) = (path("other"), path(out));
        let output =
            run(&scratch, "decode", "run", &[&["--tokens", &tokens, "--out", &images][..], args].concat());
        ended(&output, 0, &["3 image(s)"]);
    }
    assert_eq!(pictures(&scratch.path("unsaid")).len(), 3);
    assert_eq!(pictures(&scratch.path("unsaid")), pictures(&scratch.path("said")));
    let reconstructed = path("reconstructed");
    let args = ["--out", reconstructed.as_str(), "--positions", "none"];
    let input = [&[val.as_str()][..], &args].concat();
    ended(&run(&scratch, "reconstruct", "run", &input), 0, &["3 reconstruction(s)"]);

    // An exported tokenizer keeps them.
    let model = path("model");
    let exported = run(&scratch, "export", "run", &["--out", &model, "--positions", "interpolate"]);
    assert!(exported.status.success(), "{}", said(&exported));
    let described = json(&scratch.path("model/config.json"));
    assert_eq!(described["positions"], "interpolate");
    assert_eq!(described["any_size"], true);
    let card = fs::read_to_string(scratch.path("model/README.md")).unwrap();
    assert!(card.contains("| positions at larger sizes | `interpolate`;"), "{card}");
    let evaluated = |tokenizer: &str, args: &[&str]| {
        let file = path("figures.json");
        let output = run(&scratch, "eval", tokenizer, &[&["--json", &file][..], args].concat());
        assert!(output.status.success(), "{}", said(&output));
        (json(Path::new(&file))["positions"].clone(), said(&output))
    };
    assert_eq!(evaluated("model", &[]).0, "interpolate");
    assert_eq!(evaluated("run", &[]).0, "ntk");
    let (positions, words) = evaluated("run", &["--positions", "none"]);
    assert!(positions == "none" && words.contains(", positions: none, on "), "{words}");
    let unknown = run(&scratch, "eval", "run", &["--positions", "linear"]);
    ended(&unknown, 2, &["\"linear\" is not", "none, interpolate or ntk"]);
}

#[test]
fn networks_without_positions_have_none_to_choose() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=1"]);
    let (val, out, exported) = (scratch.path("val"), scratch.path("out"), scratch.path("exported"));
    let (val, out, exported) = (val.to_str().unwrap(), out.to_str().unwrap(), exported.to_str().unwrap());
    let positions = ["--positions", "ntk"];
    let words = ["--positions is ntk", "without positions that extend to other sizes (cnn); leave it out"];
    for (verb, args) in [
        ("eval", vec![]),
        ("encode", vec!["--data", val, "--out", out, "--format", "npy"]),
        ("reconstruct", vec![val, "--out", out]),
        ("export", vec!["--out", exported]),
    ] {
        refused(&run(&scratch, verb, "run", &[&args[..], &positions].concat()), 2, &words);
    }
    let reconstructions = ["--data", val, "--positions", "ntk"];
    refused(
        &run(&scratch, "eval", "val", &reconstructions),
        2,
        &["--positions is ntk", "no run or model folder"],
    );
    // Tokens of another network are refused as such, not for positions that nobody asked for.
    scratch.train("vit", &["--set=train.steps=1", &vit("")]);
    let (tokens, images) = (scratch.path("tokens"), scratch.path("images"));
    let (tokens, images) = (tokens.to_str().unwrap(), images.to_str().unwrap());
    let encoded = run(&scratch, "encode", "vit", &["--data", val, "--out", tokens, "--format", "npy"]);
    assert!(encoded.status.success(), "{}", said(&encoded));
    let decoded = run(&scratch, "decode", "run", &["--tokens", tokens, "--out", images]);
    ended(&decoded, 2, &["was made by another tokenizer than"]);
}

#[test]
fn a_tokenizer_of_a_single_size_says_so() {
    let scratch = Scratch::new();
    let learned = vit(",positions=\"learned\"");
    let dry = scratch.try_train("dry", &["--dry-run", &learned]);
    ended(&dry, 0, &["bits per pixel; it takes images of exactly 32x32 pixels"]);
    scratch.train("run", &["--set=train.steps=1", &learned]);
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let (val, out) = (path("val"), path("out"));
    let whole = ["--data", &val, "--out", &out, "--format", "jsonl", "--fit", "whole"];
    refused(
        &run(&scratch, "encode", "run", &whole),
        2,
        &["--fit whole keeps the shape of each picture", "images of exactly 32×32 pixels"],
    );
    let larger = ["--data", &val, "--out", &out, "--format", "npy", "--image-size", "48"];
    refused(&run(&scratch, "encode", "run", &larger), 2, &["--image-size is 48", "exactly 32×32 pixels"]);
    let text = fs::read_to_string(scratch.path("tiny.toml")).unwrap();
    fs::write(scratch.path("large.toml"), text.replace("image_size = 32", "image_size = 48")).unwrap();
    refused(
        &run(&scratch, "eval", "run", &["--protocol", &path("large.toml")]),
        2,
        &["takes images of exactly 32×32 pixels", "prepared at 48×48", "--protocol"],
    );
    refused(
        &run_prepare(&scratch, &["--fit", "whole", "--out", &out]),
        2,
        &["--fit whole keeps the shape", "exactly 32×32 pixels; give --fit centre"],
    );
    let reconstructed = run(&scratch, "reconstruct", "run", &[&val, "--out", &out]);
    ended(&reconstructed, 0, &["3 reconstruction(s)", "resized and cropped to 32×32 pixels"]);
    let exported = run(&scratch, "export", "run", &["--out", &path("model")]);
    ended(&exported, 0, &["they take images of exactly 32×32 pixels"]);
    let card = fs::read_to_string(scratch.path("model/README.md")).unwrap();
    for part in ["trained at 32×32; this size alone", "for any batch of images of this size"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    // Interpolated, the same positions are for images of any size.
    let free = path("free");
    let whole = ["--data", &val, "--out", &free, "--format", "jsonl", "--fit", "whole", "--resize", "48"];
    let output = run(&scratch, "encode", "run", &[&whole[..], &["--positions", "interpolate"]].concat());
    ended(&output, 0, &["images"]);
}

/// `pixtok prepare` by the run.
fn run_prepare(scratch: &Scratch, args: &[&str]) -> Output {
    let recipe = scratch.path("run");
    pixtok(&[&["prepare", recipe.to_str().unwrap()], args].concat())
}
