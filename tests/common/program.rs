//! Runs the program where it may fail, and checks what it leaves.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Scratch, device, said};

/// Asserts that the program ended with `code` and its own message, which contains all `parts`.
pub fn ended(output: &Output, code: i32, parts: &[&str]) {
    let words = said(output);
    assert_eq!(output.status.code(), Some(code), "{words}");
    for foreign in ["panicked", "RUST_BACKTRACE", "unwrap()", "frame #"] {
        assert!(!words.contains(foreign), "{foreign} in: {words}");
    }
    for part in parts {
        assert!(words.contains(part), "{part:?} is missing in: {words}");
    }
}

/// The same as [`ended`], with a single error on one line.
pub fn refused(output: &Output, code: i32, parts: &[&str]) {
    ended(output, code, parts);
    let words = said(output);
    assert_eq!(words.matches("error: ").count(), 1, "{words}");
    let error = words.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(
        error.ends_with(words.trim_end().lines().last().unwrap()),
        "the error is not the last line: {words}"
    );
}

/// The tensors and counters of a checkpoint.
pub fn bytes_at(run: &Path, step: u64) -> Vec<Vec<u8>> {
    let folder = run.join(format!("step-{step:06}"));
    ["model.safetensors", "optimizer.safetensors", "state.json"]
        .map(|name| fs::read(folder.join(name)).unwrap())
        .to_vec()
}

pub fn checkpoints(run: &Path) -> Vec<String> {
    let names = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("step-")).collect();
    names.sort();
    names
}

/// Runs `pixtok train …` in bash, after the command `limit`.
pub fn train_limited(scratch: &Scratch, run: &str, limit: &str, device: &str, args: &[&str]) -> Output {
    let (config, run) = (scratch.path("tiny.toml"), scratch.path(run));
    let new =
        [config.to_str().unwrap(), "--run", run.to_str().unwrap(), "--threads", "1", "--device", device];
    limited(limit, &[&new, args].concat())
}

/// Runs `pixtok train …` under a limit set in bash.
pub fn limited(limit: &str, args: &[&str]) -> Output {
    let script = format!("{limit}; exec \"$@\"");
    let program = ["-c", &script, "bash", env!("CARGO_BIN_EXE_pixtok"), "train"];
    Command::new("bash").args(program).args(args).output().unwrap()
}

/// Starts a training in the background. It has far more steps than a test waits for, unless `args`
/// say otherwise.
pub fn start_training(scratch: &Scratch, run: &str, args: &[&str]) -> Child {
    let (config, path, device) = (scratch.path("tiny.toml"), scratch.path(run), device());
    let new =
        [config.to_str().unwrap(), "--run", path.to_str().unwrap(), "--threads", "1", "--device", &device];
    start(scratch, run, &[&new, args].concat())
}

/// Starts `pixtok train …` in the background and returns once `run` has a new row in its log.
pub fn start(scratch: &Scratch, run: &str, args: &[&str]) -> Child {
    let before = rows(&scratch.path(run));
    let child = Command::new(env!("CARGO_BIN_EXE_pixtok"))
        .arg("train")
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while rows(&scratch.path(run)) <= before {
        assert!(began.elapsed() < Duration::from_secs(60), "the training does not begin");
        sleep(Duration::from_millis(5));
    }
    child
}

pub fn rows(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count()
}

pub fn kill(child: Child, signal: &str) -> Output {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait_with_output().unwrap()
}

/// A folder with `good` photographs, a truncated one and a broken link.
pub fn with_bad_images(scratch: &Scratch, name: &str, good: usize) -> String {
    let folder = scratch.path(name);
    fs::create_dir(&folder).unwrap();
    for i in 0..good {
        let file = format!("{i:02}.jpg");
        fs::copy(scratch.path("train").join(&file), folder.join(&file)).unwrap();
    }
    let whole = fs::read(scratch.path("train/09.jpg")).unwrap();
    fs::write(folder.join("cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    symlink("nowhere.jpg", folder.join("link.jpg")).unwrap();
    folder.to_str().unwrap().to_owned()
}
