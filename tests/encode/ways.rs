//! Ways to store codes: offsets, frames, digits, arrangements, views, whole pictures.

use serde_json::{Value, json};

use super::*;
use pixtok_tokens::Grid;

#[test]
fn vocabulary_and_frame_come_off_again() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let plain = {
        export.encode("fsq", "plain", &["--format", "jsonl"]);
        export.rows("plain")
    };
    let map: Vec<u32> = (0..1000).map(|code| (code * 7 + 3) % 1009 + 4).collect();
    let map_file = export.path("map.json");
    fs::write(&map_file, serde_json::to_vec(&map).unwrap()).unwrap();
    let map_file = text(&map_file);
    let trained = Trained::open(&export.path("fsq"));
    let text_ids = "text:15,16,17,18,19,20,21,22,23,24,9";
    for (name, args, first_of_code_0, length, dtype) in [
        ("offset", &["--vocab-offset", "64500"][..], Some(64500), 256, "i32"),
        ("below", &["--vocab-offset", "64499"], Some(64499), 256, "u16"),
        ("map", &["--vocab-map", &map_file], None, 256, "u16"),
        ("show-o", &["--preset", "show-o"], Some(50305), 258, "u16"),
        ("emu3", &["--preset", "emu3"], Some(151_854), 256 + 16 + 4 + 5, "i32"),
        ("chameleon", &["--preset", "chameleon", "--vocab-map", &map_file], None, 258, "u16"),
        ("lumina", &["--preset", "lumina-mgpt", "--vocab-map", &map_file], None, 256 + 16 + 4, "u16"),
        ("unified", &["--preset", "unified-io-2"], Some(2), 257, "u16"),
        (
            "all",
            &[
                "--vocab-offset",
                "100",
                "--bos",
                "1",
                "--boi",
                "2",
                "--img",
                "3",
                "--eol",
                "4",
                "--eof",
                "5",
                "--eoi",
                "6",
                "--eos",
                "7",
                "--append-eod",
                "8",
                "--size-tokens",
                text_ids,
            ],
            Some(100),
            256 + 16 + 7 + 5,
            "u16",
        ),
    ] {
        for format in ["jsonl", "megatron", "npy"] {
            let out = format!("{name}-{format}");
            export.encode("fsq", &out, &[&["--format", format], args].concat());
            let set = export.set(&out);
            assert_eq!(set.sidecar.length, Some(length), "{name}");
            assert_eq!(serde_json::to_value(set.sidecar.dtype).unwrap(), dtype, "{name}");
            let coder = trained.coder(&set);
            for (row, plain) in export.rows(&out).iter().zip(&plain) {
                let codes: Vec<i64> =
                    Vec::try_from(coder.indices(row.grid, &row.ids).unwrap().flatten(0, -1)).unwrap();
                let plain: Vec<i64> = plain.ids.iter().map(|&id| i64::from(id)).collect();
                assert_eq!(codes, plain, "{out}");
                let id = |code: i64| match first_of_code_0 {
                    Some(first) => first + code as u32,
                    None => map[code as usize],
                };
                assert!(row.ids.contains(&id(plain[0])), "{out}");
            }
        }
    }
    let emu3 = &export.rows("emu3-jsonl")[0].ids;
    // <image start> "16*16" <image token>.
    assert_eq!(emu3[..7], [151_852, 16, 21, 9, 16, 21, 151_851]);
    assert_eq!(emu3[emu3.len() - 3..], [151_846, 151_847, 151_853]);
    let lumina = &export.rows("lumina-jsonl")[0].ids;
    // 32 pixels are one step of its sizes.
    assert_eq!(lumina[..3], [8197, 8805, 8805]);
    assert_eq!(lumina[lumina.len() - 2..], [8803, 8196]);
}

/// OLMo-core infers the type of a stream only from the vocabulary. The type follows the vocabulary,
/// or the flag; a note says if OLMo-core would read a different type.
#[test]
fn number_types_follow_the_vocabulary_or_the_flag() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.encode("fsq", "plain", &["--format", "jsonl"]);
    let plain = export.rows("plain");
    let olmo = "OLMo-core takes the numbers of a vocabulary of";
    for (format, args, dtype, note) in [
        ("raw", &[][..], "u16", None),
        ("raw", &["--vocab-size", "100278"], "i32", None),
        ("raw", &["--vocab-size", "65536"], "u16", None),
        ("raw", &["--vocab-size", "100278", "--dtype", "u16"], "u16", Some("100278 ids for uint32")),
        ("raw", &["--dtype", "i32"], "i32", Some("1000 ids for uint16")),
        ("raw", &["--digits"], "u16", Some("8 ids for uint8")),
        ("npy", &["--vocab-size", "100278"], "u16", None),
        ("npy", &["--dtype", "i32"], "i32", None),
        ("megatron", &["--vocab-size", "100278"], "u16", None),
        ("megatron", &["--dtype", "i32"], "i32", None),
    ] {
        let out = format!("{format}{}", args.concat());
        let printed = export.encode("fsq", &out, &[&["--format", format], args].concat());
        assert_eq!(printed.contains(olmo), note.is_some(), "{out}: {printed}");
        assert!(printed.contains(note.unwrap_or("")), "{out}: {printed}");
        let set = export.set(&out);
        assert_eq!(serde_json::to_value(set.sidecar.dtype).unwrap(), dtype, "{out}");
        if format != "npy" && set.sidecar.tokenizer.numbers == 1 {
            let bytes = fs::metadata(export.path(&out).join("tokens.bin")).unwrap().len();
            assert_eq!(bytes, 23 * 256 * if dtype == "u16" { 2 } else { 4 }, "{out}");
        }
        if set.sidecar.tokenizer.numbers == 1 {
            assert_eq!(export.rows(&out), plain, "{out}");
        }
    }
    let [_, own_type] = formats(|format| format.takes_any_dtype());
    for format in own_type {
        let output = export.try_encode("fsq", "no", &["--format", format, "--dtype", "i32"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("--dtype is for --format npy, raw"), "{}", said(&output));
    }
}

#[test]
fn digits_and_arrangements_are_those_of_the_sidecar() {
    let export = Export::new();
    for (run, setting, codebooks, digits) in [
        ("fsq", None, 1, 4),
        ("residual", Some(RESIDUAL), 2, 2),
        ("lfq", Some("quantizer={kind=\"lfq\",bits=6}"), 1, 6),
    ] {
        let settings: Vec<&str> = setting.into_iter().flat_map(|setting| ["--set", setting]).collect();
        export.scratch.train(run, &settings);
        let trained = Trained::open(&export.path(run));
        let expected = trained.indices(&export.path("images"));
        for (arrange, as_digits) in [("interleaved", true), ("stacked", true), ("stacked", false)] {
            for format in ["npy", "webdataset", "mds", "llamagen"] {
                let out = format!("{run}-{arrange}-{as_digits}-{format}");
                let mut args = vec!["--format", format];
                args.extend(as_digits.then_some("--digits"));
                // With one number per position there is nothing to arrange.
                if codebooks > 1 || as_digits {
                    args.extend(["--arrange", arrange]);
                }
                export.encode(run, &out, &args);
                let set = export.set(&out);
                let n = codebooks * if as_digits { digits } else { 1 };
                let axes = match (n, arrange) {
                    (1, _) => json!({ "kind": "grid" }),
                    (n, kind) => json!({ "kind": kind, "n": n }),
                };
                assert_eq!(serde_json::to_value(set.sidecar.axes).unwrap(), axes, "{out}");
                let coder = trained.coder(&set);
                for row in export.rows(&out) {
                    assert_eq!(coder.indices(row.grid, &row.ids).unwrap(), expected[&row.key], "{out}");
                }
            }
        }
    }
}

#[test]
fn mirror_images_follow_their_images() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.encode("fsq", "plain", &["--format", "npy"]);
    let printed = export.encode("fsq", "both", &["--format", "llamagen", "--flip", "--shard-rows", "8"]);
    assert!(printed.contains("both does not contain it, so rename the folder before training"), "{printed}");
    let (plain, both) = (export.rows("plain"), export.rows("both"));
    assert_eq!(export.set("both").sidecar.shard_rows, [8, 8, 8, 8, 8, 6]);
    assert_eq!(both.len(), 46);
    for (pair, alone) in both.chunks(2).zip(&plain) {
        assert_eq!((&pair[0], pair[1].label), (alone, alone.label));
        assert_eq!(pair[1].key, format!("{}~flip", alone.key));
        assert_ne!(pair[1].ids, alone.ids);
    }
    let codes = fs::read(export.path("both/imagenet32_codes/22.npy")).unwrap();
    let header = String::from_utf8_lossy(&codes[..128]).into_owned();
    assert!(header.contains("'<i8'") && header.contains("(1, 2, 256)"), "{header}");
}

#[test]
fn whole_pictures_have_grids_of_their_own() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    for (name, width, height) in [("wide", 41, 24), ("high", 21, 67), ("small", 1, 9), ("wide2", 41, 24)] {
        let rgb = (0..3 * width * height).map(|i| (i * 11 % 256) as u8).collect();
        let path = export.path("shapes").join(format!("{name}.png"));
        fs::create_dir_all(export.path("shapes")).unwrap();
        fs::write(path, Picture { width, height, rgb }.to_png().unwrap()).unwrap();
    }
    let shapes = text(&export.path("shapes"));
    let grids = |rows: &[Row]| rows.iter().map(|row| (row.key.clone(), row.grid)).collect::<Vec<_>>();
    let grid = |h, w| Grid { h, w };
    let expected = [
        ("high".to_owned(), grid(34, 11)),
        ("small".to_owned(), grid(5, 1)),
        ("wide".to_owned(), grid(12, 21)),
        ("wide2".to_owned(), grid(12, 21)),
    ];
    let [any_sizes, one_size] = formats(|format| format.takes_any_sizes());
    assert!(!any_sizes.is_empty() && !one_size.is_empty());
    for format in any_sizes {
        export.encode("fsq", format, &["--data", &shapes, "--format", format, "--fit", "whole", "--verify"]);
        let rows = export.rows(format);
        assert_eq!(grids(&rows), expected, "{format}");
        assert_eq!((rows[0].width, rows[0].height), (21, 67), "{format}");
        assert_eq!(rows[2].ids, rows[3].ids);
        let output = export.decode("fsq", format, &format!("{format}-images"), &[]);
        assert!(output.status.success(), "{}", said(&output));
        let image = picture(&export.path(&format!("{format}-images/high.png")));
        assert_eq!((image.width, image.height), (22, 68));
    }
    for format in one_size {
        let output =
            export.try_encode("fsq", "no", &["--data", &shapes, "--format", format, "--fit", "whole"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
}

/// Sizes of grids are ids too, for pictures of any shape: they fit the steps, and have no other
/// meaning.
#[test]
fn whole_pictures_tell_their_sizes() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let sizes = ["--fit", "whole", "--format", "jsonl", "--size-tokens"];
    for (args, part) in [
        (&["grid:0:8", "--vocab-offset", "100"][..], "that of code"),
        (&["grid:990", "--boi", "1000"], "code"),
    ] {
        let output = export.try_encode("fsq", "no", &[&sizes[..], args].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(part), "{}", said(&output));
    }
    let shapes = export.path("shapes");
    fs::create_dir_all(&shapes).unwrap();
    for (name, width, height) in [("a", 41, 24), ("b", 21, 67)] {
        let picture = Picture { width, height, rgb: vec![7; 3 * width * height] };
        fs::write(shapes.join(format!("{name}.png")), picture.to_png().unwrap()).unwrap();
    }
    export.encode("fsq", "sizes", &[&sizes[..], &["grid:2000:4", "--data", &text(&shapes)]].concat());
    let rows = export.rows("sizes");
    // Sides of 8 pixels, 4 positions.
    assert_eq!((rows[0].grid, rows[1].grid), (Grid { h: 12, w: 20 }, Grid { h: 32, w: 12 }));
    assert_eq!((&rows[0].ids[..2], &rows[1].ids[..2]), (&[2003, 2005][..], &[2008, 2003][..]));
}

#[test]
fn names_of_tokens_are_text_and_inspect_tells_a_set() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let names = ["--token-names", "<|visual {:04}|>", "--vocab-offset", "500"];
    export.encode("fsq", "names", &[&["--format", "jsonl"], &names[..]].concat());
    export.encode("fsq", "plain", &["--format", "jsonl"]);
    let line = fs::read_to_string(export.path("names/tokens.jsonl")).unwrap();
    let object: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    let first = export.rows("plain")[0].ids[0];
    assert!(object["tokens"].as_str().unwrap().starts_with(&format!("<|visual {first:04}|>")), "{object}");
    let added: Value =
        serde_json::from_slice(&fs::read(export.path("names/added_tokens.json")).unwrap()).unwrap();
    assert_eq!(
        (added["<|visual 0000|>"].as_u64(), added["<|visual 0999|>"].as_u64()),
        (Some(500), Some(1499))
    );
    let output = pixtok(&["inspect", &text(&export.path("names"))]);
    let printed = said(&output);
    assert!(output.status.success(), "{printed}");
    for part in [
        "jsonl",
        "1000 codes",
        "16×16",
        "code i is id 500 + i",
        "23 in 1 shard(s), 5888 tokens",
        "birds/00",
        "label 0",
    ] {
        assert!(printed.contains(part), "{part} is missing: {printed}");
    }
}
