//! Keys: each belongs to one image, which is checked before the work, and none is lost silently.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

/// Tars whose keys all count from 0.
fn shards(export: &Export) -> String {
    let folder = export.path("shards");
    fs::create_dir_all(&folder).unwrap();
    for (number, photographs) in photographs("train")[..12].chunks(4).enumerate() {
        let file = fs::File::create(folder.join(format!("shard-{number:04}.tar"))).unwrap();
        let mut builder = tar::Builder::new(file);
        for (i, photograph) in photographs.iter().enumerate() {
            builder.append_path_with_name(photograph, format!("{i:06}.jpg")).unwrap();
        }
        builder.finish().unwrap();
    }
    text(&folder)
}

#[test]
fn keys_of_tars_clash_before_the_work_or_have_a_prefix() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let data = shards(&export);
    let args = ["--data", &data, "--format", "jsonl", "--shard-rows", "2"];
    let output = export.try_encode("fsq", "out", &args);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for part in ["\"000000\"", "shard-0000.tar", "shard-0001.tar", "--key-prefix shard"] {
        assert!(said(&output).contains(part), "{part} is missing: {}", said(&output));
    }
    assert!(!export.path("out/manifest.jsonl").exists(), "nothing is encoded");
    let prefixed = [&args[..], &["--key-prefix", "shard"]].concat();
    // The folder of a job that failed early can be used again.
    export.encode("fsq", "out", &prefixed);
    let keys: Vec<String> = export.rows("out").into_iter().map(|row| row.key).collect();
    let expected = (0..12).map(|i| format!("shard-{:04}/{:06}", i / 4, i % 4));
    assert_eq!(keys, expected.collect::<Vec<_>>());
    for part in ["0/2", "1/2"] {
        export.encode("fsq", "parts", &[&prefixed[..], &["--shard", part]].concat());
    }
    let (parts, joined) = (text(&export.path("parts")), text(&export.path("joined")));
    let output = pixtok(&["merge", &parts, "--out", &joined]);
    assert!(output.status.success(), "{}", said(&output));
    let mut rows: Vec<String> = export.rows("joined").into_iter().map(|row| row.key).collect();
    rows.sort();
    assert_eq!(rows, keys);
    let output = export.try_encode("fsq", "no", &["--format", "jsonl", "--key-prefix", "shard"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("is read as a folder"), "{}", said(&output));
    // It does not distinguish tars with the same name.
    fs::rename(export.path("shards/shard-0001.tar"), export.path("shards/shard-0000.TAR")).unwrap();
    let output = export.try_encode("fsq", "alike", &prefixed);
    for part in ["\"shard-0000/000000\"", "shard-0000.TAR", "rename one"] {
        assert!(said(&output).contains(part), "{part} is missing: {}", said(&output));
    }
}

#[test]
fn keys_of_mirror_images_and_of_lists_clash_before_the_work() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let list = |name: &str, lines: &[&str]| {
        fs::write(export.path("images").join(name), lines.join("\n")).unwrap();
        text(&export.path("images").join(name))
    };
    let twice = list("twice.jsonl", &["{\"path\": \"birds/00.jpg\"}"; 2]);
    let flipped = list(
        "flipped.jsonl",
        &[
            "{\"path\": \"birds/00.jpg\", \"key\": \"a\"}",
            "{\"path\": \"birds/00.jpg\", \"key\": \"a~flip\"}",
        ],
    );
    for (data, args, key) in [(&twice, &[][..], "\"birds/00\""), (&flipped, &["--flip"], "\"a~flip\"")] {
        let output = export.try_encode("fsq", "out", &[&["--format", "npy", "--data", data], args].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        for part in [key, "both in ", ".jsonl", "rename one"] {
            assert!(said(&output).contains(part), "{part} is missing: {}", said(&output));
        }
        assert!(!export.path("out/manifest.jsonl").exists());
    }
    export.encode("fsq", "plain", &["--format", "npy", "--data", &flipped]);
}

#[test]
fn parts_that_overlap_are_not_merged() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    for (out, part) in
        [("parts", "0/2"), ("parts", "1/2"), ("thirds", "1/3"), ("quarters", "1/4"), ("whole", "0/1")]
    {
        export.encode("fsq", out, &["--format", "npy", "--shard", part]);
    }
    let part = |name: &str| text(&export.path(name));
    let (first, third) = (part("parts/part-00000-of-00002"), part("thirds/part-00001-of-00003"));
    let quarter = part("quarters/part-00001-of-00004");
    let (in_common, one_key) = ("images in common", "two images have the key");
    for (a, b, words) in [
        (&first, &first, ["the parts 0/2 and 0/2", in_common]),
        (&first, &third, ["the parts 0/2 and 1/3", in_common]),
        (&first, &quarter, ["the parts 0/2 and 1/4", "of different divisions"]),
        // For whole or merged sets, the rows show what the folder holds.
        (&part("whole"), &part("whole"), [one_key, "both in "]),
    ] {
        let output = pixtok(&["merge", a, b, "--out", &part("joined")]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        for part in [words[0], words[1], a, b] {
            assert!(said(&output).contains(part), "{part} is missing: {}", said(&output));
        }
        assert!(!export.path("joined/manifest.jsonl").exists());
    }
}

#[test]
fn what_is_passed_over_is_said_once_and_odd_names_are_listed() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let images = export.path("images");
    for name in ["birds/a.HEIC", "birds/b.heic", "birds/c", "birds/@eaDir/00.jpg/THUMB.jpg"] {
        fs::create_dir_all(images.join(name).parent().unwrap()).unwrap();
        fs::write(images.join(name), b"x").unwrap();
    }
    for name in [&b"caf\xe9.jpg"[..], b"caf\xe8.jpg"] {
        fs::copy(images.join("birds/00.jpg"), images.join(OsStr::from_bytes(name))).unwrap();
    }
    let printed = export.encode("fsq", "out", &["--format", "npy"]);
    for part in ["3 files are passed over", "2 .heic, 1 without one", "1 folder is passed over", "@eaDir"] {
        assert_eq!(printed.matches(part).count(), 1, "{part}: {printed}");
    }
    assert_eq!(export.rows("out").len(), 23);
    let listed = fs::read_to_string(export.path("out/skipped.jsonl")).unwrap();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    for part in [r"caf\\xE8.jpg", r"caf\\xE9.jpg", "is not UTF-8"] {
        assert!(listed.contains(part), "{listed}");
    }
}

#[test]
fn a_list_may_spell_names_otherwise() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let images = export.path("images");
    fs::create_dir(images.join("cafe\u{301}")).unwrap();
    for name in ["mu\u{308}ller.jpg", "cafe\u{301}/\u{e9}.jpg"] {
        fs::copy(images.join("birds/00.jpg"), images.join(name)).unwrap();
    }
    let list = images.join("list.jsonl");
    fs::write(&list, "{\"path\": \"m\u{fc}ller.jpg\"}\n{\"path\": \"caf\u{e9}/e\u{301}.jpg\"}\n").unwrap();
    export.encode("fsq", "out", &["--format", "npy", "--data", &text(&list)]);
    let keys: Vec<String> = export.rows("out").into_iter().map(|row| row.key).collect();
    assert_eq!(keys, ["m\u{fc}ller", "caf\u{e9}/e\u{301}"]);
}

#[test]
fn rows_that_would_be_one_file_are_not_decoded() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    for part in ["sets/part-00000-of-00002", "sets/part-00001-of-00002"] {
        export.encode("fsq", part, &["--format", "npy"]);
    }
    let output = export.decode("fsq", "sets", "images-again", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for part in ["row 0 and of row 23", "birds/00", "--sheets"] {
        assert!(said(&output).contains(part), "{part} is missing: {}", said(&output));
    }
    assert!(!export.path("images-again").exists());
    assert!(export.decode("fsq", "sets", "first", &["--limit", "23"]).status.success());
    assert!(export.decode("fsq", "sets", "sheets", &["--sheets"]).status.success());
}
