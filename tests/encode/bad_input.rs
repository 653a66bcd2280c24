//! Requests that cannot be right, and files that are not what their names say: each gives one clear
//! sentence, and nothing is overwritten.

use super::*;

#[test]
fn ids_that_cannot_be_are_refused() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.scratch.train("vq", &["--set", common::VQ]);
    let map = |name: &str, ids: &str| {
        fs::write(export.path(name), ids).unwrap();
        text(&export.path(name))
    };
    let few = map("few.json", "[1, 2, 3]");
    let double = map("double.json", &format!("[{}1]", "1,".repeat(999)));
    for (run, args, parts) in [
        ("fsq", &["--vocab-map", &few][..], &["few.json", "3 ids", "1000 codes"][..]),
        ("fsq", &["--vocab-map", &double], &["double.json", "id 1 to the codes 0 and 1"]),
        ("fsq", &["--vocab-map", "absent.json"], &["absent.json"]),
        ("fsq", &["--vocab-offset", "5", "--boi", "1004"], &["id 1004", "--boi", "code 999"]),
        ("fsq", &["--boi", "2000", "--eoi", "2000"], &["id 2000", "--boi", "--eoi"]),
        ("fsq", &["--vocab-offset", "2147483000"], &["2147483999", "2^31"]),
        ("fsq", &["--vocab-offset", "100", "--vocab-size", "1000"], &["1099", "--vocab-size is 1000"]),
        ("fsq", &["--boi", "3000000000"], &["3000000000", "2^31"]),
        ("fsq", &["--preset", "chameleon"], &["chameleon", "--vocab-map"]),
        ("fsq", &["--size-tokens", "grid:900"], &["size-tokens", "code 901"]),
        ("fsq", &["--arrange", "stacked"], &["--arrange", "one number"]),
        ("fsq", &["--size-tokens", "grid:2000:3"], &["16 is not a multiple of the 3"]),
        ("vq", &["--digits"], &["--digits", "fsq, lfq"]),
        ("fsq", &["--token-names", "<{}>"], &["--token-names", "jsonl"]),
        ("fsq", &["--document-index"], &["--document-index", "raw"]),
        ("fsq", &["--dtype", "u16", "--vocab-offset", "70000"], &["--dtype u16", "65535", "70999", "i32"]),
        ("fsq", &["--dtype", "u32"], &["u32", "i32, which reads the same as uint32"]),
        ("fsq", &["--image-size", "33"], &["33", "32 or 34"]),
        ("fsq", &["--image-size", "64", "--resize", "48"], &["data.resize = 48"]),
        ("fsq", &["--fit", "whole", "--image-size", "64"], &["--resize"]),
    ] {
        let output = export.try_encode(run, "out", &[&["--format", "npy"], args].concat());
        let printed = said(&output);
        let code = if args.contains(&"absent.json") { 1 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{args:?}: {printed}");
        for part in parts {
            assert!(printed.contains(part), "{args:?}: {part:?} is missing: {printed}");
        }
        assert!(!export.path("out/tokens.json").exists(), "{args:?}");
    }
}

#[test]
fn inputs_that_are_not_what_they_should_be_are_named() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let photograph = fs::read(photographs("train").remove(0)).unwrap();
    fs::create_dir_all(export.path("clash")).unwrap();
    fs::write(export.path("clash/a.jpg"), &photograph).unwrap();
    fs::write(export.path("clash/a.png"), &photograph).unwrap();
    let tar = |name: &str, member: &str, cut: usize| {
        let mut bytes = vec![];
        {
            let mut builder = tar::Builder::new(&mut bytes);
            for name in ["0.jpg", member] {
                let mut header = tar::Header::new_ustar();
                header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
                header.set_size(photograph.len() as u64);
                header.set_cksum();
                builder.append(&header, photograph.as_slice()).unwrap();
            }
            builder.finish().unwrap();
        }
        bytes.truncate(bytes.len() - cut);
        fs::write(export.path(name), bytes).unwrap();
    };
    tar("absolute.tar", "/etc/1.jpg", 0);
    tar("parent.tar", "../1.jpg", 0);
    tar("cut.tar", "1.jpg", 2000);
    tar("twice.tar", "0.jpg", 0);
    fs::write(export.path("text.parquet"), b"PAR1 no").unwrap();
    fs::write(export.path("list.jsonl"), "{\"path\": \"a.jpg\"}\n{\"text\": \"none\"}\n").unwrap();
    for (data, code, parts) in [
        ("clash", 2, &["a.jpg", "a.png", "keys clash"][..]),
        ("absolute.tar", 2, &["absolute.tar", "/etc/1.jpg"]),
        ("parent.tar", 2, &["parent.tar", "../1.jpg"]),
        ("cut.tar", 1, &["cut.tar"]),
        ("twice.tar", 2, &["twice.tar", "0"]),
        ("text.parquet", 1, &["text.parquet"]),
        ("list.jsonl", 2, &["list.jsonl", "2"]),
        ("absent", 2, &["absent"]),
    ] {
        let output =
            export.try_encode("fsq", "out", &["--format", "npy", "--data", &text(&export.path(data))]);
        let printed = said(&output);
        assert_eq!(output.status.code(), Some(code), "{data}: {printed}");
        for part in parts {
            assert!(printed.contains(part), "{data}: {part:?} is missing: {printed}");
        }
        assert!(!export.path("out/job.json").exists(), "{data}");
    }
    // The failed job does not block a different one.
    export.encode("fsq", "out", &["--format", "npy"]);
}

#[test]
fn tokens_of_another_tokenizer_and_damaged_ones_are_not_decoded() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.scratch.train("other", &["--set", "seed=7", "--set", "quantizer.bound=sigmoid"]);
    export.encode("fsq", "npy", &["--format", "npy"]);
    let output = export.decode("other", "npy", "images", &[]);
    let printed = said(&output);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    for part in ["weights was", "made it (fsq, step 12, raw weights), or --force", "-v lists "] {
        assert!(printed.contains(part), "{part} is missing: {printed}");
    }
    let bound = "quantizer.bound was \"tanh\" and is \"sigmoid\"";
    assert!(!printed.contains(bound), "{printed}");
    let printed = said(&export.decode("other", "npy", "no-images", &["-v"]));
    assert!(printed.contains(bound) && !printed.contains("-v lists"), "{printed}");
    let output = export.decode("other", "npy", "forced", &["--force", "--sheets"]);
    assert!(export.path("forced/.pixtok-output").is_file());
    assert!(output.status.success() && said(&output).contains("may be wrong"), "{}", said(&output));
    assert!(export.path("forced/sheet-00000.png").is_file());
    // The encoded pictures have the same names.
    let originals = contents(&export.path("images"));
    let output = export.decode("fsq", "npy", "images", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("is not empty"), "{}", said(&output));
    assert_eq!(contents(&export.path("images")), originals);

    let path = export.path("npy/tokens.npy");
    let whole = fs::read(&path).unwrap();
    let mut outside = whole.clone();
    let last = outside.len() - 2;
    outside[last..].copy_from_slice(&1000u16.to_le_bytes());
    fs::write(&path, outside).unwrap();
    let output = export.decode("fsq", "npy", "outside", &[]);
    assert_eq!(output.status.code(), Some(1));
    for part in ["row 22", "trees/21", "id 1000", "1000 codes"] {
        assert!(said(&output).contains(part), "{part} is missing: {}", said(&output));
    }
    fs::write(&path, &whole[..whole.len() - 7]).unwrap();
    let output = export.decode("fsq", "npy", "cut", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("tokens.npy is damaged"), "{}", said(&output));

    export.scratch.train("more", &["--set", common::VQ, "--set", "quantizer.codebook_size=1024"]);
    export.encode("more", "more-npy", &["--format", "npy"]);
    fs::write(
        export.path("more-npy/tokens.npy"),
        [&whole[..whole.len() - 2], &1023u16.to_le_bytes()].concat(),
    )
    .unwrap();
    let output = export.decode("fsq", "more-npy", "larger", &["--force"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("code 1023, and this tokenizer has 1000"), "{}", said(&output));
    export.scratch.train("residual", &["--set", RESIDUAL]);
    export.encode("residual", "residual-npy", &["--format", "npy"]);
    let output = export.decode("fsq", "residual-npy", "books", &["--force"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("tokens of 2 codebook(s)"), "{}", said(&output));

    let output = pixtok(&["inspect", &text(&export.path("images"))]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("has no tokens.json"), "{}", said(&output));
}

/// Sidecars are read as if they were hostile.
#[test]
fn sidecars_that_cannot_be_are_refused() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.encode("fsq", "npy", &["--format", "npy"]);
    let path = export.path("npy/tokens.json");
    let whole = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"offset\": 0", "\"map\": \"../victim.txt\", \"map_blake3\": \"00\""),
        ("\"kind\": \"none\"", "\"kind\": \"grid\", \"base\": 5, \"div\": 0"),
        ("\"shard_rows\": [\n    23", "\"shard_rows\": [\n    9223372036854775808,\n    9223372036854775831"),
        ("\"codebook_size\": 1000", "\"codebook_size\": 0"),
        ("\"numbers\": 1", "\"numbers\": 4000000000"),
        ("\"views\": 1", "\"views\": 0"),
        ("\"format_version\": 1", "\"format_version\": 2"),
    ] {
        assert!(whole.contains(from), "{from}");
        fs::write(&path, whole.replace(from, to)).unwrap();
        let (set, out) = (text(&export.path("npy")), text(&export.path("out")));
        for args in [&["inspect", &set][..], &["merge", &set, "--out", &out]] {
            let output = pixtok(args);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{to}: {}", said(&output));
            assert!(
                said(&output).contains("tokens.json") && !said(&output).contains("bug"),
                "{to}: {}",
                said(&output)
            );
        }
        assert!(!export.path("victim.txt").exists() && !export.path("out").exists());
    }
}

/// Reverses the order of the lines in a file.
fn turn_round(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().rev().collect();
    fs::write(file, lines.join("\n") + "\n").unwrap();
}

#[test]
fn files_that_were_changed_are_said_and_read() {
    let export = Export::new();
    export.scratch.train("fsq", &["--set=train.steps=1"]);
    for format in ["npy", "llamagen"] {
        export.encode("fsq", format, &["--format", format, "--shard-rows", "9"]);
        let folder = export.path(format);
        let tell = |out: &str, args: &[&str]| {
            let decoded = export.decode("fsq", format, &format!("{format}-{out}"), args);
            let inspected = pixtok(&["inspect", &text(&folder)]);
            assert!(decoded.status.success() && inspected.status.success(), "{}", said(&decoded));
            [said(&decoded), said(&inspected)].map(|words| words.contains("1 file(s) in "))
        };
        assert_eq!(tell("whole", &[]), [false, false], "{format}");
        // In the second of three shards.
        if format == "llamagen" {
            let codes = folder.join("imagenet32_codes");
            fs::copy(codes.join("13.npy"), codes.join("12.npy")).unwrap();
        } else {
            turn_round(&folder.join("keys-00001-of-00003.jsonl"));
        }
        assert_eq!(tell("changed", &[]), [true, true], "{format}");
        // A shard that is not read to its end is not checked.
        assert_eq!(tell("part", &["--limit", "17"]), [false, true], "{format}");
        assert_eq!(tell("end", &["--limit", "18", "--sheets"]), [true, true], "{format}");
        fs::remove_file(folder.join("manifest.jsonl")).unwrap();
        assert_eq!(tell("without", &[]), [false, false], "{format}");
    }
}
