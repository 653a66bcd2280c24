//! `--val-share`: two sets of one input. And what `encode` says of how pictures are cut.

use std::collections::BTreeSet;

use super::*;
use pixtok_tokens::StatedSplit;

fn keys(rows: &[Row]) -> BTreeSet<String> {
    rows.iter().map(|row| row.key.clone()).collect()
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

#[test]
fn two_sets_divide_the_images_and_go_on_by_themselves() {
    let export = Export::new();
    export.scratch.train("fsq", &["--set=train.steps=1"]);
    let args = ["--format", "npy", "--shard-rows", "6", "--flip"];
    export.encode("fsq", "all", &args);
    let split = [&args[..], &["--val-share", "0.3"]].concat();
    let printed = export.encode("fsq", "two", &[&split[..], &["--verify"]].concat());
    assert_eq!(printed.matches("verified: ").count(), 2, "{printed}");
    let (train, val) = (export.rows("two/train"), export.rows("two/val"));
    assert!(train.len() > val.len() && val.len() >= 2, "{} and {}", train.len(), val.len());
    assert!(keys(&train).is_disjoint(&keys(&val)));
    assert_eq!(sorted([train.clone(), val.clone()].concat()), sorted(export.rows("all")));
    // Views of an image follow it into its set.
    for row in val.iter().step_by(2) {
        assert!(keys(&val).contains(&format!("{}~flip", row.key)), "{}", row.key);
    }
    let stated = |name: &str| export.set(&format!("two/{name}")).sidecar.source.split;
    for name in ["train", "val"] {
        assert_eq!(stated(name), Some(StatedSplit { name: name.into(), val_share: 0.3 }));
    }
    let output = export.decode("fsq", "two", "no", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let words = said(&output);
    let path = |name: &str| text(&export.path(&format!("two/{name}")));
    let both = format!("holds two sets of tokens; give one of them, {} or {}", path("train"), path("val"));
    assert!(words.contains(&both), "{words}");
    let output = pixtok(&["inspect", &text(&export.path("two"))]);
    for part in ["the images for train (", "the images for val ("] {
        assert!(output.status.success() && said(&output).contains(part), "{}", said(&output));
    }
    let output = pixtok(&["inspect", &text(&export.path("two/val"))]);
    assert!(said(&output).contains("the images for val (--val-share 0.3)"), "{}", said(&output));

    // A stopped set is continued by the same command. A different share makes a different job.
    let whole = contents(&export.path("two"));
    fs::remove_file(export.path("two/val/tokens.json")).unwrap();
    let printed = export.encode("fsq", "two", &split);
    assert!(printed.contains("two/train is finished already"), "{printed}");
    assert_eq!(contents(&export.path("two")), whole);
    let output = export.try_encode("fsq", "two", &[&args[..], &["--val-share", "0.4"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("set.source.split.val_share was 0.3 and is 0.4"), "{}", said(&output));
    let output = export.try_encode("fsq", "all", &split);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("all holds one set of all images"), "{}", said(&output));

    // Parts divide both, and are merged to the same sets.
    for part in ["0/2", "1/2"] {
        export.encode("fsq", "parts", &[&split[..], &["--shard", part]].concat());
    }
    let merge = |sets: &[&str], out: &str| {
        let sets: Vec<String> = sets.iter().map(|set| text(&export.path(set))).collect();
        let out = text(&export.path(out));
        let sets = sets.iter().map(String::as_str);
        let output = pixtok(&["merge", "--out", &out].into_iter().chain(sets).collect::<Vec<_>>());
        assert!(output.status.success(), "{}", said(&output));
    };
    for (name, rows) in [("train", train), ("val", val)] {
        merge(&[&format!("parts/{name}")], &format!("{name}-joined"));
        assert_eq!(sorted(export.rows(&format!("{name}-joined"))), sorted(rows));
        assert_eq!(export.set(&format!("{name}-joined")).sidecar.source.split, stated(name));
    }
    merge(&["two/train", "two/val"], "joined");
    assert_eq!(export.set("joined").sidecar.source.split, None);
    assert_eq!(keys(&export.rows("joined")), keys(&export.rows("all")));
}

/// Nothing is left of a refused job that another would have to go on with.
#[test]
fn a_refused_job_leaves_nothing() {
    let export = Export::new();
    export.scratch.train("fsq", &["--set=train.steps=1"]);
    let photograph = text(&photographs("train").remove(0));
    let list = |name: &str, lines: &[&str]| {
        fs::write(export.path(name), lines.join("\n")).unwrap();
        text(&export.path(name))
    };
    let same = format!("{{\"path\": \"{photograph}\", \"key\": \"a\"}}");
    let twice = list("twice.jsonl", &[&same, &same]);
    let nothing = list("nothing.jsonl", &[""]);
    let gone = list("gone.jsonl", &["{\"path\": \"no/where.jpg\"}"]);
    let full = text(&export.path("no/where.jpg"));
    for (name, data, code, part) in [
        ("keys", &twice, 2, "two images have the key \"a\""),
        ("empty", &nothing, 2, "the input has no images"),
        // The file that was looked for is named in full.
        ("gone", &gone, 6, full.as_str()),
    ] {
        for (share, sets) in [(&[][..], "one"), (&["--val-share", "0.001"], "two")] {
            let args = [&["--format", "npy", "--data", data], share].concat();
            let out = format!("{name}-{sets}");
            let output = export.try_encode("fsq", &out, &args);
            assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
            assert!(said(&output).contains(part), "{args:?}: {}", said(&output));
            assert!(!export.path(&out).exists(), "{args:?} left {out}");
        }
    }
    // A missing file among others is listed with its path.
    let mixed = list("mixed.jsonl", &[&same, "{\"path\": \"no/where.jpg\"}"]);
    export.encode("fsq", "out", &["--format", "npy", "--data", &mixed]);
    let skipped = fs::read_to_string(export.path("out/skipped.jsonl")).unwrap();
    let skipped: serde_json::Value = serde_json::from_str(&skipped).unwrap();
    assert_eq!(skipped["path"], full.as_str());
    assert!(!skipped["reason"].as_str().unwrap().contains("where"), "reasons are counted: {skipped}");
}

#[test]
fn what_is_cut_is_said_and_the_default_cuts_little() {
    let export = Export::new();
    export.scratch.train("fsq", &["--set=train.steps=1", "--set=data.resize=64"]);
    let shapes = export.path("shapes");
    fs::create_dir_all(&shapes).unwrap();
    for (name, width, height) in [("a", 100, 100), ("b", 100, 200)] {
        let picture = Picture { width, height, rgb: vec![7; 3 * width * height] };
        fs::write(shapes.join(format!("{name}.png")), picture.to_png().unwrap()).unwrap();
    }
    let data = text(&shapes);
    let encode = |out: &str, format: &str, args: &[&str]| {
        export.encode("fsq", out, &[&["--format", format, "--data", &data], args].concat())
    };
    let inspect = |out: &str| said(&pixtok(&["inspect", &text(&export.path(out))]));
    let printed = encode("plain", "npy", &["--shard-rows", "1"]);
    for part in [
        "the tokenizer's config has data.resize = 64",
        "--resize 64 prepares them as `pixtok eval`",
        "short side resized to 32, then cropped at the centre to 32×32 pixels; 75.0 % of their area kept",
        "--fit whole keeps all, in a format for images of several sizes",
    ] {
        assert!(printed.contains(part), "{part:?} is missing: {printed}");
    }
    assert_eq!(export.set("plain").sidecar.preprocessing.resize, None);
    let printed = inspect("plain");
    assert!(printed.contains("75.0 % of their area on average (--fit whole"), "{printed}");
    // 32 × 32 of 64 × 64, and of 64 × 128.
    let printed = encode("resized", "jsonl", &["--resize", "64"]);
    for (printed, word) in [(printed, " kept"), (inspect("resized"), "")] {
        let part = format!(
            "18.8 % of their area{word} on average (encode without --resize to keep more; --fit whole keeps all)"
        );
        assert!(printed.contains(&part), "{printed}");
    }
    let output = export.try_encode("fsq", "resized", &["--format", "jsonl", "--data", &data]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let parts = ["set.preprocessing.resize was 64 and is null;", "or add --resize 64 to go on with that one"];
    assert!(parts.iter().all(|part| said(&output).contains(part)), "{}", said(&output));
    let printed = encode("whole", "jsonl", &["--fit", "whole"]);
    assert!(printed.contains("multiple of 2 pixels; all of their area kept"), "{printed}");
}
