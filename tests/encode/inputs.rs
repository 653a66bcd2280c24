//! The inputs of an export: WebDataset shards and lists give the same result as a folder of the
//! same files, and keep the data beside the images.

use std::io::Write;

use serde_json::json;

use super::*;

/// Writes a tar with a plain header for each member.
fn tar(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.finish().unwrap();
}

fn photograph(export: &Export, key: &str) -> Vec<u8> {
    fs::read(export.path(&format!("images/{key}.jpg"))).unwrap()
}

#[test]
fn shards_and_lists_give_what_a_folder_gives() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.encode("fsq", "folder", &["--format", "npy"]);
    let expected = export.rows("folder");
    let shards = export.path("shards");
    fs::create_dir_all(&shards).unwrap();
    for (number, rows) in expected.chunks(10).enumerate() {
        let members = rows.iter().flat_map(|row| {
            let key = &row.key;
            [
                (format!("{key}.jpg"), photograph(&export, key)),
                (format!("{key}.txt"), format!("a picture of {key}").into_bytes()),
                (format!("{key}.cls"), row.label.unwrap().to_string().into_bytes()),
                (
                    format!("{key}.json"),
                    json!({ "url": format!("u/{key}"), "width": 7 }).to_string().into_bytes(),
                ),
            ]
        });
        tar(&shards.join(format!("{number:03}.tar")), &members.collect::<Vec<_>>());
    }
    let list = export.path("images/list.jsonl");
    let mut file = fs::File::create(&list).unwrap();
    for Row { key, label, .. } in &expected {
        let line = json!({ "path": format!("{key}.jpg"), "key": key, "text": format!("a picture of {key}"), "label": label,
            "url": format!("u/{key}"), "width": 7 });
        writeln!(file, "{line}").unwrap();
    }
    for (name, data) in [("shards", text(&shards)), ("list", text(&list))] {
        for &kind in FormatKind::ALL {
            let format = kind.name();
            let out = format!("{name}-{format}");
            export.encode("fsq", &out, &["--data", &data, "--format", format, "--shard-rows", "8"]);
            let rows = export.rows(&out);
            assert_eq!(rows.len(), expected.len());
            for (row, expected) in rows.iter().zip(&expected) {
                let key = &expected.key;
                assert_eq!((&row.key, &row.ids, row.label), (key, &expected.ids, expected.label), "{out}");
                assert_eq!(row.text, Some(format!("a picture of {key}")), "{out}");
                let came = json!({ "url": format!("u/{key}"), "width": 7 });
                assert_eq!(row.json.as_ref().map(ToString::to_string), Some(came.to_string()), "{out}");
            }
        }
    }
}

/// The first of several captions is the text, and the whole list is kept; numbers are not rounded;
/// non-finite ones become null and are counted; an image's own `pixtok` is kept too, but renamed if
/// the format uses that name.
#[test]
fn what_else_is_said_goes_along_as_it_was_written() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let list = export.path("images/list.jsonl");
    let lines = [
        r#"{"path": "birds/00.jpg", "text": null, "caption": ["one", "two"], "id": 18446744073709551617, "x": [NaN, 1.50]}"#,
        r#"{"path": "trees/01.jpg", "text": "t", "pixtok": {"a": [-Infinity, "NaN"]}, "label": 2}"#,
        r#"{"path": "birds/02.jpg", "captions": ["", "three"]}"#,
    ];
    fs::write(&list, lines.join("\n")).unwrap();
    for &kind in FormatKind::ALL {
        let format = kind.name();
        let printed = export.encode("fsq", format, &["--data", &text(&list), "--format", format, "--verify"]);
        let rows = export.rows(format);
        let texts: Vec<_> = rows.iter().map(|row| row.text.as_deref()).collect();
        assert_eq!(texts, [Some("one"), Some("t"), Some("three")], "{format}");
        let name = if format == "webdataset" { "pixtok_original" } else { "pixtok" };
        let expected = [
            r#"{"captions":["one","two"],"id":18446744073709551617,"text":null,"x":[null,1.50]}"#.to_owned(),
            format!(r#"{{"{name}":{{"a":[null,"NaN"]}}}}"#),
            r#"{"captions":["","three"]}"#.to_owned(),
        ];
        let json: Vec<String> = rows.iter().map(|row| row.json.as_ref().unwrap().to_string()).collect();
        assert_eq!(json, expected, "{format}");
        let notes = export.set(format).sidecar.source.notes.join("\n");
        let part = "NaN and infinite numbers in the JSON of images, written as null: 2, as in birds/00";
        assert!(printed.contains(part) && notes.contains(part), "{format}: {printed}");
        let part = "images whose own field pixtok is called pixtok_original in this set: 1, as in trees/01";
        let moved = format == "webdataset";
        assert_eq!((printed.contains(part), notes.contains(part)), (moved, moved), "{format}: {printed}");
    }
    // Reported again for the finished set.
    let again = export.encode("fsq", "npy", &["--data", &text(&list), "--format", "npy"]);
    assert!(again.contains("written as null: 2"), "{again}");
}

#[test]
fn bad_images_are_skipped_listed_and_never_counted() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.encode("fsq", "good", &["--format", "npy", "--shard-rows", "5"]);
    let good = export.rows("good");
    // Before the first, in the middle, at the end of a shard, and after the last.
    for name in ["birds/.x.jpg", "birds/0.jpg", "birds/05x.jpg", "birds/09.jpg", "trees/99.jpg"] {
        fs::write(export.path("images").join(name), b"no image").unwrap();
    }
    let printed = export.encode("fsq", "some", &["--format", "npy", "--shard-rows", "5", "--verify"]);
    assert!(printed.contains("skipped    4 images"), "{printed}");
    let set = export.set("some");
    assert_eq!(set.sidecar.counts.images, 23);
    assert_eq!(set.sidecar.counts.skipped.values().sum::<u64>(), 4);
    let listed = fs::read_to_string(export.path("some/skipped.jsonl")).unwrap();
    for key in ["birds/0\"", "birds/05x", "trees/99"] {
        assert!(listed.contains(key), "{listed}");
    }
    assert_eq!(export.rows("some"), good);
    let only_bad = export.path("bad");
    fs::create_dir_all(&only_bad).unwrap();
    fs::write(only_bad.join("a.jpg"), b"no image").unwrap();
    let output = export.try_encode("fsq", "none", &["--format", "npy", "--data", &text(&only_bad)]);
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains("a: the file is plain text"), "{}", said(&output));
}

/// Names that an archive cannot hold, and texts that a format cannot store, do not stop a job.
#[test]
fn awkward_keys_and_empty_texts_are_no_end() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let from = export.path("images/birds/00.jpg");
    for name in [format!("{}.jpg", "n".repeat(120)), "__x__.jpg".into(), "fine.jpg".into()] {
        fs::create_dir_all(export.path("names")).unwrap();
        fs::copy(&from, export.path("names").join(name)).unwrap();
    }
    let names = text(&export.path("names"));
    export.encode("fsq", "tar", &["--data", &names, "--format", "webdataset"]);
    assert_eq!(export.rows("tar").len(), 1);
    assert_eq!(export.set("tar").sidecar.counts.skipped.len(), 2);
    export.encode("fsq", "npy", &["--data", &names, "--format", "npy"]);
    assert_eq!(export.rows("npy").len(), 3);

    let list = export.path("names/list.jsonl");
    fs::write(&list, "{\"path\": \"fine.jpg\", \"text\": \"\", \"label\": -1}\n{\"path\": \"no.jpg\"}\n{\"path\": \"no2.jpg\"}\n").unwrap();
    export.encode("fsq", "mds", &["--data", &text(&list), "--format", "mds", "--verify"]);
    assert_eq!(export.set("mds").sidecar.counts.skipped.len(), 1, "one reason for both");
}
