use std::fs;

use serde_json::json;

use super::*;
use pixtok_tokens::{Source, StatedPositions};

/// A finished set of one token a row, `part` of a division by files of the tars in `input`.
struct Made<'a> {
    part: &'a str,
    keys: &'a [&'a str],
    skipped: &'a [&'a str],
    /// Further fields of its source.
    source: Value,
}

impl Made<'_> {
    fn write(&self, root: &Path, blake3: &str) -> TokenSet {
        let mut source = json!({
            "kind": "webdataset", "path": root.join("tars"), "blake3": blake3, "part": self.part, "division": "files"
        });
        for (name, value) in self.source.as_object().unwrap() {
            source[name] = value.clone();
        }
        let tokenizer = json!({
            "kind": "fsq", "weights_blake3": "x", "codebooks": 1, "codebook_size": 8, "digits": false, "numbers": 1,
            "arrangement": "interleaved", "quantizer": {}
        });
        let preprocessing = json!({
            "resize": null, "filter": "lanczos", "crop": "centre", "exif": "applied", "background": [0, 0, 0],
            "lenient_jpeg": false, "normalisation": "x / 127.5 - 1"
        });
        let rows = self.keys.len();
        let sidecar = json!({
            "format_version": Sidecar::version(), "pixtok": "0.1.0", "format": "jsonl", "tokenizer": tokenizer,
            "dtype": "u16", "order": "row-major", "grid": { "h": 1, "w": 1, "downsample": 8 }, "image_size": [8, 8],
            "preprocessing": preprocessing, "vocabulary": { "offset": 0 }, "specials": {}, "axes": { "kind": "grid" },
            "length": 1, "views": 1, "source": source, "shard_rows": if rows > 0 { vec![rows] } else { vec![] },
            "counts": { "images": rows, "rows": rows, "tokens": rows, "skipped": {} }
        });
        let folder = root.join(self.part.replace('/', "-of-"));
        let row = |key: &&str| {
            format!("{{\"key\":\"{key}\",\"h\":1,\"w\":1,\"width\":8,\"height\":8,\"tokens\":[3]}}\n")
        };
        let skipped = |key: &&str| format!("{{\"key\":\"{key}\",\"reason\":\"broken\"}}\n");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("tokens.jsonl"), self.keys.iter().map(row).collect::<String>()).unwrap();
        fs::write(folder.join("skipped.jsonl"), self.skipped.iter().map(skipped).collect::<String>())
            .unwrap();
        fs::write(folder.join("tokens.json"), sidecar.to_string()).unwrap();
        TokenSet::find(&folder).unwrap().remove(0)
    }
}

fn part<'a>(part: &'a str, keys: &'a [&'a str]) -> Made<'a> {
    Made { part, keys, skipped: &[], source: json!({}) }
}

fn origin(root: &Path, parts: &[Made]) -> Result<Source, String> {
    let sets: Vec<TokenSet> = parts.iter().map(|part| part.write(root, "x")).collect();
    Origin::of(&sets, false).map(|origin| origin.source).map_err(|error| error.to_string())
}

#[test]
fn two_images_of_one_key_are_refused_with_the_files_of_both() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("tars")).unwrap();
    let tar = |name: &str, keys: &[&str]| {
        let mut builder = tar::Builder::new(fs::File::create(root.path().join("tars").join(name)).unwrap());
        for key in keys {
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            builder.append_data(&mut header, format!("{key}.jpg"), &b"x"[..]).unwrap();
        }
        builder.finish().unwrap();
    };
    tar("0.tar", &["a", "b"]);
    tar("1.tar", &["c", "b"]);
    let blake3 = SampleSet::open(&root.path().join("tars")).unwrap().fingerprint();
    let words = |second: &Made, blake3: &str| {
        let sets = [part("0/2", &["a", "b"]).write(root.path(), blake3), second.write(root.path(), blake3)];
        let remedy = Origin::of(&sets, false).unwrap().remedy;
        refuse_clash(&sets, remedy).map_err(|error| error.to_string())
    };
    assert_eq!(words(&part("1/2", &["c"]), &blake3), Ok(()));
    for second in [part("1/2", &["c", "b"]), Made { skipped: &["b"], ..part("1/2", &["c"]) }] {
        let named = words(&second, &blake3).unwrap_err();
        for part in ["the key \"b\"", "one in ", "tars/0.tar, one in ", "tars/1.tar; give --key-prefix shard"]
        {
            assert!(named.contains(part), "{part} is missing: {named}");
        }
        // Other tars are there now.
        let named = words(&second, "other").unwrap_err();
        for part in
            ["the key \"b\"", "0-of-2, one in ", "1-of-2; encode all parts again with --key-prefix shard"]
        {
            assert!(named.contains(part), "{part} is missing: {named}");
        }
    }
}

#[test]
fn parts_of_one_division_become_a_whole_set() {
    let root = tempfile::tempdir().unwrap();
    let source = origin(root.path(), &[part("0/2", &["a"]), part("1/2", &["b"])]).unwrap();
    assert_eq!((source.part, source.division, source.labels_used), (None, Division::Keys, None));
    let mut by_keys = part("1/2", &["b"]);
    by_keys.source = json!({ "division": "keys" });
    let words = origin(root.path(), &[part("0/2", &["a"]), by_keys]).unwrap_err();
    assert!(words.contains("differ in how their input was divided into parts"), "{words}");
}

#[test]
fn labels_are_used_in_all_parts_or_in_none() {
    let root = tempfile::tempdir().unwrap();
    let labelled = |name: &'static str, source: Value| Made { source, ..part(name, &[]) };
    let none = || part("0/3", &[]);
    let names = |name| labelled(name, json!({ "labels_used": true, "classes": ["ant", "owl"] }));
    let numbers = |name| labelled(name, json!({ "labels_used": true }));
    let unused = |name| labelled(name, json!({ "labels_used": false }));
    let merged = origin(root.path(), &[none(), names("1/3"), names("2/3")]).unwrap();
    assert_eq!((merged.classes, merged.labels_used), (vec!["ant".to_owned(), "owl".to_owned()], None));
    assert!(origin(root.path(), &[none(), unused("1/3"), unused("2/3")]).is_ok());
    for (parts, words) in [
        ([none(), names("1/3"), numbers("2/3")], "differ in the classes of their labels; give both"),
        (
            [names("0/3"), part("1/3", &[]), numbers("2/3")],
            "differ in the classes of their labels; give both",
        ),
        ([numbers("0/3"), part("1/3", &[]), unused("2/3")], "uses the labels of its images"),
        ([none(), numbers("1/3"), unused("2/3")], "uses the labels of its images"),
    ] {
        let refused = origin(root.path(), &parts).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn sets_whose_tokenizers_had_other_positions_stay_apart() {
    let root = tempfile::tempdir().unwrap();
    let mut sets: Vec<TokenSet> =
        [part("0/2", &["a"]), part("1/2", &["b"])].iter().map(|part| part.write(root.path(), "x")).collect();
    for positions in
        [[None, Some(StatedPositions::Ntk)], [Some(StatedPositions::None), Some(StatedPositions::Ntk)]]
    {
        for (set, positions) in sets.iter_mut().zip(positions) {
            set.sidecar.positions = positions;
        }
        let words = Origin::of(&sets, false).map(|_| ()).unwrap_err().to_string();
        assert!(words.contains("differ in the positions of their tokenizer (--positions)"), "{words}");
    }
    sets.iter_mut().for_each(|set| set.sidecar.positions = Some(StatedPositions::Ntk));
    assert!(Origin::of(&sets, false).is_ok());
    let text = String::from_utf8(sets[0].sidecar.to_json().unwrap()).unwrap();
    assert!(text.contains("\"positions\": \"ntk\""), "{text}");
}
