//! `data.buckets`: images of many aspects are trained in batches of equal shapes.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::program::{ended, refused};
use common::{Scratch, copy_run, device, photographs, pixtok, said};
use pixtok_images::picture::{DecodeOptions, read};
use pixtok_tokens::TokenSet;
use serde_json::{Value, json};

/// Heights and widths of twelve aspects.
const SIZES: [(u32, u32); 12] = [
    (32, 32),
    (32, 36),
    (36, 32),
    (28, 40),
    (40, 28),
    (24, 44),
    (44, 24),
    (24, 52),
    (52, 24),
    (20, 56),
    (56, 20),
    (16, 64),
];
/// Two epochs of 24 images in batches of 2.
const STEPS: u64 = 24;

/// `data.buckets=[[32,32],…]`
fn buckets() -> String {
    let sizes: Vec<[u32; 2]> = SIZES.iter().map(|&(height, width)| [height, width]).collect();
    format!("data.buckets={}", json!(sizes))
}

/// A folder with two pictures of each aspect, half again as large as their buckets.
fn pictures(scratch: &Scratch) -> String {
    let folder = scratch.path("aspects");
    fs::create_dir(&folder).unwrap();
    for (number, photograph) in photographs("train").into_iter().take(24).enumerate() {
        let (height, width) = SIZES[number % 12];
        let whole = read(&photograph, &DecodeOptions::default()).unwrap();
        let part = whole.centre_crop(width as usize * 3 / 2, height as usize * 3 / 2);
        fs::write(folder.join(format!("{number:02}.png")), part.to_png().unwrap()).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

fn files(run: &Path) -> Vec<Vec<u8>> {
    let folder = run.join(format!("step-{STEPS:06}"));
    ["model.safetensors", "optimizer.safetensors", "state.json"]
        .map(|name| fs::read(folder.join(name)).unwrap())
        .to_vec()
}

fn cursor(run: &Path, step: u64) -> Value {
    let text = fs::read(run.join(format!("step-{step:06}/state.json"))).unwrap();
    let state: Value = serde_json::from_slice(&text).unwrap();
    state["state"]["cursor"].clone()
}

#[test]
fn twelve_aspects_are_trained_and_resumed_bit_for_bit() {
    for setting in [
        "seed=0",
        "quantizer={kind=\"vq\",codebook_size=64,codebook_dim=4,start=\"kmeans\",restart_threshold=1.0}",
    ] {
        let scratch = Scratch::new();
        let (folder, buckets, val) = (pictures(&scratch), buckets(), scratch.path("val"));
        let steps = format!("train.steps={STEPS}");
        let mut args = vec!["--data", &folder, "--val-data", val.to_str().unwrap(), "--set", &buckets];
        args.extend(["--set", &steps, "--set", setting]);
        args.extend(["--set=train.batch_size=2", "--set=train.checkpoint_every=1"]);
        args.extend(["--set=train.keep_checkpoints=100", "--set=data.workers=2"]);
        let output = scratch.try_train("whole", &args);
        ended(&output, 0, &["buckets     2 images of 32x32 pixels, 2 of 32x36, ", "2 of 16x64"]);
        let whole = scratch.path("whole");
        assert_eq!(cursor(&whole, 12), json!({ "epoch": 0, "position": 24 }));
        assert_eq!(cursor(&whole, STEPS), json!({ "epoch": 1, "position": 24 }));
        args.extend(["--set", "data.workers=1"]);
        scratch.train("again", &args);
        assert!(files(&whole) == files(&scratch.path("again")), "{setting}: two runs differ");
        for step in [1, 11, 12, 17] {
            let copy = format!("resumed-{step}");
            copy_run(&whole, &scratch.path(&copy), step);
            scratch.resume(&copy, &[]);
            let resumed = files(&scratch.path(&copy));
            assert!(resumed == files(&whole), "{setting}: not the same after a resume from step {step}");
        }
    }
}

#[test]
fn positions_are_learned_for_the_largest_height_and_width() {
    let scratch = Scratch::new();
    let (folder, buckets, val) = (pictures(&scratch), buckets(), scratch.path("val"));
    let model = "model={kind=\"vit\",patch=4,width=32,depth=1,heads=2,\
                 positions=\"learned\",extension=\"interpolate\"}";
    let data = ["--data", &folder, "--val-data", val.to_str().unwrap(), "--set", &buckets];
    let train = ["--set", model, "--set=train.steps=12", "--set=train.batch_size=2"];
    scratch.train("run", &[&data[..], &train].concat());
    let (run, out) = (scratch.path("run"), scratch.path("model"));
    let (run, out, device) = (run.to_str().unwrap(), out.to_str().unwrap(), device());
    let exported = pixtok(&["export", run, "--threads", "1", "--device", &device, "--out", out]);
    assert!(exported.status.success(), "{}", said(&exported));
    let text = fs::read_to_string(Path::new(out).join("config.json")).unwrap();
    let described: Value = serde_json::from_str(&text).unwrap();
    // 56 and 64 pixels, of different images.
    assert_eq!(described["model"]["trained_grid"], json!([14, 16]));
    assert_eq!((&described["image_size"], &described["any_size"]), (&json!([32, 32]), &json!(true)));
}

#[test]
fn a_tokenizer_of_buckets_encodes_images_of_another_size() {
    let scratch = Scratch::new();
    let (folder, buckets, val) = (pictures(&scratch), buckets(), scratch.path("val"));
    let data = ["--data", &folder, "--val-data", val.to_str().unwrap(), "--set", &buckets];
    scratch.train("run", &[&data[..], &["--set=train.steps=1"]].concat());
    let (run, device) = (scratch.path("run"), device());
    for (out, size, flags) in [
        ("own", [32, 32], &[][..]),
        ("larger", [48, 48], &["--image-size", "48"]),
        ("resized", [32, 32], &["--resize", "64"]),
        ("both", [24, 24], &["--image-size", "24", "--resize", "40"]),
    ] {
        let out = scratch.path(out);
        let base =
            ["encode", run.to_str().unwrap(), "--format", "npy", "--threads", "1", "--device", &device];
        let paths = ["--data", val.to_str().unwrap(), "--out", out.to_str().unwrap()];
        ended(&pixtok(&[&base[..], &paths, flags].concat()), 0, &[]);
        let set = TokenSet::find(&out).unwrap().remove(0);
        assert_eq!(set.sidecar.image_size, Some(size), "{flags:?}");
    }
}

#[test]
fn a_dry_run_counts_the_buckets_and_estimates_the_largest() {
    let scratch = Scratch::new();
    let folder = pictures(&scratch);
    fs::write(Path::new(&folder).join("broken.png"), "no picture").unwrap();
    let val = scratch.path("val");
    let data = ["--data", &folder, "--val-data", val.to_str().unwrap()];
    let memory = |buckets: &str| {
        let args = [&data[..], &["--dry-run", "--set", buckets]].concat();
        let output = scratch.try_train("run", &args);
        ended(&output, 0, &["buckets     ", "the header of 1 states no size", "memory      about"]);
        let words = said(&output);
        words.lines().find(|line| line.contains("kept for the backward pass")).unwrap().to_owned()
    };
    let small = memory("data.buckets=[32]");
    assert_eq!(small, memory("data.buckets=[32, [28, 36]]"));
    assert_ne!(small, memory("data.buckets=[32, [64, 96]]"));

    // Each of the twelve sizes has fewer images than a batch.
    let note = "a batch of 4 repeats the images of the 12 sizes that have fewer";
    let buckets = buckets();
    let twelve = [&data[..], &["--dry-run", "--set", &buckets]].concat();
    ended(&scratch.try_train("run", &twelve), 0, &[note, "leave such sizes out of data.buckets"]);
    let of_two = scratch.try_train("run", &[&twelve[..], &["--set=train.batch_size=2"]].concat());
    assert!(!said(&of_two).contains("repeats the images"), "{}", said(&of_two));
}

#[test]
fn buckets_that_do_not_fit_are_refused() {
    let scratch = Scratch::new();
    let stylegan = "adversarial={discriminator={kind=\"stylegan\",channels=4,most_channels=8}}";
    let learned = "model={kind=\"vit\",patch=4,width=32,depth=1,heads=2,positions=\"learned\"}";
    let sequence = "model={kind=\"one-d\",patch=4,width=32,depth=1,heads=2,latent_tokens=8}";
    let alone = ["data.buckets has [48, 32]", "takes images of 32 alone", "leave data.buckets out"];
    let cases: [(&[&str], &[&str]); 10] = [
        (&["data.buckets=[]"], &["data.buckets = []", "1 to 256 sizes"]),
        (
            &["data.buckets=[32, [33, 48]]"],
            &["data.buckets has [33, 48]", "33 is no multiple of 2", "the nearest that are: 32 or 34"],
        ),
        (&["data.buckets=[32, [1, 48]]"], &["1 is no multiple of 2", "the nearest that are: 2"]),
        (&["data.buckets=[[48, 32]]"], &["data.image_size = 32", "one of data.buckets", "[[48, 32]]"]),
        (&["data.buckets=[32, 64]"], &["32 and 64 have the same"]),
        (
            &["data.buckets=[32, [48, 32]]", "data.resize=64"],
            &["data.resize = 64", "absent with data.buckets"],
        ),
        (
            &[
                "data.buckets=[32, [48, 32]]",
                "data.crop={kind=\"random-resized\",scale=[0.5,1.0],ratio=[1.0,1.0]}",
            ],
            &["data.crop.kind = random-resized", "random or centre"],
        ),
        (&["data.buckets=[32, [48, 32]]", stylegan], &["kind is stylegan", "leave data.buckets out"]),
        (&["data.buckets=[32, [48, 32]]", learned], &alone),
        (&["data.buckets=[32, [48, 32]]", sequence], &alone),
    ];
    for (sets, parts) in cases {
        let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        refused(&scratch.try_train("run", &args), 2, parts);
    }
}
