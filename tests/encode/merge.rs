//! Which sets can be merged: every part of one division, or whole sets. Also a list of images that
//! grew.

use super::*;

fn merge(export: &Export, sets: &[&str], out: &str, args: &[&str]) -> Output {
    let sets: Vec<String> = sets.iter().map(|set| text(&export.path(set))).collect();
    let out = text(&export.path(out));
    let sets = sets.iter().map(String::as_str);
    pixtok(&["merge", "--out", &out].into_iter().chain(sets).chain(args.iter().copied()).collect::<Vec<_>>())
}

fn refused(output: &Output, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}", said(output));
    for part in parts {
        assert!(said(output).contains(part), "{part} is missing: {}", said(output));
    }
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

#[test]
fn a_division_with_a_part_missing_is_merged_only_when_asked_for() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    for (out, part) in [("parts", "0/3"), ("parts", "1/3"), ("parts", "2/3"), ("whole", "0/1")] {
        export.encode("fsq", out, &["--format", "npy", "--shard", part]);
    }
    let part = |i: u32| format!("parts/part-{i:05}-of-00003");
    let (first, second, third) = (part(0), part(1), part(2));
    refused(
        &merge(&export, &[&third, &first], "out", &[]),
        &["1 of the 3 parts of this division are missing: 1/3;", "--partial"],
    );
    refused(
        &merge(&export, &[&second], "out", &[]),
        &["2 of the 3 parts of this division are missing: 0/3, 2/3;"],
    );
    refused(
        &merge(&export, &["whole", &first], "out", &[]),
        &["whole is a whole set, and the part 0/3 of an input is with it", "join the parts first"],
    );
    refused(&merge(&export, &["whole"], "out", &["--partial"]), &["these are whole sets"]);
    export.encode("fsq", "shards", &["--format", "npy", "--shard-rows", "10"]);
    let file = "shards/tokens-00001-of-00003.npy";
    refused(&merge(&export, &[file], "out", &[]), &["a single file of ", "shards was given"]);
    assert!(!export.path("out").exists());
    // With all parts nothing is missing, so there is no note.
    let printed = done(&merge(&export, &["parts"], "all", &["--partial"]));
    assert!(!printed.contains("missing"), "{printed}");
    assert!(export.set("all").sidecar.source.parts.is_empty());
    assert_eq!(export.rows("all").len(), 23);

    let expected = [export.rows(&first), export.rows(&third)].concat();
    fs::rename(export.path(&second), export.path("elsewhere")).unwrap();
    refused(&merge(&export, &["parts"], "out", &[]), &["2 of 3 parts are present", "--partial"]);
    let words = "2 of 3 parts were joined (0/3, 2/3), and the images of the others are missing";
    let printed = done(&merge(&export, &["parts"], "some", &["--partial"]));
    assert!(printed.contains(words), "{printed}");
    assert_eq!(export.rows("some"), expected);
    let source = export.set("some").sidecar.source;
    assert_eq!((source.part, source.parts), (None, vec!["0/3".to_owned(), "2/3".to_owned()]));
    let printed = done(&pixtok(&["inspect", &text(&export.path("some"))]));
    assert!(printed.contains(words), "{printed}");
    let printed = done(&export.decode("fsq", "some", "images-again", &[]));
    assert!(printed.contains(words), "{printed}");
    for sets in [&["some"][..], &["some", "elsewhere"], &["some", "all"]] {
        refused(&merge(&export, sets, "out", &["--partial"]), &["is not merged again", words]);
    }
}

/// A merged set has the note on what OLMo-core must be told, too. Its vocabulary is the largest
/// that one of the sets states.
#[test]
fn a_joined_set_says_which_type_olmo_core_would_read() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    for (part, ids) in [("0/2", "100278"), ("1/2", "70000")] {
        let args = ["--format", "raw", "--dtype", "u16", "--vocab-size", ids, "--shard", part];
        export.encode("fsq", "parts", &args);
    }
    let printed = done(&merge(&export, &["parts"], "joined", &[]));
    assert!(printed.contains("vocabulary of 100278 ids for uint32; set dtype to uint16 there"), "{printed}");
    assert_eq!(export.set("joined").sidecar.vocab_size, Some(100_278));
    let printed = done(&pixtok(&["inspect", &text(&export.path("joined"))]));
    assert!(printed.contains("code i is id 0 + i, in a vocabulary of 100278 ids"), "{printed}");
    // If no size is stated, it follows from the largest id, as in `encode`.
    export.encode("fsq", "wide", &["--format", "raw", "--dtype", "i32"]);
    let printed = done(&merge(&export, &["wide"], "copy", &[]));
    assert!(printed.contains("vocabulary of 1000 ids for uint16; set dtype to uint32 there"), "{printed}");
    assert_eq!(export.set("copy").sidecar.vocab_size, None);
}

#[test]
fn a_grown_list_is_told_by_how_many_and_its_new_images_join() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let jobs = [
        ("npy", &["--format", "npy"][..]),
        ("flipped", &["--format", "webdataset", "--flip"]),
        ("stopped", &["--format", "parquet", "--shard-rows", "5"]),
    ];
    for (out, args) in jobs {
        export.encode("fsq", out, args);
    }
    for part in ["0/2", "1/2"] {
        export.encode("fsq", "parts", &["--format", "npy", "--shard", part]);
    }
    fs::remove_file(export.path("stopped/tokens.json")).unwrap();
    let (old, images) = (export.rows("npy"), export.path("images"));
    for (name, file) in [("birds/90.jpg", "birds/00.jpg"), ("trees/91.jpg", "trees/01.jpg")] {
        fs::create_dir_all(export.path("new").join(name).parent().unwrap()).unwrap();
        fs::copy(images.join(file), export.path("new").join(name)).unwrap();
        fs::copy(images.join(file), images.join(name)).unwrap();
    }
    let changed = "the list of images changed: ";
    for (out, args) in jobs {
        let output = export.try_encode("fsq", out, args);
        let (counts, remedy) = match out {
            "stopped" => ("23 images before and 25 now", "restore the list"),
            _ => ("2 new (birds/90, trees/91) and 0 gone, 23 images before and 25 now", "`pixtok merge`"),
        };
        refused(&output, &[changed, counts, remedy]);
        assert!(!said(&output).contains("blake3"), "{}", said(&output));
    }
    // Other differences are reported too.
    let output = export.try_encode("fsq", "npy", &["--format", "npy", "--batch-size", "5"]);
    refused(&output, &[changed, "2 new", "batch_size was 4 and is 5"]);
    let mut new = 0;
    for part in ["0/2", "1/2"] {
        let output = export.try_encode("fsq", "parts", &["--format", "npy", "--shard", part]);
        refused(&output, &["the list of images changed"]);
        let told = |count: usize| said(&output).contains(&format!("{changed}{count} new"));
        let count = (1..=2).find(|&count| told(count)).unwrap_or(0);
        assert!(count > 0 || said(&output).contains("but in other parts"), "{}", said(&output));
        new += count;
    }
    assert_eq!(new, 2, "each part tells its own");

    // Only the new images.
    let data = text(&export.path("new"));
    export.encode("fsq", "new-npy", &["--format", "npy", "--data", &data]);
    done(&merge(&export, &["npy", "new-npy"], "joined", &[]));
    let joined = [old, export.rows("new-npy")].concat();
    assert_eq!(export.rows("joined"), joined);
    let set = export.set("joined");
    let source = &set.sidecar.source;
    assert_eq!((source.kind.as_str(), source.classes.len(), &source.part), ("sets", 2, &None));
    let paths: Vec<&str> = set.sidecar.sources.iter().map(|source| source.path.as_str()).collect();
    assert_eq!(paths, [text(&images), data.clone()]);
    assert!(source.path.contains(&data) && source.blake3.len() == 64);
    let printed = done(&pixtok(&["inspect", &text(&export.path("joined"))]));
    assert!(printed.contains("(sets)") && printed.contains(&format!("{data} (folder)")), "{printed}");
    done(&export.decode("fsq", "joined", "images-again", &[]));

    // A merged set can be merged again, but no image may occur twice.
    refused(&merge(&export, &["joined", "new-npy"], "twice", &[]), &["birds/90", "that the other set lacks"]);
    fs::rename(export.path("new/birds/90.jpg"), export.path("new/birds/92.jpg")).unwrap();
    fs::remove_file(export.path("new/trees/91.jpg")).unwrap();
    let output = export.try_encode("fsq", "new-npy", &["--format", "npy", "--data", &data]);
    refused(
        &output,
        &[changed, "1 new (birds/92) and 2 gone, 2 images before and 1 now", "restore the list"],
    );
    export.encode("fsq", "one", &["--format", "npy", "--data", &data]);
    refused(
        &merge(&export, &["joined", "one"], "more", &[]),
        &["differ in the classes of their labels", "--classes"],
    );
    fs::write(export.path("classes.txt"), "birds\ntrees\n").unwrap();
    let classes = text(&export.path("classes.txt"));
    export.encode("fsq", "alike", &["--format", "npy", "--data", &data, "--classes", &classes]);
    done(&merge(&export, &["joined", "alike"], "more", &[]));
    assert_eq!(export.rows("more").len(), 26);
    assert_eq!(export.set("more").sidecar.sources.len(), 3);
}
