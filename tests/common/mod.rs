//! The shared code of the program's tests: a scratch folder, a small data set, a small config, runs
//! of the binary.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

pub mod tables;

pub mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A config of a network of a few thousand parameters on 32×32 crops.
pub const FSQ: &str = "
[data]
train = \"TRAIN\"
val = \"VAL\"
image_size = 32
[model]
channels = 8
multipliers = [1, 2]
[quantizer]
kind = \"fsq\"
levels = [8, 5, 5, 5]
[optimizer]
lr = 2e-3
schedule = { kind = \"cosine\", warmup_steps = 5 }
[train]
steps = 12
batch_size = 4
precision = \"fp32\"
log_every = 1
eval_every = 100
checkpoint_every = 100
";

/// The same config with a VQ that restarts, so that its checkpoint holds every kind of state.
pub const VQ: &str = "quantizer={kind=\"vq\",codebook_size=64,codebook_dim=4,restart_threshold=1.0}";

/// A codebook that the optimizer moves and that restarts: the moments of restarted rows are
/// cleared.
pub const VQ_GRADIENT: &str = "quantizer={kind=\"vq\",codebook_size=64,codebook_dim=4,\
    codebook_update={kind=\"gradient\"},restart_threshold=1.0}";

/// Groups of residual stages whose codebooks the optimizer moves and that restart: state at every
/// level.
pub const GROUPS: &str = "quantizer={kind=\"grouped\",groups=2,each={kind=\"residual\",stages=2,each={kind=\"vq\",\
    codebook_size=16,codebook_dim=2,codebook_update={kind=\"gradient\"},restart_threshold=1.0}}}";

/// Noise that must be the same again at the same steps, stage by stage.
pub const NOISY: &str =
    "quantizer={kind=\"residual\",stages=2,each={kind=\"fsq\",levels=[8,5],noise_probability=0.5}}";

/// A frozen table and a learned map.
pub const SIMVQ: &str = "quantizer={kind=\"simvq\",codebook_size=64,codebook_dim=4}";

/// An adversary with all its parts, from step 7 on.
pub const ADVERSARY: &str = "adversarial={start=7,ramp_steps=3,weighting={kind=\"adaptive\"},r1={weight=0.1,every=2},\
    lecam={weight=0.01,decay=0.9},augment=[\"color\",\"translation\",\"cutout\"],\
    discriminator={kind=\"patch\",channels=4,layers=1,norm=\"actnorm\"}}";

/// The other discriminator, with a separate loss for the tokenizer.
pub const STYLEGAN: &str = "adversarial={start=7,tokenizer_loss=\"non-saturating\",r1={weight=0.1,every=2},augment=[\"translation\"],\
    discriminator={kind=\"stylegan\",channels=4,most_channels=8}}";

/// A scratch folder with ten training photographs, three for validation, and `tiny.toml`.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Self { folder };
        for (from, to, count) in [("train", "train", 10), ("val", "val", 3)] {
            fs::create_dir_all(scratch.path(to)).unwrap();
            for (i, photograph) in photographs(from).into_iter().take(count).enumerate() {
                fs::copy(photograph, scratch.path(to).join(format!("{i:02}.jpg"))).unwrap();
            }
        }
        let text = FSQ
            .replace("TRAIN", scratch.path("train").to_str().unwrap())
            .replace("VAL", scratch.path("val").to_str().unwrap());
        fs::write(scratch.path("tiny.toml"), text).unwrap();
        scratch
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `pixtok train tiny.toml --run RUN …` on one thread, which must succeed.
    pub fn train(&self, run: &str, args: &[&str]) {
        let output = self.try_train(run, args);
        assert!(output.status.success(), "{}", said(&output));
    }

    pub fn try_train(&self, run: &str, args: &[&str]) -> Output {
        let (config, run, device) = (self.path("tiny.toml"), self.path(run), device());
        let mut all = vec!["train", config.to_str().unwrap(), "--run", run.to_str().unwrap()];
        all.extend(["--threads", "1", "--device", &device]);
        all.extend(args);
        pixtok(&all)
    }

    /// Runs `pixtok train --resume RUN …` with the run's own device and threads.
    pub fn try_resume(&self, run: &str, args: &[&str]) -> Output {
        let run = self.path(run);
        let mut all = vec!["train", "--resume", run.to_str().unwrap()];
        all.extend(args);
        pixtok(&all)
    }

    /// Resumes a run, which must succeed.
    pub fn resume(&self, run: &str, args: &[&str]) {
        let output = self.try_resume(run, args);
        assert!(output.status.success(), "{}", said(&output));
    }
}

/// The device of the tests: `PIXTOK_TEST_DEVICE`, or the CPU.
pub fn device() -> String {
    std::env::var("PIXTOK_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// Locks libtorch's generator, of which a process has one. A test of the program that seeds it
/// holds the lock while it draws, since two such tests run at a time.
pub fn generator() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All photographs of one part of the sample, spread over its folders.
pub fn photographs(part: &str) -> Vec<PathBuf> {
    let root = Path::new(ROOT).join("data/photos96").join(part);
    let mut folders: Vec<Vec<PathBuf>> = fs::read_dir(root)
        .unwrap()
        .map(|folder| {
            let mut files: Vec<PathBuf> =
                fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            files
        })
        .collect();
    folders.sort();
    let longest = folders.iter().map(Vec::len).max().unwrap();
    (0..longest).flat_map(|i| folders.iter().filter_map(move |files| files.get(i).cloned())).collect()
}

/// Runs the program from the root of the repository.
pub fn pixtok(args: &[&str]) -> Output {
    // Removes a developer's own weights, which must not affect tests.
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtok"));
    command.args(args).current_dir(ROOT).env_remove("PIXTOK_WEIGHTS").output().unwrap()
}

/// Everything that a program printed.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Every file below a folder by its relative path.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut pending = vec![folder.to_owned()];
    let mut files = BTreeMap::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

/// Copies a run folder as it was at `step`, with only the checkpoints up to then.
pub fn copy_run(from: &Path, to: &Path, step: u64) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let later = name.strip_prefix("step-").is_some_and(|digits| digits.parse::<u64>().unwrap() > step);
        if later || name == ".lock" {
            continue;
        }
        if path.is_dir() {
            fs::create_dir_all(to.join(&name)).unwrap();
            for file in fs::read_dir(&path).unwrap() {
                let file = file.unwrap().path();
                fs::copy(&file, to.join(&name).join(file.file_name().unwrap())).unwrap();
            }
        } else {
            fs::copy(&path, to.join(&name)).unwrap();
        }
    }
}
