//! Labels and captions of every kind of input: they are used, or a note says why not. All parts of
//! a job have the same classes.

use serde_json::json;

use super::*;
use crate::common::tables;

/// A Parquet file of six photographs with string labels of three classes.
fn table(export: &Export) -> String {
    let path = export.path("set/train-00000-of-00001.parquet");
    let names = ["owl", "ant", "owl", "elk", "ant", "owl"];
    let rows: Vec<(PathBuf, &str)> = photographs("train").into_iter().zip(names).collect();
    tables::write(&path, &rows);
    text(&path)
}

#[test]
fn classes_by_name_are_stated_and_parts_must_agree_on_them() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let data = table(&export);
    let encode = |out: &str, args: &[&str]| {
        let first = ["--data", &data, "--format", "jsonl"];
        export.encode("fsq", out, &[&first[..], args].concat())
    };
    let printed = encode("all", &["--verify"]);
    assert!(
        printed.contains("the column label (utf8): 3 classes by name, counted from 0: ant, elk, owl"),
        "{printed}"
    );
    let labels: Vec<_> = export.rows("all").iter().map(|row| row.label).collect();
    assert_eq!(labels, [2, 0, 2, 1, 0, 2].map(Some));
    let source = export.set("all").sidecar.source;
    assert_eq!((source.classes, source.notes.len()), (vec!["ant".into(), "elk".into(), "owl".into()], 1));

    let output = pixtok(&["inspect", &text(&export.path("all"))]);
    assert!(said(&output).contains("3 classes by name, counted from 0: ant, elk, owl"), "{}", said(&output));

    // Each part reads the labels of the whole input.
    let list = export.path("classes.txt");
    fs::write(&list, "owl\nelk\nant\n").unwrap();
    let list = text(&list);
    for (out, args) in [("parts", &[][..]), ("mixed", &["--classes", &list])] {
        encode(out, &["--shard", "0/2"]);
        encode(out, &[&["--shard", "1/2"], args].concat());
    }
    let merge = |parts: &str| {
        let joined = text(&export.path(&format!("{parts}-joined")));
        pixtok(&["merge", &text(&export.path(parts)), "--out", &joined])
    };
    let output = merge("parts");
    assert!(output.status.success(), "{}", said(&output));
    let output = merge("mixed");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("differ in the classes of their labels"), "{}", said(&output));
    // A job cannot be resumed with different classes either.
    let again = ["--data", &data, "--format", "jsonl", "--shard", "0/2", "--classes", &list];
    let output = export.try_encode("fsq", "parts", &again);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("set.source.classes was"), "{}", said(&output));
}

#[test]
fn captions_beside_images_go_along_into_every_format() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let birds = export.path("images/birds");
    fs::write(birds.join("02.txt"), "beside\n").unwrap();
    let line = json!({ "file_name": "birds/00.jpg", "text": "in metadata", "label": "a bird", "by": "x" });
    fs::write(export.path("images/metadata.jsonl"), line.to_string()).unwrap();
    for &kind in FormatKind::ALL {
        let format = kind.name();
        let printed = export.encode("fsq", format, &["--format", format]);
        assert!(printed.contains("captions: 2 of 23 images have one"), "{printed}");
        let rows = export.rows(format);
        let found: Vec<_> = rows[..2].iter().map(|row| (row.label, row.text.as_deref())).collect();
        assert_eq!(found, [(Some(0), Some("in metadata")), (None, Some("beside"))], "{format}");
        assert_eq!(rows[0].json.as_ref().unwrap().to_string(), r#"{"by":"x"}"#, "{format}");
        assert_eq!(export.set(format).sidecar.source.classes, ["a bird"]);
    }
}

#[test]
fn what_is_asked_for_and_is_not_there_is_named() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let data = table(&export);
    let other = export.path("set/test-00000-of-00001.parquet");
    fs::copy(&data, other).unwrap();
    let set = text(&export.path("set"));
    for (args, parts) in [
        (&["--data", &set][..], &["several splits", "test, train", "--split NAME"][..]),
        (&["--data", &set, "--split", "dev"], &["--split dev", "there are: test, train"]),
        (
            &["--data", &data, "--label-column", "gone"],
            &["--label-column gone", "img (struct), label (utf8)"],
        ),
        (&["--split", "train"], &["--split train (data.split", "is for Parquet files"]),
        (&["--label-column", "kind"], &["--label-column kind", "metadata.jsonl"]),
        (&["--data", &data, "--classes", "absent.txt"], &["absent.txt"]),
    ] {
        let output = export.try_encode("fsq", "out", &[&["--format", "npy"], args].concat());
        let printed = said(&output);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {printed}");
        for part in parts {
            assert!(printed.contains(part), "{args:?}: {part:?} is missing: {printed}");
        }
    }
    let printed = export.encode("fsq", "one", &["--format", "npy", "--data", &set, "--split", "test"]);
    assert!(printed.contains("only the split test is used; not used: train"), "{printed}");
}
