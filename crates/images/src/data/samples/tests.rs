use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use super::*;

/// A folder with these files, each empty.
pub(super) fn folder(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }
    root
}

/// The value as a sample's JSON.
pub(super) fn carried(object: Value) -> Option<Carried> {
    Some(Carried::parse(object.to_string().as_bytes()).unwrap())
}

/// All samples.
pub(super) fn all(set: &SampleSet) -> Vec<Sample> {
    let mut stream = set.stream().unwrap();
    let mut samples = vec![];
    while let Some(sample) = stream.next(&mut |_| true).unwrap() {
        samples.push(sample);
    }
    assert_eq!(stream.next(&mut |_| panic!("asked after the end")).unwrap(), None);
    samples
}

/// The samples before an error, and the error.
pub(super) fn failure(set: &SampleSet) -> (Vec<Sample>, DataError) {
    let mut stream = set.stream().unwrap();
    let mut samples = vec![];
    loop {
        match stream.next(&mut |_| true) {
            Ok(Some(sample)) => samples.push(sample),
            Ok(None) => panic!("no error after {} samples", samples.len()),
            Err(error) => {
                assert_eq!(stream.next(&mut |_| panic!("asked after an error")).unwrap(), None);
                return (samples, error);
            }
        }
    }
}

/// The keys that were asked for, in order, and those of the samples that came.
pub(super) fn keys(set: &SampleSet, wanted: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    let mut stream = set.stream().unwrap();
    let (mut asked, mut got) = (vec![], vec![]);
    let mut ask = |key: &str| {
        asked.push(key.to_owned());
        wanted(key)
    };
    while let Some(sample) = stream.next(&mut ask).unwrap() {
        got.push(sample.key);
    }
    (asked, got)
}

fn refusal(path: &Path) -> String {
    SampleSet::open(path).unwrap_err().to_string()
}

#[test]
fn what_is_there_tells_the_kind() {
    let kind = |path: &Path| SampleSet::open(path).unwrap().kind();
    let root = folder(&["x.TAR", "y.tar", ".hidden.tar", "._y.tar", "notes.txt", "sub/a.txt", "list.jsonl"]);
    assert_eq!(kind(root.path()), "webdataset");
    assert_eq!(kind(&root.path().join("x.TAR")), "webdataset");
    assert_eq!(kind(&root.path().join("list.jsonl")), "list");
    // Images in a hidden folder are not looked for anywhere.
    assert_eq!(kind(folder(&["x.tar", ".thumbs/a.png", "sub/.b/a.png"]).path()), "webdataset");
    assert_eq!(kind(folder(&["sub/a.png"]).path()), "folder");
    // A folder is no file, whatever its name; nor is the list beside the images an input then.
    let root =
        folder(&["a.png", "shards.tar/b.png", "metadata.jsonl", ".c.parquet", "old.tar.gz", "data/x.txt"]);
    assert_eq!(SampleSet::open(root.path()).unwrap().len(), Some(2));
}

#[test]
fn a_missing_or_unknown_input_is_named() {
    let root = folder(&["a.png", "b.npz"]);
    for name in ["nowhere", "a.png/b"] {
        let message = refusal(&root.path().join(name));
        assert!(message.contains(&format!("{name} does not exist; give a folder of images")), "{message}");
    }
    for name in ["a.png", "b.npz"] {
        let message = refusal(&root.path().join(name));
        assert!(
            message.contains(&format!("{name} is not an input for an export; give a folder")),
            "{message}"
        );
    }
    let message = refusal(folder(&["notes.txt"]).path());
    assert!(message.starts_with("no images in "), "{message}");
    let root = folder(&[]);
    symlink("nowhere.tar", root.path().join("x.tar")).unwrap();
    let message = refusal(root.path());
    assert!(message.starts_with("cannot read ") && message.contains("x.tar"), "{message}");
}

#[test]
fn several_kinds_in_a_folder_are_ambiguous() {
    for (files, found, remedies) in [
        (&["a.png", "x.tar"][..], "images and .tar files", &["holds only images", "/x.tar (or a folder"][..]),
        (&["a.png", "y.parquet", "x.parquet"], "images and .parquet files", &["/x.parquet (or"]),
        (&["x.tar", "x.parquet"], ".tar files and .parquet files", &["/x.tar (or", "/x.parquet (or"]),
        (&["a.png", "data/x.parquet"], "images and .parquet files", &["/data for the .parquet files"]),
        (&["a.jpg", "x.tar", "x.parquet"], "images and .tar files and .parquet files", &["/x.tar"]),
    ] {
        let message = refusal(folder(files).path());
        assert!(message.contains(&format!("holds {found}, so it is ambiguous; give ")), "{message}");
        for remedy in remedies {
            assert!(message.contains(remedy), "{message}");
        }
    }
}

#[test]
fn img2dataset_is_known_by_what_lies_beside_its_shards() {
    let kind = |files: &[&str]| SampleSet::open(folder(files).path()).map(|set| set.kind());
    for lists in [["00000.parquet", "00001.parquet"], ["00000_stats.json", "00001_stats.json"]] {
        let tars = [&["00000.tar", "00001.tar"][..], &lists].concat();
        assert_eq!(kind(&tars).unwrap(), "webdataset");
        let folders = [&["00000/000000000.jpg", "00001/000010000.jpg"][..], &lists].concat();
        assert_eq!(kind(&folders).unwrap(), "folder");
    }
    assert_eq!(kind(&["cc-0.tar", "cc-0.parquet", "cc-0_stats.json"]).unwrap(), "webdataset");
    // A list without its shard may be a data set.
    for files in [
        &["00000.tar", "00001.parquet"][..],
        &["train.tar", "train.parquet"],
        &["00000/a.jpg", "00001.parquet"],
        &["train/a.jpg", "train.parquet"],
    ] {
        let message = kind(files).unwrap_err().to_string();
        assert!(message.contains("so it is ambiguous"), "{files:?}: {message}");
    }
}

#[test]
fn class_folders_beside_a_shard_are_ambiguous() {
    for (files, found, remedy) in [
        (&["cat/deep/a.png", "cat/b.txt", "stray.tar"][..], "deep/a.png) and .tar files", "/stray.tar (or"),
        (&["cat/deep/a.png", "stray.parquet"], "a.png) and .parquet files", "/stray.parquet (or"),
        (&["cat/a.png", "data/x.parquet"], "a.png) and .parquet files", "/data for the .parquet files"),
        (
            &["data/a.png", "data/x.parquet"],
            "(data/a.png) and .parquet files",
            "/data for the .parquet files",
        ),
    ] {
        let message = refusal(folder(files).path());
        for part in [
            "holds images in subfolders (",
            found,
            "so it is ambiguous; give a folder that holds only",
            remedy,
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
    // Links are followed, as in a folder of images; what cannot be read, here a link to itself,
    // shows none.
    let (root, classes) = (folder(&["x.tar"]), folder(&["a.png"]));
    symlink("self", root.path().join("self")).unwrap();
    assert_eq!(SampleSet::open(root.path()).unwrap().kind(), "webdataset");
    symlink(classes.path(), root.path().join("cat")).unwrap();
    assert!(refusal(root.path()).contains("(cat/a.png) and .tar files"), "{}", refusal(root.path()));
}

#[test]
fn compressed_archives_are_to_be_unpacked_first() {
    for name in ["x.tar.gz", "x.TGZ", "x.tar.zst", "x.zip"] {
        let root = folder(&[name]);
        for path in [root.path().to_owned(), root.path().join(name)] {
            let message = refusal(&path);
            assert!(message.contains(&format!("{name} is compressed; decompress it")), "{message}");
        }
    }
    // Left out in silence it would be missing in the output.
    assert!(refusal(folder(&["x.tar", "y.tar.gz"]).path()).contains("y.tar.gz is compressed"));
}

#[test]
fn shards_are_known_again_by_names_and_sizes() {
    let root = folder(&["x.tar", "y.tar"]);
    let print = || SampleSet::open(root.path()).unwrap().fingerprint();
    let before = print();
    assert_eq!((print(), before.len()), (before.clone(), 64));
    fs::write(root.path().join("y.tar"), [0; 512]).unwrap();
    let longer = print();
    assert_ne!(longer, before);
    fs::rename(root.path().join("y.tar"), root.path().join("z.tar")).unwrap();
    assert_ne!(print(), longer);
}

#[test]
fn a_folder_with_images_is_one_whatever_parquet_files_lie_below() {
    for class in ["a", "z"] {
        let root = tempfile::tempdir().unwrap();
        for file in [format!("{class}/0.png"), "m/train.parquet".into(), "n/._x.parquet".into()] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        assert!(matches!(recognise(root.path()), Ok((Found::Folder { .. }, _))), "{class}");
        fs::remove_file(root.path().join(class).join("0.png")).unwrap();
        let Ok((Found::Parquets(files), _)) = recognise(root.path()) else { panic!("{class}") };
        assert_eq!(files, [root.path().join("m/train.parquet")]);
    }
}

#[test]
fn what_lies_beside_shards_is_said() {
    let empty_tar = [0; 1024];
    let root = folder(&["b.heic", "c.7z", "d.tar.part", "sub/e.tar", "0_stats.json"]);
    fs::write(root.path().join("0.tar"), empty_tar).unwrap();
    let set = SampleSet::open(root.path()).unwrap();
    let words = set.notes().join("\n");
    for part in ["2 archives are passed over", "1 .7z", "1 .tar", "2 files are", "1 .heic", "1 .part"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(!words.contains("stats"), "{words}");
    // The archive's images would be missing from the output.
    let beside = folder(&["0.parquet", "more.zip"]);
    assert!(matches!(recognise(beside.path()), Err(DataError::Compressed(_))));
}
