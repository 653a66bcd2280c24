//! A job that is stopped, divided and merged.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::*;
use pixtok_tokens::SideFiles;

/// Links to the photographs under many names, some of them broken.
fn many(export: &Export, count: usize) -> String {
    let folder = export.path("many");
    fs::create_dir_all(&folder).unwrap();
    let photographs = photographs("train");
    for i in 0..count {
        let path = folder.join(format!("{i:05}.jpg"));
        if i % 50 == 49 || i == count - 1 {
            fs::write(path, b"no image").unwrap();
        } else {
            std::os::unix::fs::symlink(&photographs[i % photographs.len()], path).unwrap();
        }
    }
    text(&folder)
}

#[test]
fn killed_jobs_end_with_the_bytes_of_an_undisturbed_one() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let data = many(&export, 500);
    for format in FormatKind::ALL.iter().map(|kind| kind.name()) {
        let args = ["--data", &data, "--format", format, "--shard-rows", "20"];
        let (whole, killed) = (format!("{format}-whole"), format!("{format}-killed"));
        export.encode("fsq", &whole, &args);
        for turn in 1..=3u64 {
            let (run, out) = (text(&export.path("fsq")), text(&export.path(&killed)));
            let mut child = Command::new(env!("CARGO_BIN_EXE_pixtok"))
                .args([
                    "encode",
                    &run,
                    "--out",
                    &out,
                    "--threads",
                    "1",
                    "--device",
                    &device(),
                    "--batch-size",
                    "4",
                ])
                .args(args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Waits until some shards exist, and a little longer, into the next one.
            let manifest = export.path(&killed).join("manifest.jsonl");
            let shards = || fs::read_to_string(&manifest).unwrap_or_default().lines().count() as u64;
            while shards() < 3 * turn && child.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(1));
            }
            sleep(Duration::from_millis(3 * turn));
            child.kill().unwrap();
            child.wait().unwrap();
            let finished = SideFiles::of_finished(&export.path(&killed));
            assert!(shards() >= 3 * turn && finished.is_none(), "{format}");
        }
        export.encode("fsq", &killed, &args);
        let (whole, killed) = (contents(&export.path(&whole)), contents(&export.path(&killed)));
        assert_eq!(whole.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>(), "{format}");
        for (name, bytes) in &whole {
            assert!(killed[name] == *bytes, "{format}: {name} differs");
        }
    }
}

#[test]
fn parts_hold_every_row_once_and_join() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    for format in ["megatron", "mds", "litdata", "npy"] {
        let whole = format!("{format}-whole");
        export.encode("fsq", &whole, &["--format", format]);
        let mut expected = export.rows(&whole);
        let parts = format!("{format}-parts");
        for part in ["0/3", "1/3", "2/3"] {
            export.encode("fsq", &parts, &["--format", format, "--shard", part, "--shard-rows", "4"]);
        }
        let mut rows = export.rows(&parts);
        let joined = format!("{format}-joined");
        let output = pixtok(&["merge", &text(&export.path(&parts)), "--out", &text(&export.path(&joined))]);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(export.rows(&joined), rows, "{format}");
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(rows, expected, "{format}");
        let index = if format == "megatron" { "tokens.idx" } else { "index.json" };
        assert!(format == "npy" || export.path(&joined).join(index).is_file());
    }
    let (a, b) = (text(&export.path("npy-whole")), text(&export.path("mds-whole")));
    let output = pixtok(&["merge", &a, &b, "--out", &text(&export.path("mixed"))]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("differ in format"), "{}", said(&output));
}

/// MosaicML's `merge_index` takes every file that ends in `.json` for an index. Sets of older
/// versions are read, and their jobs go on, under the old names.
#[test]
fn parts_of_mds_have_one_json_file_and_older_names_are_known() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let map = export.path("map.json");
    fs::write(&map, serde_json::to_vec(&(5..1005).collect::<Vec<u32>>()).unwrap()).unwrap();
    let map = text(&map);
    let args = ["--format", "mds", "--vocab-map", &map, "--shard-rows", "5"];
    for part in ["0/2", "1/2"] {
        export.encode("fsq", "parts", &[&args[..], &["--shard", part, "--verify"]].concat());
    }
    let part = export.path("parts/part-00001-of-00002");
    let json = || contents(&part).into_keys().filter(|name| name.ends_with(".json")).collect::<Vec<_>>();
    assert_eq!(json(), ["index.json"]);
    let rows = export.rows("parts");
    assert_eq!(rows.len(), 23);
    let whole = contents(&part);

    // Renamed as in an older version, and stopped in the middle of its last shard.
    let older = |new: &str, old: &str| {
        let content = fs::read_to_string(part.join(new)).unwrap();
        fs::remove_file(part.join(new)).unwrap();
        fs::write(part.join(old), content.replace("vocab-map.pixtok", "vocab-map.json")).unwrap();
    };
    older("job.pixtok", "job.json");
    older("vocab-map.pixtok", "vocab-map.json");
    older("tokens.pixtok", "tokens.json");
    assert_eq!(export.rows("parts"), rows);
    fs::remove_file(part.join("tokens.json")).unwrap();
    let output = pixtok(&["inspect", &text(&part)]);
    assert!(said(&output).contains("is not finished; run its command again"), "{}", said(&output));
    let manifest = fs::read_to_string(part.join("manifest.jsonl")).unwrap();
    let shards = manifest.lines().count();
    let first: Vec<&str> = manifest.lines().take(shards - 1).collect();
    fs::write(part.join("manifest.jsonl"), first.join("\n") + "\n").unwrap();
    fs::remove_file(part.join(format!("shard.{:05}.mds", shards - 1))).unwrap();
    let printed = export.encode("fsq", "parts", &[&args[..], &["--shard", "1/2", "--verify"]].concat());
    assert!(printed.contains("going on after them"), "{printed}");
    assert_eq!(json(), ["index.json", "job.json", "tokens.json", "vocab-map.json"]);
    assert_eq!(export.rows("parts"), rows);
    for (name, bytes) in &whole {
        assert!(name.ends_with(".pixtok") || contents(&part)[name] == *bytes, "{name} differs");
    }
    // Parts of both kinds form one set, under the new names.
    let joined = export.path("joined");
    let output = pixtok(&["merge", &text(&export.path("parts")), "--out", &text(&joined)]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(joined.join("tokens.pixtok").is_file() && joined.join("vocab-map.pixtok").is_file());
    assert_eq!(export.rows("joined"), rows);
    let output = export.decode("fsq", "joined", "pictures", &["--limit", "2"]);
    assert!(output.status.success(), "{}", said(&output));
}

/// With more parts than images, a part without images is complete too.
#[test]
fn a_part_may_be_empty() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let data = text(&export.path("images/birds"));
    for part in (0..16).map(|i| format!("{i}/16")) {
        export.encode("fsq", "parts", &["--data", &data, "--format", "mds", "--shard", &part]);
    }
    let parts = text(&export.path("parts"));
    let output = pixtok(&["merge", &parts, "--out", &text(&export.path("joined"))]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(export.rows("joined").len(), 12);
    assert!((0..16).any(|i| export.rows(&format!("parts/part-{i:05}-of-00016")).is_empty()));
}

/// Files that are listed as finished exist, or the program says that they are missing.
#[test]
fn files_that_are_gone_are_missed() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let args = ["--format", "parquet", "--shard-rows", "10"];
    export.encode("fsq", "out", &args);
    fs::remove_file(export.path("out/train-00001-of-00003.parquet")).unwrap();
    for _ in 0..2 {
        let output = export.try_encode("fsq", "out", &args);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("train-00001-of-00003.parquet is gone"), "{}", said(&output));
        let _ = fs::remove_file(export.path("out/tokens.json"));
    }
    export.encode("fsq", "changed", &args);
    let path = export.path("changed/train-00000-of-00003.parquet");
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = export.try_encode("fsq", "changed", &[&args[..], &["--verify"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("not what the manifest lists"), "{}", said(&output));
}

#[test]
fn ranks_are_read_from_the_environment() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let (run, images, out) =
        (text(&export.path("fsq")), text(&export.path("images")), text(&export.path("out")));
    for rank in ["0", "1"] {
        let output = Command::new(env!("CARGO_BIN_EXE_pixtok"))
            .args(["encode", &run, "--data", &images, "--out", &out, "--format", "npy", "--threads", "1"])
            .args(["--device", &device()])
            .env("RANK", rank)
            .env("WORLD_SIZE", "2")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains(&format!("part {rank}/2, as the environment of torchrun says")));
    }
    assert_eq!(export.rows("out").len(), 23);
    assert!(export.path("out/part-00001-of-00002/tokens.npy").is_file());
}

#[test]
fn a_finished_job_is_not_run_again_and_another_is_kept_out() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.encode("fsq", "out", &["--format", "npy"]);
    let before = contents(&export.path("out"));
    assert!(before.contains_key(".pixtok-output"));
    assert!(export.encode("fsq", "out", &["--format", "npy"]).contains("finished already"));
    for (args, part) in [
        (&["--format", "raw"][..], "set.format was \"npy\" and is \"raw\""),
        (&["--format", "npy", "--vocab-offset", "5"], "set.vocabulary.offset was 0 and is 5"),
        (&["--format", "npy", "--batch-size", "5"], "batch_size was 4 and is 5"),
    ] {
        let output = export.try_encode("fsq", "out", args);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(part) && said(&output).contains("another job"), "{}", said(&output));
    }
    // Rewritten files count as the same images, but files with different sizes do not.
    let image = export.path("images/birds/00.jpg");
    fs::write(&image, fs::read(&image).unwrap()).unwrap();
    assert!(export.encode("fsq", "out", &["--format", "npy"]).contains("finished already"));
    fs::copy(export.path("images/trees/01.jpg"), &image).unwrap();
    let output = export.try_encode("fsq", "out", &["--format", "npy"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("some have other sizes"), "{}", said(&output));
    assert_eq!(contents(&export.path("out")), before);
    let full = text(&export.path("images"));
    let output = export.try_encode("fsq", "images", &["--format", "npy", "--data", &full]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("is not empty (birds, …)"), "{}", said(&output));
}

/// At most one in ten thousand tokens differs because convolutions round differently between batch
/// sizes.
#[test]
fn batches_and_shards_change_next_to_no_token() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    export.encode("fsq", "four", &["--format", "npy"]);
    let four = export.rows("four");
    for (out, args) in [
        ("one", &["--batch-size", "1"][..]),
        ("sixteen", &["--batch-size", "16"]),
        ("two", &["--threads", "2"]),
    ] {
        export.encode("fsq", out, &[&["--format", "npy"], args].concat());
        let rows = export.rows(out);
        assert_eq!(rows.len(), four.len());
        let flipped: usize = four
            .iter()
            .zip(&rows)
            .map(|(a, b)| a.ids.iter().zip(&b.ids).filter(|(a, b)| a != b).count())
            .sum();
        assert!(flipped as f64 <= 1e-4 * (23 * 256) as f64, "{flipped} tokens differ at batches of {out}");
    }
    export.encode("fsq", "shards", &["--format", "npy", "--shard-rows", "7"]);
    let shards = export.rows("shards");
    assert_eq!(four, shards, "a row's place in its batch changes nothing");
}

/// The memory of an export does not grow with the images or the shard.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_flat_over_images_and_shards() {
    let export = Export::new();
    export.scratch.train("fsq", &[]);
    let peak = |count: usize, format: &str, shard: &str| {
        let folder = export.path("many");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        let data = many(&export, count);
        let out = export.path(&format!("{format}-{count}-{shard}"));
        let (run, out) = (text(&export.path("fsq")), text(&out));
        let mut child = Command::new(env!("CARGO_BIN_EXE_pixtok"))
            .args(["encode", &run, "--data", &data, "--out", &out, "--format", format, "--shard-rows", shard])
            .args(["--threads", "1", "--device", &device(), "--batch-size", "16"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut most = 0;
        while child.try_wait().unwrap().is_none() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            most =
                most.max(line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()));
            sleep(Duration::from_millis(2));
        }
        assert!(child.wait().unwrap().success());
        most
    };
    for format in ["parquet", "mds", "megatron", "webdataset"] {
        let (few, many, small) =
            (peak(200, format, "10000"), peak(4000, format, "10000"), peak(4000, format, "100"));
        println!("{format}: {few} KiB for 200 images, {many} for 4000, {small} in shards of 100");
        let grown = many.max(small) as f64 / few as f64;
        assert!(grown < 1.1, "{format}: {few} KiB for 200 images, {many} for 4000, {small} in small shards");
    }
}
