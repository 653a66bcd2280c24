//! Parts of an input of tars or Parquet files: each is whole files and reads no others, and merged
//! they are what one process writes.

use super::*;
use crate::common::tables;

/// A folder `tars` with a tar for each of these lists of (key, label).
fn tars(export: &Export, tars: &[&[(&str, Option<&str>)]]) -> String {
    let folder = export.path("tars");
    fs::create_dir_all(&folder).unwrap();
    let mut photographs = photographs("train").into_iter();
    for (number, samples) in tars.iter().enumerate() {
        let file = fs::File::create(folder.join(format!("{number}.tar"))).unwrap();
        let mut builder = tar::Builder::new(file);
        for (key, label) in *samples {
            builder.append_path_with_name(photographs.next().unwrap(), format!("{key}.jpg")).unwrap();
            let Some(label) = label else { continue };
            let mut header = tar::Header::new_gnu();
            header.set_size(label.len() as u64);
            builder.append_data(&mut header, format!("{key}.cls"), label.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
    }
    text(&folder)
}

const FIVE: [&[(&str, Option<&str>)]; 5] = [
    &[("a", Some("3")), ("b", Some("1"))],
    &[("c", Some("4"))],
    &[("d", None), ("e", Some("1")), ("f", Some("5"))],
    &[("g", Some("9")), ("h", Some("2"))],
    &[("i", Some("6"))],
];

/// Overwrites tars with zeros of the same length.
fn damage(folder: &str, numbers: &[usize]) {
    for number in numbers {
        let path = Path::new(folder).join(format!("{number}.tar"));
        fs::write(&path, vec![0; fs::metadata(&path).unwrap().len() as usize]).unwrap();
    }
}

fn keys(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.key.as_str()).collect()
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

fn merge(export: &Export, parts: &str, out: &str) -> Output {
    pixtok(&["merge", &text(&export.path(parts)), "--out", &text(&export.path(out))])
}

fn refused(output: &Output, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}", said(output));
    for part in parts {
        assert!(said(output).contains(part), "{part} is missing: {}", said(output));
    }
}

#[test]
fn parts_of_tars_are_whole_tars_and_read_no_others() {
    let export = Export::new();
    export.scratch.train("fsq", &["--set=train.steps=1"]);
    let data = tars(&export, &FIVE);
    let args = ["--data", &data, "--format", "parquet", "--shard-rows", "2"];
    let split = [&args[..], &["--flip", "--val-share", "0.3"]].concat();
    export.encode("fsq", "whole", &args);
    export.encode("fsq", "split", &split);
    let bytes: Vec<Vec<u8>> =
        (0..5).map(|i| fs::read(Path::new(&data).join(format!("{i}.tar"))).unwrap()).collect();
    for (part, files, others) in [("0/2", 3, &[1, 3][..]), ("1/2", 2, &[0, 2, 4])] {
        // A tar that is read would be noticed, since its samples are gone.
        damage(&data, others);
        let printed = export.encode("fsq", "parts", &[&args[..], &["--shard", part, "--verify"]].concat());
        assert!(printed.contains(&format!("part {part} is {files} of the 5 files of ")), "{printed}");
        export.encode("fsq", "split-parts", &[&split[..], &["--shard", part]].concat());
        for (i, bytes) in bytes.iter().enumerate() {
            fs::write(Path::new(&data).join(format!("{i}.tar")), bytes).unwrap();
        }
    }
    let (first, second) =
        (export.rows("parts/part-00000-of-00002"), export.rows("parts/part-00001-of-00002"));
    assert_eq!((keys(&first), keys(&second)), (vec!["a", "b", "d", "e", "f", "i"], vec!["c", "g", "h"]));
    let source = export.set("parts").sidecar.source;
    assert_eq!((source.division, source.labels_used), (Division::Files, Some(true)));

    // Merged, they are the rows of one process, part by part.
    let output = merge(&export, "parts", "joined");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(export.rows("joined"), [first, second].concat());
    assert_eq!(sorted(export.rows("joined")), sorted(export.rows("whole")));
    let [joined, whole] = ["joined", "whole"].map(|out| {
        let mut sidecar = export.set(out).sidecar;
        // How many samples have no label is counted part by part.
        sidecar.source.notes.clear();
        (sidecar.source, sidecar.counts)
    });
    assert_eq!(joined, whole);
    for name in ["train", "val"] {
        let out = format!("{name}-joined");
        assert!(merge(&export, &format!("split-parts/{name}"), &out).status.success());
        assert_eq!(sorted(export.rows(&out)), sorted(export.rows(&format!("split/{name}"))));
    }
    let output = pixtok(&["inspect", &text(&export.path("parts/part-00001-of-00002"))]);
    assert!(said(&output).contains(", part 1/2 by files"), "{}", said(&output));

    // A stopped part goes on.
    let part = export.path("parts/part-00000-of-00002");
    let before = contents(&part);
    fs::remove_file(part.join("tokens.json")).unwrap();
    let printed = export.encode("fsq", "parts", &[&args[..], &["--shard", "0/2"]].concat());
    assert!(printed.contains("6 images are in finished shards"), "{printed}");
    assert_eq!(contents(&part), before);
    // With fewer tars than parts, keys decide.
    let printed = export.encode("fsq", "six", &[&args[..], &["--shard", "0/6"]].concat());
    assert!(!printed.contains(" of the 5 files"), "{printed}");
    assert_eq!(export.set("six/part-00000-of-00006").sidecar.source.division, Division::Keys);
}

/// A part that an older version began by keys goes on by keys, and is not merged with parts by
/// files.
#[test]
fn a_part_goes_on_as_it_was_divided() {
    let export = Export::new();
    export.scratch.train("fsq", &["--set=train.steps=1"]);
    let data = tars(&export, &FIVE);
    let args = ["--data", &data, "--format", "npy"];
    for part in ["0/2", "1/2"] {
        export.encode("fsq", "parts", &[&args[..], &["--shard", part]].concat());
    }
    let part = export.path("parts/part-00001-of-00002");
    for name in ["job.json", "tokens.json"] {
        let path = part.join(name);
        let mut stated: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let of_set = if name == "job.json" { "/set/source" } else { "/source" };
        let source = stated.pointer_mut(of_set).unwrap().as_object_mut().unwrap();
        assert_eq!(source.remove("division").unwrap(), "files");
        source.remove("labels_used").unwrap();
        fs::write(&path, stated.to_string()).unwrap();
    }
    let printed = export.encode("fsq", "parts", &[&args[..], &["--shard", "1/2"]].concat());
    assert!(printed.contains("is finished already") && !printed.contains("of the 5 files"), "{printed}");
    refused(
        &merge(&export, "parts", "joined"),
        &["differ in how their input was divided into parts", "encode the parts of one of the two again"],
    );
}

#[test]
fn keys_that_clash_between_parts_are_found_when_they_are_merged() {
    let export = Export::new();
    export.scratch.train("fsq", &["--set=train.steps=1"]);
    let data = tars(&export, &[&[("a", None), ("b", None)], &[("c", None), ("b", None)]]);
    let args = ["--data", &data, "--format", "npy"];
    for part in ["0/2", "1/2"] {
        export.encode("fsq", "parts", &[&args[..], &["--shard", part]].concat());
    }
    // The same words as one process says before its first image.
    let (merged, alone) = (merge(&export, "parts", "joined"), export.try_encode("fsq", "out", &args));
    let words = ["two images have the key \"b\"", "0.tar", "1.tar", "--key-prefix shard"];
    refused(&merged, &words);
    refused(&alone, &words);
    let error =
        |output: &Output| said(output).lines().find(|line| line.starts_with("error: ")).map(str::to_owned);
    assert_eq!(error(&merged), error(&alone));
    assert!(!export.path("joined").exists());
    // Without the tars, the parts are named.
    fs::rename(&data, export.path("elsewhere")).unwrap();
    let words =
        ["two images have the key \"b\"", "part-00000-of-00002", "part-00001-of-00002", "--key-prefix"];
    refused(&merge(&export, "parts", "joined"), &words);

    // An image that cannot be used has its key too.
    let data = tars(&export, &[&[("a", None), ("b", None)], &[("c", None)]]);
    let mut builder = tar::Builder::new(fs::File::create(Path::new(&data).join("1.tar")).unwrap());
    builder.append_path_with_name(photographs("train").remove(0), "c.jpg").unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    builder.append_data(&mut header, "b.jpg", &b"none"[..]).unwrap();
    builder.finish().unwrap();
    for part in ["0/2", "1/2"] {
        export.encode("fsq", "bad", &[&args[..], &["--shard", part]].concat());
    }
    refused(&merge(&export, "bad", "joined"), &["two images have the key \"b\"", "0.tar", "1.tar"]);
    let prefixed = [&args[..], &["--key-prefix", "shard"]].concat();
    for part in ["0/2", "1/2"] {
        export.encode("fsq", "prefixed", &[&prefixed[..], &["--shard", part]].concat());
    }
    assert!(merge(&export, "prefixed", "joined").status.success());
    assert_eq!(keys(&export.rows("joined")), ["0/a", "0/b", "1/c"]);
}

/// Each part reads the labels of its own files; `merge` refuses what one process would not write.
#[test]
fn labels_of_parts_by_files_agree_or_are_not_merged() {
    let export = Export::new();
    export.scratch.train("fsq", &["--set=train.steps=1"]);
    let parts = |name: &str, labels: [&[(&str, Option<&str>)]; 3]| {
        let data = tars(&export, &labels);
        let args = ["--data", &data, "--format", "parquet"];
        for part in ["0/3", "1/3", "2/3"] {
            export.encode("fsq", name, &[&args[..], &["--shard", part]].concat());
        }
        export.encode("fsq", &format!("{name}-whole"), &args);
        merge(&export, name, &format!("{name}-joined"))
    };
    let numbers = parts("numbers", [&[("a", Some("3"))], &[("b", None)], &[("c", Some("1"))]]);
    assert!(numbers.status.success(), "{}", said(&numbers));
    // A part without labels has no classes of its own.
    let names = parts("names", [&[("a", None)], &[("b", Some("owl"))], &[("c", Some("ant"))]]);
    assert!(names.status.success(), "{}", said(&names));
    assert_eq!(export.set("names-joined").sidecar.source.classes, ["ant", "owl"]);
    for name in ["numbers", "names"] {
        let rows = export.rows(&format!("{name}-joined"));
        assert_eq!(rows, export.rows(&format!("{name}-whole")), "{name}");
    }
    let mixed = parts("mixed", [&[("a", Some("3"))], &[("b", Some("owl"))], &[("c", Some("ant"))]]);
    refused(&mixed, &["differ in the classes of their labels", "give both encodes the same --classes"]);
    let odd = parts("odd", [&[("a", Some("3"))], &[("b", None)], &[("c", Some("1.5"))]]);
    refused(&odd, &["only one of ", "uses the labels of its images", "--label-column"]);
}

#[test]
fn parts_of_parquet_files_are_whole_files() {
    let export = Export::new();
    export.scratch.train("fsq", &["--set=train.steps=1"]);
    let photographs = photographs("train");
    for (number, photographs) in photographs[..7].chunks(2).enumerate() {
        let rows: Vec<(PathBuf, &str)> = photographs.iter().map(|path| (path.clone(), "owl")).collect();
        tables::write(&export.path(&format!("set/train-{number:05}-of-00004.parquet")), &rows);
    }
    let data = text(&export.path("set"));
    let args = ["--data", &data, "--format", "jsonl"];
    export.encode("fsq", "whole", &args);
    for (part, files) in [("0/3", 2), ("1/3", 1), ("2/3", 1)] {
        let printed = export.encode("fsq", "parts", &[&args[..], &["--shard", part]].concat());
        assert!(printed.contains(&format!("part {part} is {files} of the 4 files of ")), "{printed}");
    }
    let output = merge(&export, "parts", "joined");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(sorted(export.rows("joined")), sorted(export.rows("whole")));
}
