use std::error::Error as _;
use std::io::Write;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::super::which::Which;
use super::*;
use crate::checkpoint::{Loaded, Resumed};
use pixtok_base::paths::OUTPUT_MARKER;

fn snapshot(value: f64) -> Snapshot {
    let filled = |shape: &[i64]| Tensor::full(shape, value, (Kind::Float, Device::Cpu));
    Snapshot {
        model: [("conv.weight".to_owned(), filled(&[5, 7])), ("conv.bias".to_owned(), filled(&[5]))].into(),
        ema: None,
        companions: Some([("discriminator.bias".to_owned(), filled(&[3]))].into()),
        optimizer: [("conv.weight.m".to_owned(), filled(&[5, 7]))].into(),
        state: json!({ "step": 1, "loss": 0.1 + value }),
    }
}

fn value_of(loaded: &Loaded) -> f64 {
    loaded.snapshot.model["conv.weight"].double_value(&[4, 6])
}

/// A candidate with this `value` of `metric` at `step`, over all images of the set with this hash.
fn offer(run: &RunWriter, step: u64, metric: &str, value: f64, set: &str) -> bool {
    let images = &ValidationImages { blake3: Some(set.to_owned()), max_images: 0 };
    let higher_is_better = metric != "val/l1";
    run.offer_best(Candidate { step, metric, value, higher_is_better, images }).unwrap()
}

/// A run with checkpoints of these steps, each filled with its step.
fn run_with(folder: &Path, steps: &[u64]) -> RunWriter {
    let run = RunWriter::create(&folder.join("run")).unwrap();
    for &step in steps {
        run.save(step, &snapshot(step as f64)).unwrap();
    }
    run
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[]);
    let mut saved = snapshot(2.5);
    saved.ema = Some([("conv.bias".to_owned(), Tensor::from(f32::NAN))].into());
    saved.state = json!({ "third": 1.0 / 3.0, "tiny": 5e-324, "seed": u64::MAX, "data": [1, null] });
    let path = run.save(600, &saved).unwrap();
    assert_eq!(path, run.folder().path().join("step-000600"));
    assert_eq!(
        names_in(&path),
        [
            "companions.safetensors",
            "ema.safetensors",
            "manifest.json",
            "model.safetensors",
            "optimizer.safetensors",
            "state.json"
        ]
    );
    let back = run.folder().load(600).unwrap();
    assert_eq!(back.step, 600);
    assert_eq!(back.snapshot.state, saved.state);
    assert_eq!(back.snapshot.model["conv.weight"], saved.model["conv.weight"]);
    assert_eq!(back.snapshot.optimizer["conv.weight.m"], saved.optimizer["conv.weight.m"]);
    assert!(back.snapshot.ema.unwrap()["conv.bias"].double_value(&[]).is_nan());
    assert_eq!(names_in(run.folder().path()), [".lock", OUTPUT_MARKER, "step-000600"]);
}

#[test]
fn the_weights_alone_need_nothing_of_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[3]);
    let mut saved = snapshot(4.0);
    saved.ema = Some([("conv.bias".to_owned(), Tensor::from(0.5f32))].into());
    saved.companions = None;
    run.save(4, &saved).unwrap();
    for step in [3, 4] {
        fs::remove_file(run.folder().checkpoint_path(step).join("optimizer.safetensors")).unwrap();
    }
    let raw = run.folder().load_model(3, false).unwrap();
    assert_eq!(raw.weights["conv.weight"].double_value(&[4, 6]), 3.0);
    assert_eq!((raw.has_average, raw.has_companions, &raw.state["step"]), (false, true, &json!(1)));
    assert!(matches!(run.folder().load_model(3, true).unwrap_err(), Error::NoAverage));
    let averaged = run.folder().load_model(4, true).unwrap();
    assert_eq!(averaged.weights["conv.bias"].double_value(&[]), 0.5);
    assert_eq!((averaged.has_average, averaged.has_companions), (true, false));
    let model = run.folder().checkpoint_path(3).join("model.safetensors");
    File::options().append(true).open(model).unwrap().write_all(b" ").unwrap();
    let error = run.folder().load_model(3, false).unwrap_err().to_string();
    assert!(error.contains("model.safetensors is not the"), "{error}");
}

#[test]
fn saving_a_step_again_replaces_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[1]);
    run.save(1, &snapshot(9.0)).unwrap();
    assert_eq!(value_of(&run.folder().load(1).unwrap()), 9.0);
    assert_eq!(names_in(run.folder().path()), [".lock", OUTPUT_MARKER, "step-000001"]);
}

#[test]
fn every_damage_is_found_and_resume_falls_back() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 8] = [
        ("altered", |at| {
            let mut bytes = fs::read(at.join("model.safetensors")).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(at.join("model.safetensors"), bytes).unwrap();
        }),
        ("not the", |at| {
            let file = File::options().write(true).open(at.join("optimizer.safetensors")).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }),
        ("not the", |at| {
            File::options().append(true).open(at.join("state.json")).unwrap().write_all(b" ").unwrap();
        }),
        ("model.safetensors is missing", |at| fs::remove_file(at.join("model.safetensors")).unwrap()),
        ("state.json is missing", |at| fs::remove_file(at.join("state.json")).unwrap()),
        ("manifest.json is missing", |at| fs::remove_file(at.join("manifest.json")).unwrap()),
        ("JSON", |at| fs::write(at.join("manifest.json"), b"{\"format_version\": 1").unwrap()),
        ("not listed", |at| {
            fs::write(at.join("manifest.json"), b"{\"format_version\":1,\"step\":7,\"files\":{}}").unwrap();
        }),
    ];
    for (expected, damage) in cases {
        let folder = tempfile::tempdir().unwrap();
        let run = run_with(folder.path(), &[3, 7]);
        damage(&run.folder().checkpoint_path(7));
        let error = run.folder().load(7).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{expected}: {error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");

        let Resumed { loaded, damaged } = run.folder().newest_whole().unwrap();
        let loaded = loaded.unwrap();
        assert_eq!((loaded.step, value_of(&loaded)), (3, 3.0));
        assert_eq!(damaged.len(), 1);
        assert!(damaged[0].step == 7 && damaged[0].reason.contains(expected), "{damaged:?}");
        // Nothing changes until it is clear that the run goes on.
        assert_eq!(names_in(run.folder().path()), [".lock", OUTPUT_MARKER, "step-000003", "step-000007"]);
        let aside = run.set_aside(&damaged[0]).unwrap();
        assert!(aside.ends_with("damaged-step-000007"), "{}", aside.display());
        assert_eq!(
            names_in(run.folder().path()),
            [".lock", OUTPUT_MARKER, "damaged-step-000007", "step-000003"]
        );
        // Damaged once more.
        fs::create_dir(&damaged[0].path).unwrap();
        assert!(run.set_aside(&damaged[0]).unwrap().ends_with("damaged-step-000007-2"));
    }
}

#[test]
fn no_altered_bit_goes_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[]);
    let mut saved = snapshot(2.5);
    saved.ema = Some([("conv.bias".to_owned(), Tensor::from(0.5f32))].into());
    let path = run.save(7, &saved).unwrap();
    for name in names_in(&path) {
        let file = path.join(&name);
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 1 << (at % 8);
            fs::write(&file, altered).unwrap();
            assert!(run.folder().load(7).is_err(), "{name}, byte {at}");
        }
        fs::write(&file, whole).unwrap();
    }
    run.folder().load(7).unwrap();
}

#[test]
fn a_run_without_a_whole_checkpoint_lists_the_damaged_ones() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[]);
    let resumed = run.folder().newest_whole().unwrap();
    assert!(resumed.loaded.is_none() && resumed.damaged.is_empty());
    assert!(run.folder().newest_state().unwrap().is_none());
    fs::create_dir(run.folder().checkpoint_path(5)).unwrap();
    let resumed = run.folder().newest_whole().unwrap();
    assert!(resumed.loaded.is_none());
    assert_eq!(resumed.damaged.len(), 1);
}

#[test]
fn the_newest_state_that_can_be_read_is_found_without_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[3, 7]);
    let newest = run.folder().load(7).unwrap().snapshot.state;
    fs::remove_file(run.folder().checkpoint_path(7).join("model.safetensors")).unwrap();
    assert_eq!(run.folder().newest_state().unwrap(), Some(newest));
    fs::remove_file(run.folder().checkpoint_path(7).join("state.json")).unwrap();
    let older = run.folder().load(3).unwrap().snapshot.state;
    assert_eq!(run.folder().newest_state().unwrap(), Some(older));
}

#[test]
fn files_that_the_manifest_does_not_list_are_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[7]);
    fs::write(run.folder().checkpoint_path(7).join("ema.safetensors"), b"planted").unwrap();
    assert!(run.folder().load(7).unwrap().snapshot.ema.is_none());
}

#[test]
fn a_renamed_checkpoint_does_not_pass_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[7]);
    fs::rename(run.folder().checkpoint_path(7), run.folder().checkpoint_path(8)).unwrap();
    let message = run.folder().load(8).unwrap_err().to_string();
    assert!(message.contains("step 7"), "{message}");
}

#[test]
fn a_later_format_is_an_error_and_not_stepped_over() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[3, 7]);
    fs::write(run.folder().checkpoint_path(7).join("manifest.json"), b"{\"format_version\":2}").unwrap();
    let error = run.folder().newest_whole().unwrap_err();
    assert!(matches!(error, Error::UnknownFormat { found: 2, known: 1, .. }), "{error}");
    assert_eq!(run.folder().checkpoints().unwrap(), [3, 7]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_no_trace_and_the_older_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[1, 2]);
    for failing in ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"] {
        // Writes to this device fail as on a full disk.
        let create = |path: &Path| match path.ends_with(failing) {
            true => File::options().write(true).open("/dev/full"),
            false => File::create(path),
        };
        for step in [2, 3] {
            let error = run.save_through(step, &snapshot(0.0), &create).unwrap_err();
            let Error::SaveFailed { path, cause } = &error else { panic!("{error}") };
            assert_eq!(*path, run.folder().checkpoint_path(step));
            assert!(matches!(cause, SaveCause::DiskFull { .. }), "{failing}: {cause}");
            let cause = cause.to_string();
            assert!(cause.starts_with("the disk is full: ") && cause.contains(" kB needed"), "{cause}");
        }
    }
    assert_eq!(names_in(run.folder().path()), [".lock", OUTPUT_MARKER, "step-000001", "step-000002"]);
    assert_eq!(value_of(&run.folder().load(2).unwrap()), 2.0);
}

#[test]
fn a_save_that_cannot_fit_is_refused_beforehand() {
    let folder = tempfile::tempdir().unwrap();
    let error = check_space(folder.path(), u64::MAX).unwrap_err().to_string();
    assert!(error.contains("needed and") && error.contains("free;"), "{error}");
    check_space(folder.path(), 1).unwrap();
}

#[test]
fn one_trainer_at_a_time_and_readers_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[1]);
    let path = run.folder().path().to_owned();
    assert!(matches!(RunWriter::resume(&path), Err(Error::InUse { .. })));
    assert!(matches!(RunWriter::create(&path), Err(Error::InUse { .. })));
    assert_eq!(RunFolder::open(&path).unwrap().load(1).unwrap().step, 1);
    drop(run);
    // Whatever the file is, a new run must not overwrite it.
    assert!(matches!(RunWriter::create(&path), Err(Error::Remains { .. })));
    fs::write(path.join("config.toml"), b"").unwrap();
    let message = RunWriter::create(&path).unwrap_err().to_string();
    assert!(message.contains("--resume"), "{message}");
    assert_eq!(RunWriter::resume(&path).unwrap().folder().newest_whole().unwrap().loaded.unwrap().step, 1);
}

#[test]
fn places_where_no_run_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(RunWriter::create(&file.join("run")), Err(Error::NotWritable { .. })));
    assert!(matches!(RunWriter::create(&file), Err(Error::NotWritable { .. })));
    let (link, target) = (folder.path().join("link"), folder.path().join("unmounted"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let leads = format!("is a link to {}, which does not exist", target.display());
    let error = RunWriter::create(&link).unwrap_err();
    assert!(error.to_string().ends_with("choose another --run"), "{error}");
    assert!(error.source().unwrap().to_string().contains(&leads), "{:?}", error.source());
    let error = RunWriter::resume(&link).unwrap_err().to_string();
    assert!(error.contains(&leads), "{error}");
    assert!(matches!(RunWriter::resume(&folder.path().join("none")), Err(Error::NotARun { .. })));
    assert!(RunFolder::open(&file).unwrap_err().to_string().contains("it is a file"));
    // Started, and killed before its first checkpoint.
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("config.toml"), b"").unwrap();
    assert!(matches!(RunWriter::create(&run), Err(Error::Exists { .. })));
    RunWriter::resume(&run).unwrap();
}

#[test]
fn resume_clears_what_a_killed_trainer_left() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[1, 2]);
    let path = run.folder().path().to_owned();
    drop(run);
    fs::rename(path.join("step-000002"), path.join(".step-000002.old-4194305")).unwrap();
    fs::create_dir(path.join(".step-000003.tmp-4194305")).unwrap();
    let run = RunWriter::resume(&path).unwrap();
    assert_eq!(names_in(&path), [".lock", OUTPUT_MARKER, "step-000001", "step-000002"]);
    assert_eq!(run.folder().newest_whole().unwrap().loaded.unwrap().step, 2);
}

#[test]
fn the_newest_and_the_best_stay() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[]);
    let mut kept = Vec::new();
    for (step, psnr_db) in [(10, 20.0), (20, 24.0), (30, f64::NAN), (40, 23.0), (50, 24.0)] {
        run.save(step, &snapshot(0.0)).unwrap();
        let better = offer(&run, step, "val/psnr_db", psnr_db, "a");
        assert_eq!(better, step <= 20, "step {step}");
        run.retain(2).unwrap();
        kept.push(run.folder().checkpoints().unwrap());
    }
    assert_eq!(kept, [vec![10], vec![10, 20], vec![20, 30], vec![20, 30, 40], vec![20, 40, 50]]);
    assert_eq!(names_in(run.folder().path()).len(), 6, "no temporaries");
    let best = run.folder().best().unwrap().unwrap();
    assert_eq!((best.step, best.metric.as_str(), best.value), (20, "val/psnr_db", 24.0));
    assert_eq!(run.folder().select(Which::Best).unwrap(), 20);

    // A loss is better when lower, and a new metric defends nothing.
    assert!(offer(&run, 40, "val/l1", 0.5, "a"));
    assert!(!offer(&run, 50, "val/l1", 0.6, "a"));
    assert!(offer(&run, 50, "val/l1", 0.4, "a"));
    // Nor does one whose checkpoint is gone; and a step without a checkpoint is never best.
    fs::remove_dir_all(run.folder().checkpoint_path(50)).unwrap();
    assert!(!offer(&run, 60, "val/l1", 0.1, "a"));
    assert!(offer(&run, 40, "val/l1", 0.9, "a"));
    run.retain(0).unwrap();
    assert_eq!(run.folder().checkpoints().unwrap(), [40]);
}

#[test]
fn checkpoints_that_made_tokens_stay_until_their_mark_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[10, 20, 30]);
    for tokens in ["/data/one", "/data/two", "/data/one"] {
        run.folder().keep(10, Path::new(tokens)).unwrap();
    }
    run.retain(1).unwrap();
    assert_eq!(run.folder().checkpoints().unwrap(), [10, 30]);
    // The mark is no part of the checkpoint, and says what it is for.
    assert_eq!(run.folder().load(10).unwrap().step, 10);
    let mark = run.folder().checkpoint_path(10).join("kept-for-tokens.txt");
    let text = fs::read_to_string(&mark).unwrap();
    assert!(
        text.contains("Delete this file to release") && text.ends_with("\n\n/data/one\n/data/two\n"),
        "{text}"
    );
    // It outlives a second save of its step.
    run.save(10, &snapshot(1.0)).unwrap();
    run.retain(1).unwrap();
    assert_eq!(fs::read_to_string(&mark).unwrap(), text);
    fs::remove_file(&mark).unwrap();
    run.retain(1).unwrap();
    assert_eq!(run.folder().checkpoints().unwrap(), [30]);
    assert_eq!(names_in(run.folder().path()), [".lock", OUTPUT_MARKER, "step-000030"]);
}

#[test]
fn a_checkpoint_that_went_meanwhile_is_told_from_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[10, 20]);
    let path = run.folder().checkpoint_path(10);
    fs::remove_file(path.join("model.safetensors")).unwrap();
    assert!(matches!(run.folder().load_model(10, false), Err(Error::Damaged { .. })));
    run.retain(1).unwrap();
    for error in [
        run.folder().load_model(10, false).map(drop),
        run.folder().load(10).map(drop),
        run.folder().stated_weights(10).map(drop),
        run.folder().keep(10, Path::new("tokens")),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{error}");
        assert!(error.to_string().contains("step-000010 was deleted in the meantime"), "{error}");
    }
    // Nothing can be written where a folder has the name of the mark.
    fs::create_dir(run.folder().checkpoint_path(20).join("kept-for-tokens.txt")).unwrap();
    assert!(matches!(run.folder().keep(20, Path::new("tokens")), Err(Error::SaveFailed { .. })));
}

#[test]
fn a_checkpoint_states_its_weights_without_reading_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[3]);
    let mut saved = snapshot(4.0);
    saved.ema = Some([("conv.bias".to_owned(), Tensor::from(0.5f32))].into());
    run.save(4, &saved).unwrap();
    for (step, has_average) in [(3, false), (4, true)] {
        let file = run.folder().checkpoint_path(step).join("model.safetensors");
        let hash = blake3::hash(&fs::read(&file).unwrap()).to_hex().to_string();
        fs::remove_file(file).unwrap();
        assert_eq!(run.folder().stated_weights(step).unwrap(), (Some(hash), has_average));
    }
}

#[test]
fn a_best_on_other_images_counts_no_more_and_stays_until_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[10, 20, 30]);
    assert!(offer(&run, 10, "val/psnr_db", 30.0, "easy"));
    assert!(!offer(&run, 20, "val/psnr_db", 20.0, "easy"));
    run.retain(1).unwrap();
    assert_eq!(run.folder().checkpoints().unwrap(), [10, 30], "it stays");
    // A harder set, then an easier one: neither is compared with the other's value.
    assert!(offer(&run, 30, "val/psnr_db", 20.0, "hard"));
    run.save(40, &snapshot(0.0)).unwrap();
    assert!(!offer(&run, 40, "val/psnr_db", 19.0, "hard"));
    assert!(offer(&run, 40, "val/psnr_db", 19.0, "easy"));
    let few = ValidationImages { blake3: Some("easy".into()), max_images: 2 };
    let candidate =
        Candidate { step: 30, metric: "val/psnr_db", value: 1.0, higher_is_better: true, images: &few };
    assert!(run.offer_best(candidate).unwrap(), "part of a set counts as other images");
}

#[test]
fn an_older_record_of_the_best_counts_until_it_is_known_to_be_of_other_images() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[10, 20]);
    let older = "{\"format_version\":1,\"step\":10,\"metric\":\"val/psnr_db\",\"value\":30.0}";
    fs::write(run.folder().path().join("best.json"), older).unwrap();
    assert!(!offer(&run, 20, "val/psnr_db", 20.0, "a"));
    run.note_images_of_best(ValidationImages { blake3: None, max_images: 5 }).unwrap();
    let best = run.folder().best().unwrap().unwrap();
    assert_eq!((best.step, best.images.unwrap().max_images), (10, 5));
    assert!(offer(&run, 20, "val/psnr_db", 20.0, "a"));
    // Images that a record already holds are not overwritten.
    run.note_images_of_best(ValidationImages { blake3: None, max_images: 5 }).unwrap();
    assert!(!offer(&run, 10, "val/psnr_db", 19.0, "a"));
}

#[test]
fn weights_that_are_not_finite_are_stepped_over() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[3]);
    for (step, part) in [(5, "model"), (6, "companions"), (7, "ema")] {
        let mut bad = snapshot(1.0);
        let number = if step == 5 { f32::NAN } else { f32::INFINITY };
        let tensors = [("some.weight".to_owned(), Tensor::from_slice(&[0.5, number, -1.0]))].into();
        match part {
            "model" => bad.model = tensors,
            "ema" => bad.ema = Some(tensors),
            _ => bad.companions = Some(tensors),
        }
        assert_eq!(bad.not_finite(), Some("some.weight"), "{part}");
        run.save(step, &bad).unwrap();
    }
    assert_eq!(snapshot(f64::from(f32::MAX)).not_finite(), None);
    let Resumed { loaded, damaged } = run.folder().newest_whole().unwrap();
    assert_eq!(loaded.unwrap().step, 3);
    assert_eq!(damaged.iter().map(|damaged| damaged.step).collect::<Vec<_>>(), [7, 6, 5]);
    assert!(damaged[0].reason.contains("not finite (some.weight)"), "{damaged:?}");
}

#[test]
fn a_damaged_record_of_the_best_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[1]);
    let path = run.folder().path().to_owned();
    drop(run);
    fs::write(path.join("best.json"), b"{").unwrap();
    let message = RunWriter::resume(&path).unwrap_err().to_string();
    assert!(message.contains("best.json is damaged"), "{message}");
}

#[test]
fn selection_names_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(folder.path(), &[]);
    let message = run.folder().select(Which::Last).unwrap_err().to_string();
    assert!(message.contains("\"last\"") && message.contains("none yet"), "{message}");
    run.save(5, &snapshot(0.0)).unwrap();
    run.save(1_000_000, &snapshot(0.0)).unwrap();
    assert_eq!(run.folder().select(Which::Last).unwrap(), 1_000_000);
    assert_eq!(run.folder().select(Which::Step(5)).unwrap(), 5);
    for which in [Which::Step(6), Which::Best] {
        let message = run.folder().select(which).unwrap_err().to_string();
        assert!(message.contains("step-000005, step-1000000"), "{message}");
    }
}
