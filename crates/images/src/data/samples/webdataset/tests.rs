use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::super::tests::{all, carried, failure, keys};
use super::shard::MEMBER_LIMIT;
use super::*;
use crate::data::SampleSet;
use crate::data::samples::{Altered, Encoded};

/// A tar of these members.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(vec![]);
    for (name, content) in members {
        append(&mut builder, EntryType::Regular, name, content);
    }
    builder.into_inner().unwrap()
}

fn append(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
}

/// A header as hostile writers make them: the library would refuse the name.
fn raw_header(name: &[u8], kind: u8, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[156] = kind;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// A tar with that content, opened.
fn shard(content: &[u8]) -> (tempfile::TempDir, SampleSet) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.tar");
    fs::write(&path, content).unwrap();
    let set = SampleSet::open(&path).unwrap();
    (root, set)
}

fn keys_of(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|sample| sample.key.as_str()).collect()
}

fn bytes(content: &[u8]) -> Result<Encoded, String> {
    Ok(Encoded::Bytes(content.to_vec()))
}

#[test]
fn adjacent_members_of_a_key_are_a_sample() {
    let (_root, set) = shard(&tar(&[
        ("a/b.c/1.jpg", b"one"),
        ("a/b.c/1.cls", b" 7\n"),
        ("a/b.c/1.txt", b"two\nlines\r\n"),
        ("a/b.c/1.json", b"{\"w\": 5}"),
        ("a/b.c/1.npy", b"ignored"),
        ("a/b.c/1.caption.txt", b"ignored too"),
        ("./2.TXT", b"before the image"),
        ("./2.seg.PNG", b"two"),
        ("README", b"no ending, no key"),
        ("3.webp", b""),
    ]));
    assert_eq!((set.kind(), set.len(), set.classes().len()), ("webdataset", None, 0));
    let samples = all(&set);
    let expected = Sample {
        key: "a/b.c/1".into(),
        image: bytes(b"one"),
        label: Some(7),
        text: Some("two\nlines".into()),
        json: carried(json!({"w": 5})),
        altered: Altered::default(),
        tried: None,
    };
    assert_eq!(samples[0], expected);
    assert_eq!((samples[1].key.as_str(), samples[1].text.as_deref()), ("2", Some("before the image")));
    assert_eq!(samples[1].image, bytes(b"two"));
    assert_eq!((samples[2].key.as_str(), &samples[2].image), ("3", &bytes(b"")));
    assert_eq!(samples.len(), 3);
    assert_eq!(all(&set), samples, "a second stream begins at the start");
}

#[test]
fn endings_of_two_parts_are_taken_where_nothing_else_is() {
    let members: [(&str, &[u8]); 12] = [
        ("0.input.jpg", b"x"),
        ("0.outputs.cls", b"dog"),
        ("0.outputs.txt", b"two"),
        ("1.caption", b"one"),
        ("1.jpg", b"x"),
        ("1.LABEL", b"cat\n"),
        ("2.de.txt", b"Hund"),
        ("2.en.txt", b"dog"),
        ("2.jpg", b"x"),
        ("3.jpg", b"x"),
        ("3.note.txt", b"left"),
        ("3.txt", b"taken"),
    ];
    let (root, set) = shard(&tar(&members));
    let found = |set: &SampleSet| -> Vec<(Option<i64>, Option<String>)> {
        all(set).into_iter().map(|sample| (sample.label, sample.text)).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        found(&set),
        [(Some(1), text("two")), (Some(0), text("one")), (None, None), (None, text("taken"))]
    );
    assert_eq!(set.classes(), ["cat", "dog"]);
    let notes = set.notes();
    assert!(notes[0].contains("not used: 1 .de.txt, 1 .en.txt, 1 .note.txt ("), "{notes:?}");
    let name = |name: &str| Some(name.to_owned());
    let select = |selection| SampleSet::select(&root.path().join("x.tar"), &selection);
    let chosen = Selection { text: name("en.txt"), ..Selection::default() };
    assert_eq!(found(&select(chosen).unwrap())[2], (None, text("dog")));
    for (selection, part) in [
        (Selection { text: name("fr.txt"), ..Selection::default() }, "--text-column fr.txt: no member"),
        (Selection { label: name("id"), ..Selection::default() }, "the members .id: no sample has one"),
    ] {
        let message = select(selection).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn shards_come_by_name_and_have_their_own_keys() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("b.tar"), tar(&[("0.jpg", b"of b"), ("1.jpg", b"")])).unwrap();
    fs::write(root.path().join("a.tar"), tar(&[("1.jpg", b""), ("0.jpg", b"of a")])).unwrap();
    fs::write(root.path().join("._a.tar"), b"no tar").unwrap();
    fs::write(root.path().join("c.tar"), tar(&[])).unwrap();
    let set = SampleSet::open(root.path()).unwrap();
    let samples = all(&set);
    assert_eq!(keys_of(&samples), ["1", "0", "0", "1"]);
    assert_eq!((&samples[1].image, &samples[2].image), (&bytes(b"of a"), &bytes(b"of b")));
}

#[test]
fn folders_long_names_and_hidden_files_are_fine() {
    let mut builder = Builder::new(vec![]);
    let long = format!("{}/{}", "d".repeat(90), "n".repeat(200));
    append(&mut builder, EntryType::Directory, "a.b/", b"");
    append(&mut builder, EntryType::XGlobalHeader, "pax_global_header", b"13 comment=x\n");
    append(&mut builder, EntryType::Regular, "a.b/._1.jpg", b"resource fork");
    append(&mut builder, EntryType::Regular, "a.b/.DS_Store", b"junk");
    append(&mut builder, EntryType::Regular, "a.b/1.jpg", b"one");
    append(&mut builder, EntryType::Regular, "a.b/._1.txt", b"resource fork");
    append(&mut builder, EntryType::Regular, "a.b/1.txt", b"text");
    append(&mut builder, EntryType::Regular, &format!("{long}.jpg"), b"two");
    let pax = "25 path=pax/\u{e9}/three.jpg\n";
    append(&mut builder, EntryType::XHeader, "PaxHeaders/three", pax.as_bytes());
    append(&mut builder, EntryType::Regular, "three", b"three");
    let (_root, set) = shard(&builder.into_inner().unwrap());
    let samples = all(&set);
    assert_eq!(keys_of(&samples), ["a.b/1", long.as_str(), "pax/\u{e9}/three"]);
    assert_eq!((samples[0].text.as_deref(), &samples[0].image), (Some("text"), &bytes(b"one")));
    assert_eq!((&samples[1].image, &samples[2].image), (&bytes(b"two"), &bytes(b"three")));
}

#[test]
fn broken_companions_and_missing_images_are_bad_samples() {
    let (_root, set) = shard(&tar(&[
        ("none.txt", b"x"),
        ("cls.cls", b"\xff"),
        ("cls.jpg", b"x"),
        ("txt.jpg", b"x"),
        ("txt.txt", b"\xff"),
        ("json.jpg", b"x"),
        ("json.json", b"{"),
        ("array.json", b"[1]"),
        ("array.jpg", b"x"),
        ("other.npy", b"x"),
        ("good.jpg", b"x"),
    ]));
    let samples = all(&set);
    for (sample, part) in samples.iter().zip([
        "no image member",
        "the label is not UTF-8",
        "the text is not UTF-8",
        "broken JSON",
        "the JSON is not an object",
    ]) {
        let reason = sample.image.as_ref().unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!((samples.len(), samples[5].image.is_ok()), (6, true));
    let unused = "1 member of a tar is passed over, since nothing beside it is an image, a text, a label or JSON, for instance other.npy";
    assert!(notes(&set)[0].starts_with(unused), "{:?}", notes(&set));
}

#[test]
fn clashing_keys_are_refused() {
    for (members, parts) in [
        (&["a.jpg", "b.jpg", "b.png"][..], ["b.jpg and b.png are two images of b", "rename"]),
        (&["a.jpg", "b.0.jpg", "b.1.jpg"], ["b.0.jpg and b.1.jpg", "first dot"]),
        (&["a.jpg", "b.txt", "b.TXT"], ["b.txt and b.TXT are two parts of one kind of b", "rename"]),
        (&["a.jpg", "b.jpg", "a.txt", "c.jpg"], ["a.txt belongs to a, but other", "sort the members"]),
    ] {
        let members: Vec<(&str, &[u8])> = members.iter().map(|&name| (name, &b"x"[..])).collect();
        let (_root, set) = shard(&tar(&members));
        let (_, error) = failure(&set);
        let message = error.to_string();
        for part in [parts[0], parts[1], "keys clash in ", "x.tar"] {
            assert!(message.contains(part), "{message}");
        }
        // It is so even where nothing is wanted.
        let mut stream = set.stream().unwrap();
        assert!(stream.next(&mut |_| false).is_err());
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (name, reason) in [
        (&b"/abs/a.jpg"[..], "is absolute"),
        (b"../a.jpg", "`..`"),
        (b"x/../../a.txt", "`..`"),
        (b"x\\a.jpg", "backslash"),
    ] {
        let mut builder = Builder::new(vec![]);
        append(&mut builder, EntryType::Regular, "good.jpg", b"x");
        append(&mut builder, EntryType::Regular, "next.jpg", b"x");
        builder.append(&raw_header(name, b'0', 1), &b"x"[..]).unwrap();
        let (_root, set) = shard(&builder.into_inner().unwrap());
        let (samples, error) = failure(&set);
        assert_eq!(keys_of(&samples), ["good"]);
        let message = error.to_string();
        let shown = String::from_utf8_lossy(name).replace('\\', "\\\\");
        for part in [reason, &shown, "x.tar, the name of a member"] {
            assert!(message.contains(part), "{message}");
        }
    }
}

/// Appends a link.
fn link(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    builder.append_link(&mut header, name, target).unwrap();
}

fn notes(set: &SampleSet) -> Vec<String> {
    set.notes().to_vec()
}

#[test]
fn links_are_the_files_that_they_lead_to() {
    use EntryType::{Link, Regular, Symlink};
    let mut builder = Builder::new(vec![]);
    append(&mut builder, Regular, "cat/0.jpg", b"zero");
    link(&mut builder, Link, "dog/1.jpg", "cat/0.jpg");
    link(&mut builder, Link, "dog/2.jpg", "./late/9.jpg");
    append(&mut builder, Regular, "dog/2.cls", b"5");
    link(&mut builder, Symlink, "dog/3.jpg", "../cat/0.jpg");
    link(&mut builder, Symlink, "dog/4.jpg", "3.jpg");
    link(&mut builder, Symlink, "latest", "cat");
    link(&mut builder, Symlink, "dog/5.jpg", "../latest/./0.jpg");
    let long = format!("{}/6.jpg", "d".repeat(150));
    link(&mut builder, Link, &long, "cat/0.jpg");
    append(&mut builder, Regular, "late/9.jpg", b"nine");
    link(&mut builder, Link, "late/9.jpg", "late/9.jpg");
    let (_root, set) = shard(&builder.into_inner().unwrap());
    let samples = all(&set);
    let found: Vec<_> = samples.iter().map(|sample| (sample.key.as_str(), &sample.image)).collect();
    let (zero, nine) = (bytes(b"zero"), bytes(b"nine"));
    let long = long.trim_end_matches(".jpg");
    assert_eq!(
        found,
        [
            ("cat/0", &zero),
            ("dog/1", &zero),
            ("dog/2", &nine),
            ("dog/3", &zero),
            ("dog/4", &zero),
            ("dog/5", &zero),
            (long, &zero),
            ("late/9", &nine),
        ]
    );
    assert_eq!(samples[2].label, Some(5));
    let words = notes(&set);
    assert!(
        words.len() == 2 && words[0].starts_with("1 link in tars is passed over"),
        "the folder alone: {words:?}"
    );
}

#[test]
fn links_that_lead_nowhere_are_counted() {
    use EntryType::{Link, Symlink};
    let mut builder = Builder::new(vec![]);
    append(&mut builder, EntryType::Regular, "a/0.jpg", b"zero");
    for (kind, target) in [
        (Symlink, "/etc/0.jpg"),
        (Symlink, "../../a/0.jpg"),
        (Symlink, "gone.jpg"),
        (Symlink, "6.jpg"),
        (Symlink, "5.jpg"),
        (Link, "gone.jpg"),
        (Link, "/a/0.jpg"),
        (Symlink, "../a"),
    ] {
        let number = builder.get_ref().len() / 512 + 2;
        link(&mut builder, kind, &format!("b/{number}.jpg"), target);
    }
    link(&mut builder, Symlink, "c/5.jpg", "6.jpg");
    link(&mut builder, Symlink, "c/6.jpg", "5.jpg");
    let (_root, set) = shard(&builder.into_inner().unwrap());
    assert_eq!(keys_of(&all(&set)), ["a/0"]);
    let words = notes(&set);
    assert_eq!(words.len(), 1, "{words:?}");
    assert!(
        words[0].starts_with("10 links in tars are ") && words[0].contains("(to /etc/0.jpg) in x.tar"),
        "{words:?}"
    );
}

/// Some writers give a hard link the size of its file; others store the content again.
#[test]
fn hard_links_may_state_a_size_or_have_content() {
    for (stored, expected) in [(&b""[..], b"zero"), (b"four", b"four")] {
        let mut tar = tar(&[("a.jpg", b"zero")]);
        tar.truncate(1024);
        let mut header = raw_header(b"b.jpg", b'1', 4);
        header.as_mut_bytes()[157..162].copy_from_slice(b"a.jpg");
        header.set_cksum();
        tar.extend(header.as_bytes());
        tar.extend(stored);
        tar.resize(tar.len().next_multiple_of(512), 0);
        tar.extend(super::tests::tar(&[("c.jpg", b"x")]));
        let (_root, set) = shard(&tar);
        let samples = all(&set);
        assert_eq!(keys_of(&samples), ["a", "b", "c"]);
        assert_eq!(samples[1].image, bytes(expected));
    }
}

#[test]
fn tars_one_after_another_are_one() {
    let (one, two, three) = (tar(&[("a.jpg", b"1")]), tar(&[("b.jpg", b"2")]), tar(&[("c.jpg", &[3; 700])]));
    // Padding as tar writes it, a single block of zeros, and a length that is no multiple of a
    // block.
    for padding in [0, 512, 9 * 1024, 7] {
        let mut padded = one.clone();
        padded.resize(one.len() + padding, 0);
        let (_root, set) = shard(&[padded, two.clone(), three.clone(), vec![0; 10240]].concat());
        assert_eq!(keys_of(&all(&set)), ["a", "b", "c"], "{padding}");
        assert_eq!(notes(&set), [""; 0]);
    }
    let (_root, set) = shard(&[one.clone(), two.clone(), b"garbage".to_vec(), vec![0; 600]].concat());
    assert_eq!(keys_of(&all(&set)), ["a", "b"]);
    assert!(
        notes(&set)[0].starts_with("607 bytes after the end marks of tars are ")
            && notes(&set)[0].contains("x.tar")
    );
    let (_root, set) = shard(&[0; 10240]);
    assert_eq!((all(&set).len(), notes(&set)), (0, vec!["1 tar is empty, for instance x.tar".to_owned()]));
    // The second tar is checked as strictly as the first.
    let (_root, set) = shard(&[one.clone(), two[..512].to_vec()].concat());
    assert!(failure(&set).1.to_string().contains("beyond the sample a: it is cut short within b.jpg"));
    let (_root, set) = shard(&[one, two, tar(&[("a.jpg", b"1")])].concat());
    assert!(failure(&set).1.to_string().contains("a.jpg belongs to a"));
}

#[test]
fn members_that_are_passed_over_are_counted() {
    let (_root, set) = shard(&tar(&[
        ("@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", b"x"),
        (".thumbnails/a.jpg", b"x"),
        ("a.jpg", b"x"),
        ("._a.jpg", b"x"),
        (".b.jpg", b"x"),
        ("README", b"x"),
    ]));
    assert_eq!(keys_of(&all(&set)), ["a"]);
    let words = notes(&set);
    for (note, part) in
        words.iter().zip(["2 members of tars are ", "1 hidden image in a tar is ", "1 member of a tar is "])
    {
        assert!(note.starts_with(part), "{note}");
    }
    assert_eq!(words.len(), 3);
}

#[test]
fn keys_can_begin_with_their_tar() {
    let root = tempfile::tempdir().unwrap();
    for name in ["b.1.tar", "a.tar"] {
        fs::write(root.path().join(name), tar(&[("x/0.jpg", b""), ("1.jpg", b"")])).unwrap();
    }
    let mut set = SampleSet::open(root.path()).unwrap();
    assert!(set.prefix_keys());
    let expected = ["a/x/0", "a/1", "b.1/x/0", "b.1/1"];
    assert_eq!(keys_of(&all(&set)), expected);
    let mut found = vec![];
    set.keys(&mut |path, key| found.push((path.file_name().unwrap().to_owned(), key.to_owned()))).unwrap();
    let tars = ["a.tar", "a.tar", "b.1.tar", "b.1.tar"];
    assert!(
        found
            .iter()
            .zip(tars.iter().zip(expected))
            .all(|(found, (tar, key))| found.0 == **tar && found.1 == key)
    );
    assert!(!SampleSet::open(super::super::tests::folder(&["a.png"]).path()).unwrap().prefix_keys());
}

#[test]
fn keys_are_the_same_however_their_letters_are_spelt() {
    let (_root, set) = shard(&tar(&[("caf\u{e9}.jpg", b"x"), ("cafe\u{301}.txt", b"text"), ("d.jpg", b"x")]));
    let samples = all(&set);
    assert_eq!(keys_of(&samples), ["caf\u{e9}", "d"]);
    assert_eq!(samples[0].text.as_deref(), Some("text"));
    let apart = [("caf\u{e9}.jpg", &b"x"[..]), ("d.jpg", b"x"), ("cafe\u{301}.txt", b"text")];
    let (_root, set) = shard(&tar(&apart));
    assert!(failure(&set).1.to_string().contains("sort the members"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_label_or_of_json() {
    let (_root, set) = shard(&tar(&[
        ("a.cls", b"\xEF\xBB\xBF10\n"),
        ("a.jpg", b"x"),
        ("a.json", b"\xEF\xBB\xBF{\"k\":1}"),
        ("b.cls", b"2"),
        ("b.jpg", b"x"),
        ("c.cls", b"\x02\0\0\0"),
        ("c.jpg", b"x"),
    ]));
    let samples = all(&set);
    assert_eq!(samples.iter().map(|sample| sample.label).collect::<Vec<_>>(), [Some(10), Some(2), None]);
    assert_eq!(samples[0].json, carried(json!({"k": 1})));
    assert!(samples[2].image.as_ref().unwrap_err().contains("control characters"));
}

#[test]
fn json_stays_as_it_was_written_and_blank_captions_give_way() {
    let (_root, set) = shard(&tar(&[
        ("a.caption", b"words"),
        ("a.jpg", b"x"),
        (
            "a.json",
            b"{\n  \"id\": 18446744073709551617,\n  \"score\": [NaN, Infinity, 1.50],\n  \"pixtok\": {}\n}",
        ),
        ("a.txt", b""),
        ("b.jpg", b"x"),
        ("b.json", b"{\"score\": nan}"),
        ("b.txt", b""),
        ("c.caption", b"words"),
        ("c.jpg", b"x"),
        ("c.txt", b" \r\n"),
        ("d.caption", b"\n"),
        ("d.jpg", b"x"),
        ("d.txt", b" "),
    ]));
    let samples = all(&set);
    let json = samples[0].json.as_ref().unwrap().to_string();
    assert_eq!(json, "{\"id\":18446744073709551617,\"pixtok\":{},\"score\":[null,null,1.50]}");
    let found: Vec<_> =
        samples.iter().map(|sample| (sample.text.as_deref(), sample.altered.non_finite)).collect();
    assert_eq!(found, [(Some("words"), 2), (Some(""), 0), (Some("words"), 0), (Some(" "), 0)]);
    assert!(samples[1].image.as_ref().unwrap_err().contains("broken JSON"));
}

#[test]
fn a_caption_in_the_json_counts_where_no_text_has_words() {
    let members = tar(&[
        ("a.jpg", b"x"),
        ("a.json", b"{\"caption\": \"in json\", \"w\": 1}"),
        ("b.jpg", b"x"),
        ("b.json", b"{\"caption\": \"in json\"}"),
        ("b.txt", b"text"),
        ("c.jpg", b"x"),
        ("c.json", b"{\"text\": \"in json\"}"),
        ("c.txt", b" "),
    ]);
    let (root, set) = shard(&members);
    let samples = all(&set);
    let texts: Vec<_> = samples.iter().map(|sample| sample.text.as_deref()).collect();
    assert_eq!(texts, [Some("in json"), Some("text"), Some("in json")]);
    let json: Vec<_> = samples.iter().map(|sample| sample.json.clone()).collect();
    assert_eq!(json, [carried(json!({"w": 1})), carried(json!({"caption": "in json"})), None]);
    // Texts that are asked for are members.
    let selection = Selection { text: Some("txt".to_owned()), ..Selection::default() };
    let only = all(&SampleSet::select(root.path(), &selection).unwrap());
    let texts: Vec<_> = only.iter().map(|sample| sample.text.as_deref()).collect();
    assert_eq!(texts, [None, Some("text"), Some(" ")]);
}

#[test]
fn names_that_are_not_utf8_are_bad_samples() {
    let mut builder = Builder::new(vec![]);
    for name in [&b"caf\xe9/1.jpg"[..], b"caf\xe8/1.jpg", b"good.jpg", b"x/../\xe9.jpg"] {
        builder.append(&raw_header(name, b'0', 1), &b"x"[..]).unwrap();
    }
    let (_root, set) = shard(&builder.into_inner().unwrap());
    let (samples, error) = failure(&set);
    assert!(error.to_string().contains("`..`"), "{error}");
    assert_eq!(keys_of(&samples), ["caf\\xE9/1", "caf\\xE8/1"]);
    for sample in &samples {
        assert!(sample.image.as_ref().unwrap_err().contains("is not UTF-8"));
    }
}

#[test]
fn what_is_no_tar_is_named() {
    for (content, part) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"[..],
            "is a git-lfs pointer",
        ),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "is an HTML page"),
        (b"", "is an empty file"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03 and so on", "x.tar is compressed; decompress it"),
        (&[b'x'; 2048], "is plain text"),
    ] {
        let (_root, set) = shard(content);
        let message = failure(&set).1.to_string();
        assert!(message.contains(part) && message.contains("x.tar"), "{message}");
    }
}

#[test]
fn a_tar_that_is_cut_short_names_the_last_whole_key() {
    let whole = tar(&[("a.jpg", &[1; 700]), ("a.cls", b"1"), ("b.jpg", &[2; 700]), ("b.cls", b"2")]);
    // Header and content of each member in blocks: a.jpg 0-2, a.cls 3-4, b.jpg 5-7, b.cls 8-9, end
    // mark 10-11.
    for (length, before) in [
        (100, &[][..]),
        (512, &[]),
        (1536, &[]),
        (5 * 512, &[]),
        (5 * 512 + 100, &[]),
        (6 * 512, &["a"]),
        (8 * 512, &["a"]),
        (8 * 512 - 10, &["a"]),
        (9 * 512, &["a"]),
        (10 * 512, &["a"]),
        (11 * 512, &["a", "b"]),
        (12 * 512, &["a", "b"]),
    ] {
        let (_root, set) = shard(&whole[..length]);
        if length >= 11 * 512 {
            assert_eq!(keys_of(&all(&set)), before, "one block of zeros ends a tar as well");
            continue;
        }
        // What is cut is noticed by those as well who want nothing of it.
        assert!(set.stream().unwrap().next(&mut |_| false).is_err());
        let (samples, error) = failure(&set);
        assert_eq!(keys_of(&samples), before, "{length}");
        let message = error.to_string();
        let place = before.last().map_or("even to its first sample".into(), |key| format!("sample {key}"));
        for part in ["x.tar cannot be read ", &place, "cut short", "fetch or write the file again"] {
            assert!(message.contains(part), "{length}: {message}");
        }
    }
}

#[test]
fn what_is_sparse_is_refused() {
    let mut builder = Builder::new(vec![]);
    append(&mut builder, EntryType::Regular, "a.jpg", b"x");
    append(&mut builder, EntryType::Regular, "b.jpg", b"x");
    let mut sparse = raw_header(b"c.jpg", b'S', 0);
    sparse.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
    sparse.set_cksum();
    builder.append(&sparse, &b""[..]).unwrap();
    let (_root, set) = shard(&builder.into_inner().unwrap());
    let (samples, error) = failure(&set);
    assert_eq!(keys_of(&samples), ["a"]);
    assert!(error.to_string().contains("c.jpg is stored as a sparse file"), "{error}");

    let mut builder = Builder::new(vec![]);
    append(&mut builder, EntryType::XHeader, "PaxHeaders/a", b"22 GNU.sparse.major=1\n");
    append(&mut builder, EntryType::Regular, "GNUSparseFile.0/a.jpg", b"x");
    let (_root, set) = shard(&builder.into_inner().unwrap());
    assert!(failure(&set).1.to_string().contains("a.jpg is stored as a sparse file"));
}

/// A tar with `small.jpg` after members that claim `size` bytes each, of which the disk stores
/// none.
fn shard_with_big_members(path: &Path, names: &[String], size: u64) {
    fs::write(path, b"").unwrap();
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    for name in names {
        file.write_all(raw_header(name.as_bytes(), b'0', size).as_bytes()).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length + size.next_multiple_of(512)).unwrap();
    }
    file.write_all(&tar(&[("small.jpg", b"x")])).unwrap();
}

#[test]
fn a_member_over_the_limit_is_a_bad_sample_and_not_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.tar");
    shard_with_big_members(&path, &["big.jpg".to_owned()], MEMBER_LIMIT + 1);
    let samples = all(&SampleSet::open(&path).unwrap());
    assert_eq!(keys_of(&samples), ["big", "small"]);
    let reason = samples[0].image.as_ref().unwrap_err();
    assert!(reason.contains("more bytes than the limit of 2147483648"), "{reason}");
    assert_eq!(samples[1].image, bytes(b"x"));
}

#[test]
fn refused_samples_are_asked_for_once_and_their_images_skipped() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.tar");
    let names: Vec<String> = (0..16).map(|n| format!("big{n:02}.jpg")).collect();
    shard_with_big_members(&path, &names, 1 << 30);
    fs::write(root.path().join("y.tar"), tar(&[("y.jpg", b"x"), ("y.json", b"{"), ("z.jpg", b"x")])).unwrap();
    let set = SampleSet::open(root.path()).unwrap();
    let started = std::time::Instant::now();
    let (asked, got) = keys(&set, |key| key == "small" || key == "z");
    // Reading 16 GiB would take longer on any machine.
    assert!(started.elapsed().as_secs_f64() < 1.5, "{:?}", started.elapsed());
    let expected: Vec<&str> = names.iter().map(|name| &name[..5]).chain(["small", "y", "z"]).collect();
    assert_eq!(asked, expected);
    assert_eq!(got, ["small", "z"]);
}

#[test]
fn an_extension_that_claims_too_much_is_refused_unread() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.tar");
    let whole = tar(&[("a.jpg", b"x"), ("b.jpg", b"x")]);
    let members = &whole[..whole.len() - 1024];
    let extension = |kind: u8, size: u64| raw_header(b"extension", kind, size).as_bytes().to_vec();
    let long_name = [extension(b'L', 6), b"c.jpg\0".to_vec(), vec![0; 506]].concat();
    let (pax, huge) = ([extension(b'x', 13), b"13 comment=x\n".to_vec(), vec![0; 499]].concat(), 100 << 30);
    for kind in [b'L', b'K', b'x', b'g'] {
        for before in [vec![], long_name.clone(), [pax.clone(), long_name.clone()].concat()] {
            // The disk stores next to nothing of it.
            fs::write(&path, [members, &before, &extension(kind, huge)].concat()).unwrap();
            let file = OpenOptions::new().append(true).open(&path).unwrap();
            file.set_len(file.metadata().unwrap().len() + huge + 1024).unwrap();
            let (samples, error) = failure(&SampleSet::open(&path).unwrap());
            assert_eq!(keys_of(&samples), ["a"]);
            assert!(
                error.to_string().contains("claims 107374182400 bytes, more than the limit of"),
                "{error}"
            );
        }
    }
    fs::write(&path, [members, &extension(b'L', 1 << 20), &[b'x'; 512]].concat()).unwrap();
    let error = failure(&SampleSet::open(&path).unwrap()).1.to_string();
    assert!(error.contains("beyond the sample a: it is cut short within a long name"), "{error}");
    let rest = tar(&[("d.jpg", b"x"), ("e.jpg", b"x")]);
    fs::write(&path, [members, &pax, &long_name, &rest].concat()).unwrap();
    assert_eq!(keys_of(&all(&SampleSet::open(&path).unwrap())), ["a", "b", "c", "e"]);
}

/// A folder of tars `0.tar`, `1.tar`, …, each with one image and a label.
fn labelled(labels: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (number, label) in labels.iter().enumerate() {
        let (image, class) = (format!("{number}.jpg"), format!("{number}.cls"));
        let members = [(image.as_str(), &b"x"[..]), (class.as_str(), label.as_bytes())];
        fs::write(root.path().join(format!("{number}.tar")), tar(&members)).unwrap();
    }
    root
}

#[test]
fn a_share_reads_only_its_own_tars() {
    let root = labelled(&["4", "5", "6", "7", "8"]);
    let whole = SampleSet::open(root.path()).unwrap();
    // Read as far as its headers, it would be noted.
    let damaged = root.path().join("2.tar");
    let length = fs::read(&damaged).unwrap().len();
    fs::write(&damaged, vec![7; length]).unwrap();
    let share = |rank, size| {
        SampleSet::select_share(root.path(), &Selection::default(), Share { rank, size }).unwrap()
    };
    let own = share(1, 2);
    assert_eq!((own.files_of_share(), own.labels_used()), (Some([2, 5]), Some(true)));
    assert_eq!(own.fingerprint(), whole.fingerprint());
    let samples = all(&own);
    assert_eq!(keys_of(&samples), ["1", "3"]);
    assert_eq!(samples[1].label, Some(7));
    let mut keys = vec![];
    own.keys(&mut |tar, key| keys.push((tar.to_owned(), key.to_owned()))).unwrap();
    assert_eq!(keys, ["1", "3"].map(|key| (root.path().join(format!("{key}.tar")), key.to_owned())));
    assert_eq!(share(0, 2).files_of_share(), Some([3, 5]));
    assert!(failure(&share(0, 2)).1.to_string().contains("2.tar"));
    // With fewer tars than shares, each share opens all.
    assert_eq!(share(5, 6).files_of_share(), None);
    assert!(failure(&share(5, 6)).1.to_string().contains("2.tar"));
}

#[test]
fn labels_of_other_tars_are_read_where_names_are_numbered() {
    let root = labelled(&["3", "owl", "4", "ant"]);
    let share =
        |rank| SampleSet::select_share(root.path(), &Selection::default(), Share { rank, size: 2 }).unwrap();
    let whole = SampleSet::open(root.path()).unwrap();
    assert_eq!(whole.classes(), ["3", "4", "ant", "owl"]);
    let (numbers, names) = (share(0), share(1));
    assert_eq!(names.classes(), whole.classes());
    assert_eq!(all(&names).iter().map(|sample| sample.label).collect::<Vec<_>>(), [Some(3), Some(2)]);
    // A share of numbers doesn't know of the names; `merge` sees that the classes differ.
    assert_eq!((numbers.classes().len(), numbers.labels_used()), (0, Some(true)));

    // A label that cannot be used is one that no share with it uses.
    let root = labelled(&["3", "1.5", "4", "2"]);
    let used = |rank| {
        let share = Share { rank, size: 2 };
        SampleSet::select_share(root.path(), &Selection::default(), share).unwrap().labels_used()
    };
    assert_eq!([used(0), used(1)], [Some(true), Some(false)]);
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::write(root.path().join(format!("{name}.tar")), tar(&[("x.jpg", b"x")])).unwrap();
    }
    let share = Share { rank: 0, size: 2 };
    let none = SampleSet::select_share(root.path(), &Selection::default(), share).unwrap();
    assert_eq!((none.files_of_share(), none.labels_used()), (Some([1, 2]), None));
}

/// What is asked for may be in the tars of others.
#[test]
fn what_is_asked_for_is_looked_for_in_all_tars() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.tar"), tar(&[("a.jpg", b"x")])).unwrap();
    fs::write(root.path().join("b.tar"), tar(&[("b.jpg", b"x"), ("b.kind", b"1"), ("b.words", b"w")]))
        .unwrap();
    let open = |selection: Selection| {
        SampleSet::select_share(root.path(), &selection, Share { rank: 0, size: 2 })
            .map(|set| keys_of(&all(&set)).len())
            .map_err(|error| error.to_string())
    };
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(open(Selection { label: name("kind"), text: name("words"), ..Selection::default() }), Ok(1));
    let error = open(Selection { text: name("gone"), ..Selection::default() }).unwrap_err();
    assert!(error.contains("--text-column gone: no member has that ending"), "{error}");
    let error = open(Selection { label: name("gone"), ..Selection::default() }).unwrap_err();
    assert!(error.contains("no sample has one"), "{error}");
}
