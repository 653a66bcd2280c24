use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use tar::{Builder, Header};

use super::*;
use crate::data::{Dataset, Difference, SampleSet};
use crate::picture::{DecodeOptions, Picture};

fn png(width: usize) -> Vec<u8> {
    let rgb = (0..3 * width * 5).map(|i| (i * 7 % 251) as u8).collect();
    Picture { width, height: 5, rgb }.to_png().unwrap()
}

/// Writes a tar with these members.
fn write(path: &Path, members: &[(&str, &[u8])]) {
    let mut builder = Builder::new(vec![]);
    for (name, content) in members {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    fs::write(path, builder.into_inner().unwrap()).unwrap();
}

/// Two tars: `a` with three samples, `b` with two of the same keys.
fn folder() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let (seven, eight) = (png(7), png(8));
    let of_a = [
        ("x/0.txt", &b"a caption"[..]),
        ("x/0.png", &seven),
        ("x/0.cls", b"10\n"),
        ("x/1.png", &eight),
        ("x/1.cls", b"9"),
        ("2.PNG", &seven),
    ];
    write(&root.path().join("a.tar"), &of_a);
    write(&root.path().join("b.tar"), &[("x/0.png", &seven), ("x/1.png", b""), ("x/1.cls", b"-3")]);
    root
}

fn names(set: &Dataset) -> Vec<String> {
    (0..set.len()).map(|index| set.name(index).into_owned()).collect()
}

fn refusal(path: &Path) -> String {
    Dataset::open(path, Split::All).unwrap_err().to_string()
}

#[test]
fn images_are_named_by_tar_and_member_and_read_in_place() {
    let root = folder();
    let set = Dataset::open(root.path(), Split::All).unwrap();
    assert_eq!(
        names(&set),
        ["a.tar/x/0.png", "a.tar/x/1.png", "a.tar/2.PNG", "b.tar/x/0.png", "b.tar/x/1.png"]
    );
    assert_eq!(set.labels(), ["-3", "9", "10"]);
    let labels: Vec<_> = (0..5).map(|index| set.label(index)).collect();
    assert_eq!(labels, [Some(2), Some(1), None, None, Some(0)]);
    let widths: Vec<_> =
        (0..4).map(|index| set.picture(index, &DecodeOptions::default()).unwrap().width).collect();
    assert_eq!(widths, [7, 8, 7, 7]);
    assert_eq!(set.picture(4, &DecodeOptions::default()).unwrap_err(), "the file is empty");
    assert_eq!(set.shards(Share::whole()).unwrap(), [0..3, 3..5]);
    let one = Dataset::open(&root.path().join("b.tar"), Split::All).unwrap();
    assert_eq!(names(&one), ["b.tar/x/0.png", "b.tar/x/1.png"]);
}

#[test]
fn splits_are_disjoint_and_keep_labels() {
    let root = tempfile::tempdir().unwrap();
    for tar in ["a.tar", "b.tar"] {
        let members: Vec<(String, String)> = (0..300)
            .flat_map(|i| [(format!("{i}.png"), "x".to_owned()), (format!("{i}.cls"), (i % 4).to_string())])
            .collect();
        let members: Vec<(&str, &[u8])> = members.iter().map(|(n, c)| (n.as_str(), c.as_bytes())).collect();
        write(&root.path().join(tar), &members);
    }
    let open = |split| Dataset::open(root.path(), split).unwrap();
    let (train, val) = (open(Split::Train { val_share: 0.1 }), open(Split::Val { val_share: 0.1 }));
    assert!((30..=90).contains(&val.len()), "{}", val.len());
    let mut both = [names(&train), names(&val)].concat();
    let mut all = names(&open(Split::All));
    both.sort();
    all.sort();
    assert_eq!(both, all);
    assert_eq!(train.labels(), val.labels());
    assert_ne!(train.fingerprint(), val.fingerprint());
    for index in 0..val.len() {
        let number: usize = val.name(index)[6..].trim_end_matches(".png").parse().unwrap();
        assert_eq!(val.label(index), Some(number % 4));
    }
    let message = Dataset::open(root.path(), Split::Val { val_share: 1e-9 }).unwrap_err().to_string();
    assert!(message.contains("of 600 for validation"), "{message}");
}

#[test]
fn samples_without_a_usable_image_are_bad_images_as_in_an_export() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.tar");
    write(
        &path,
        &[("a.txt", b"x"), ("b.cls", b"\xff"), ("b.jpg", b"x"), ("c.cls", &[b'1'; 300]), ("c.jpg", b"x")],
    );
    let set = Dataset::open(&path, Split::All).unwrap();
    let mut stream = SampleSet::open(&path).unwrap().stream().unwrap();
    assert_eq!(names(&set), ["x.tar/a", "x.tar/b.jpg", "x.tar/c.jpg"]);
    for index in 0..3 {
        let reason = set.picture(index, &DecodeOptions::default()).unwrap_err();
        assert_eq!(Err(reason), stream.next(&mut |_| true).unwrap().unwrap().image);
    }
}

#[test]
fn what_is_no_data_set_is_explained() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    write(&path("none.tar"), &[("a.txt", b"x"), ("b.json", b"{}")]);
    assert!(refusal(&path("none.tar")).contains("no images in "), "{}", refusal(&path("none.tar")));
    fs::write(path("x.tar.gz"), b"").unwrap();
    assert!(refusal(&path("x.tar.gz")).contains("is compressed; decompress it"));
    assert!(
        refusal(&path("gone")).contains("does not exist; give a folder of images, tar shards or Parquet")
    );
    for name in ["notes.txt", "x.jsonl"] {
        fs::write(path(name), b"").unwrap();
        assert!(refusal(&path(name)).contains("is neither images nor tar shards"), "{name}");
    }
    fs::write(path("x.parquet"), b"").unwrap();
    assert!(refusal(&path("x.parquet")).contains("x.parquet is an empty file and not a Parquet file"));
    assert!(refusal(root.path()).contains("so it is ambiguous"), "{}", refusal(root.path()));
}

#[test]
fn hostile_tars_name_the_file_and_the_last_good_key() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.tar");
    write(&path, &[("a.jpg", &[1; 700]), ("b.jpg", &[2; 700])]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..4 * 512 + 100]).unwrap();
    let message = refusal(&path);
    assert!(
        message.contains("x.tar cannot be read beyond the sample a: it is cut short within b.jpg"),
        "{message}"
    );
    write(&path, &[("a.jpg", b"x"), ("b.jpg", b"x"), ("a.txt", b"x")]);
    assert!(
        refusal(&path).contains("a.txt belongs to a, but other samples lie between"),
        "{}",
        refusal(&path)
    );
    for name in ["/abs/a.jpg", "../a.jpg"] {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(0);
        header.set_cksum();
        fs::write(&path, [header.as_bytes(), &[0; 1024][..]].concat()).unwrap();
        assert!(refusal(&path).contains("x.tar, the name of a member"), "{}", refusal(&path));
    }
}

#[test]
fn other_tars_have_other_fingerprints() {
    let root = folder();
    let print = || Dataset::open(root.path(), Split::All).unwrap().fingerprint();
    let before = print();
    assert_eq!(print().difference(&before), None);
    let tar = fs::File::options().append(true).open(root.path().join("b.tar")).unwrap();
    tar.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
    assert_eq!(print().difference(&before), Some(Difference::Times));
    write(&root.path().join("b.tar"), &[("x/0.png", &png(9)), ("x/1.png", b"")]);
    assert_eq!(print().difference(&before), Some(Difference::Names));
}

#[test]
fn more_tars_than_are_kept_open_are_read() {
    let root = tempfile::tempdir().unwrap();
    let image = png(7);
    for tar in 0..OPEN_FILES + 5 {
        write(&root.path().join(format!("{tar:03}.tar")), &[("x.png", &image)]);
    }
    let set = Dataset::open(root.path(), Split::All).unwrap();
    for index in (0..set.len()).chain([0, set.len() - 1, 0]) {
        set.picture(index, &DecodeOptions::default()).unwrap();
    }
    let Ok((tars, _)) = crate::data::samples::recognise(root.path()) else { panic!() };
    let crate::data::samples::Found::Tars(tars) = tars else { panic!() };
    let shards = Shards::open(root.path(), tars, Split::All, &Selection::default(), &|_| ()).unwrap();
    (0..shards.len()).for_each(|index| drop(shards.read(index).unwrap()));
    assert_eq!(shards.open.lock().unwrap().len(), OPEN_FILES);
    fs::write(root.path().join("000.tar"), b"").unwrap();
    assert!(shards.read(0).unwrap_err().starts_with("cannot read it: "));
}
