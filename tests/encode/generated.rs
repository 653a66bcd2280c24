//! Ids that a model generated become pictures, and a set is decoded by the weights that made it.

use serde_json::{Value, json};

use super::*;
use crate::common::program::refused;

/// An array of int64, as numpy writes it.
fn npy(shape: &[usize], numbers: &[i64]) -> Vec<u8> {
    let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let text = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': ({}), }}", axes.join(", "));
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{text:117}\n").into_bytes());
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

/// The pictures of two folders, in the order of their names.
fn same_pictures(export: &Export, left: &str, right: &str) -> bool {
    let pictures = |folder: &str| -> Vec<Picture> {
        let names = contents(&export.path(folder)).into_keys().filter(|name| name.ends_with(".png"));
        names.map(|name| picture(&export.path(folder).join(name))).collect()
    };
    let [left, right] = [left, right].map(pictures);
    !left.is_empty() && left == right
}

#[test]
fn generated_ids_are_decoded_as_those_of_their_set() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let ids = ["--vocab-offset", "100", "--bos", "1", "--boi", "2", "--eol", "3", "--eoi", "4"];
    export.encode("fsq", "set", &[&["--format", "raw"], &ids[..]].concat());
    export.encode("fsq", "plain", &["--format", "npy"]);
    let decode = |tokens: &str, out: &str, args: &[&str]| export.decode("fsq", tokens, out, args);
    let rows: Vec<Row> = export.rows("set");
    // Pictures in the order of rows, as those of generated ids are named.
    let lines: Vec<String> = (0..)
        .zip(&rows)
        .map(|(number, row)| json!({ "key": format!("{number:08}"), "tokens": row.ids }).to_string())
        .collect();
    fs::write(export.path("whole.jsonl"), lines.join("\n")).unwrap();
    let like = text(&export.path("set"));
    let like = ["--like", like.as_str()];
    let output = decode("whole.jsonl", "whole", &like);
    assert!(said(&output).contains("23 image(s)"), "{}", said(&output));
    let output = decode("set", "of-set", &[]);
    assert!(output.status.success(), "{}", said(&output));
    for (number, row) in rows.iter().enumerate() {
        let [one, other] = [format!("of-set/{}.png", row.key), format!("whole/{number:08}.png")];
        assert_eq!(picture(&export.path(&one)), picture(&export.path(&other)), "{}", row.key);
    }

    // The model was given bos and boi, or generated until eoi, or only codes.
    let length = rows[0].ids.len();
    assert_eq!(length, 16 * 17 + 3);
    let cut = |begin: usize, end: usize| -> Vec<i64> {
        rows.iter().flat_map(|row| row.ids[begin..end].iter().map(|&id| i64::from(id))).collect()
    };
    let stream: Vec<u8> = cut(2, length - 1).iter().flat_map(|&id| (id as u16).to_le_bytes()).collect();
    let codes: Vec<i64> =
        export.rows("plain").iter().flat_map(|row| row.ids.clone()).map(i64::from).collect();
    for (name, content, args) in [
        ("prompted.npy", npy(&[23, length - 1], &cut(0, length - 1)), &like[..]),
        ("stopped.npy", npy(&[23, length - 2], &cut(2, length)), &like),
        ("stream.bin", stream, &like),
        ("codes.npy", npy(&[23, 16, 16], &codes), &[]),
        ("flat.npy", npy(&[23, 256], &codes), &[]),
    ] {
        fs::write(export.path(name), content).unwrap();
        let output = decode(name, &format!("{name}-images"), args);
        assert!(output.status.success(), "{name}: {}", said(&output));
        assert!(same_pictures(&export, &format!("{name}-images"), "whole"), "{name}");
    }
    refused(&decode("stream.bin", "no", &[]), 2, &["--like"]);
}

#[test]
fn wrong_rows_are_named_or_left_out_and_counted() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.encode("fsq", "set", &["--format", "npy", "--vocab-offset", "100"]);
    let like = text(&export.path("set"));
    let rows = export.rows("set");
    let mut lines: Vec<String> = rows.iter().take(5).map(|row| json!(row.ids).to_string()).collect();
    lines[1] = lines[1].replace('[', "[7,");
    let mut wrong = rows[3].ids.clone();
    wrong[9] = 1100;
    lines[3] = json!({ "tokens": wrong }).to_string();
    fs::write(export.path("gen.jsonl"), lines.join("\n") + "\n").unwrap();
    let decode = |out: &str, args: &[&str]| {
        export.decode("fsq", "gen.jsonl", out, &[&["--like", like.as_str()], args].concat())
    };
    let parts = ["gen.jsonl, row 1 (line 2 of the file): it has 257 ids", "count from 0", "--skip-bad"];
    refused(&decode("no", &[]), 2, &parts);
    assert!(!export.path("no").exists());
    let output = decode("some", &["--skip-bad"]);
    assert!(output.status.success(), "{}", said(&output));
    for part in [
        "left out 2 of 5 rows",
        "row 3 (line 4 of the file): place 9 has the id 1100, which is none of the 1000 codes with the ids 100 to 1099",
        "3 image(s)",
    ] {
        assert!(said(&output).contains(part), "{part} is missing: {}", said(&output));
    }
    let written: Vec<String> =
        contents(&export.path("some")).into_keys().filter(|name| name.ends_with(".png")).collect();
    assert_eq!(written, ["00000000.png", "00000002.png", "00000004.png"]);
    refused(&decode("no", &["--limit", "2"]), 2, &["row 1"]);
    assert!(decode("first", &["--limit", "1"]).status.success());
    fs::write(export.path("gen.jsonl"), "[1]\n[]\n").unwrap();
    let output = decode("no", &["--skip-bad"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("none of the 2 rows"), "{}", said(&output));
    // Somebody who puts what a model made into a set is told the way.
    fs::write(export.path("set/tokens.npy"), npy(&[1, 16, 16], &[100; 256])).unwrap();
    refused(&export.decode("fsq", "set", "no", &[]), 1, &["tokens.npy is damaged", "--like"]);
    refused(&export.decode("fsq", "set", "no", &["--skip-bad"]), 2, &["--skip-bad is for ids that a model"]);
    refused(&export.decode("fsq", "set", "no", &["--like", &like]), 2, &["set is not a file"]);
}

#[test]
fn a_set_keeps_the_checkpoint_that_made_it() {
    let export = Export::new();
    let average = ["--set", "train.ema_decay=0.5", "--set", "train.keep_checkpoints=1"];
    export.scratch.train("fsq", &average);
    let mark = export.path("fsq/step-000012/kept-for-tokens.txt");
    // Nothing can be written where a folder has its name.
    fs::create_dir(&mark).unwrap();
    let printed = export.encode("fsq", "unmarked", &["--format", "npy"]);
    for part in ["step-000012", "may delete it", "pixtok export", "--weights raw"] {
        assert!(printed.contains(part), "{part} is missing: {printed}");
    }
    fs::remove_dir(&mark).unwrap();
    let printed = export.encode("fsq", "set", &["--format", "npy", "--weights", "ema"]);
    assert!(!printed.contains("may delete it"), "{printed}");
    let sidecar: Value = serde_json::from_slice(&fs::read(export.path("set/tokens.json")).unwrap()).unwrap();
    assert_eq!(sidecar["made_by"], json!({ "run": "fsq", "step": 12, "weights": "ema" }));
    assert!(fs::read_to_string(&mark).unwrap().ends_with("/set\n"));
    let output = export.decode("fsq", "set", "then", &[]);
    assert!(output.status.success(), "{}", said(&output));

    // Two more checkpoints, of which one may be the best.
    for steps in ["train.steps=14", "train.steps=16"] {
        export.scratch.resume("fsq", &["--set", steps]);
    }
    let output = export.decode("fsq", "set", "now", &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("decoding with step-000012, ema weights"), "{}", said(&output));
    assert!(same_pictures(&export, "then", "now"));
    let step = ["--checkpoint", "last", "--weights", "ema"];
    let output = export.decode("fsq", "set", "no", &step);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("fsq at step 16, ema weights: weights was"), "{}", said(&output));
    let part = "leave out --checkpoint and --weights to decode with step-000012, ema weights, which made it";
    assert!(said(&output).contains(part), "{}", said(&output));
    let output = export.try_encode("fsq", "set", &["--format", "npy"]);
    let part = "give --checkpoint step-000012 --weights ema to go on with that one";
    assert!(said(&output).contains(part), "{}", said(&output));

    fs::remove_dir_all(export.path("fsq/step-000012")).unwrap();
    let output = export.decode("fsq", "set", "no", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let printed = said(&output);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 2, "{printed}");
    assert!(lines[0].contains("made by another tokenizer than any checkpoint of"), "{printed}");
    assert_eq!(
        lines[1],
        "give the run that made it (fsq, step 12, ema weights), or --force to decode anyway"
    );

    // Sets of older versions name no checkpoint.
    let older = fs::read_to_string(export.path("set/tokens.json")).unwrap();
    let mut older: Value = serde_json::from_str(&older).unwrap();
    older.as_object_mut().unwrap().remove("made_by");
    fs::write(export.path("set/tokens.json"), older.to_string()).unwrap();
    let output = export.decode("fsq", "set", "forced", &["--force"]);
    assert!(output.status.success() && said(&output).contains("may be wrong"), "{}", said(&output));
}
