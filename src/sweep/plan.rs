//! The plan of a comparison: configs that can be trained, made from its file and checked as a whole
//! before anything runs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::file::{ArmEntry, Grid, SweepFile};
use crate::config::{Config, ConfigError, Difference, KnownKey, ResolveError, known, read_toml};
use crate::quantizer::{QuantizerConfig, QuantizerError};
use pixtok_base::{Class, Classified};
use pixtok_torch::Precision;

/// A comparison that is ready to run.
#[derive(Debug)]
pub struct Plan {
    /// The name of the file, without its extension.
    pub name: String,
    /// The config from which all arms start, with the changes for all arms and the first seed.
    pub base: Config,
    /// The seeds. Each trained arm is trained with each seed.
    pub seeds: Vec<u64>,
    /// The arms in the order of the file, with those of the grid first.
    pub arms: Vec<PlannedArm>,
}

/// An arm: one tokenizer.
#[derive(Debug)]
pub struct PlannedArm {
    /// The name, which is unique.
    pub name: String,
    /// The series in the plots over codebook size.
    pub series: String,
    /// The origin of the tokenizer.
    pub source: Source,
}

/// The origin of a tokenizer.
#[derive(Debug)]
pub enum Source {
    /// It is trained with this config, which has the first seed.
    Trained(Box<Config>),
    /// It exists already.
    Existing {
        /// Its path.
        path: PathBuf,
        /// The number of codes that it must have, if the comparison's file states one.
        codebook_size: Option<i64>,
    },
}

/// The reason why a comparison cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The comparison's file or the base cannot be read.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// The base is not a valid config.
    #[error("the base {}: {source}", .path.display())]
    Base {
        /// The base's file.
        path: PathBuf,
        /// The reason.
        source: ResolveError,
    },
    /// The changes of an arm cannot be applied, or give an invalid config.
    #[error("arm {name:?}: {reason}")]
    Arm {
        /// The name of the arm.
        name: String,
        /// The reason, with the remedy.
        reason: String,
    },
    /// The arms do not form a comparison.
    #[error("{}: {reason}", .path.display())]
    Whole {
        /// The comparison's file.
        path: PathBuf,
        /// The reason, with the remedy.
        reason: String,
    },
}

impl Classified for SweepError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

/// Keys that an arm must not change: a comparison gives all arms the same images, budget and evaluation.
const COMMON: [KnownKey; 6] = [
    known::SEED,
    known::DATA,
    known::EVAL,
    known::TRAIN_STEPS,
    known::TRAIN_BATCH_SIZE,
    known::TRAIN_PRECISION,
];

impl Plan {
    /// Reads a comparison's file, and checks everything that can be checked without images and
    /// weights.
    ///
    /// # Errors
    /// [`SweepError`], with the arm and the key.
    pub fn read(path: &Path) -> Result<Self, SweepError> {
        let file: SweepFile = read_toml(path)?;
        let whole = |reason: String| SweepError::Whole { path: path.to_owned(), reason };
        let folder = path.parent().unwrap_or(Path::new(""));
        let Some(&first) = file.seeds.first() else {
            return Err(whole("seeds is empty; give one or more, for instance [0, 1]".into()));
        };
        if let Some(seed) = first_twice(&file.seeds) {
            return Err(whole(format!("seeds has {seed} twice; give each once")));
        }
        let base_path = folder.join(&file.base);
        let common = [overrides(&file.set), vec![format!("seed={first}")]].concat();
        let of_base = |error: ConfigError| whole(format!("its base with its set: {}", error.in_a_sweep()));
        let (base, _) = Config::read(&base_path, &common).map_err(of_base)?;
        base.check().map_err(|source| SweepError::Base { path: base_path.clone(), source })?;
        let mut arms = file.grid.as_ref().map_or(Ok(vec![]), |grid| of_grid(grid, &base, &whole))?;
        for entry in file.arms {
            arms.push(of_entry(entry, &base, &base_path, &common, folder)?);
        }
        if arms.is_empty() {
            return Err(whole("there are no arms; give [grid] or [[arms]]".into()));
        }
        let mut names = HashSet::new();
        if let Some(arm) = arms.iter().find(|arm| !names.insert(arm.name.as_str())) {
            return Err(whole(format!("two arms are called {:?}; give each its own name", arm.name)));
        }
        for arm in &arms {
            arm.check()?;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, base, seeds: file.seeds, arms })
    }

    /// Trains all arms in `precision`.
    pub fn set_precision(&mut self, precision: Precision) {
        self.base.train.precision = precision.into();
        for arm in &mut self.arms {
            if let Source::Trained(config) = &mut arm.source {
                config.train.precision = precision.into();
            }
        }
    }
}

impl PlannedArm {
    /// Checks that its name can be the name of a folder, and that its config is valid.
    fn check(&self) -> Result<(), SweepError> {
        let fail = |reason: String| Err(SweepError::Arm { name: self.name.clone(), reason });
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(fits) {
            return fail("the name becomes a folder; use letters, digits, '-', '_', '.' and '+'".into());
        }
        match &self.source {
            Source::Trained(config) => config.check().or_else(|error| fail(error.to_string())),
            Source::Existing { .. } => Ok(()),
        }
    }

    /// The config for a seed, if the arm is trained.
    #[must_use]
    pub fn config(&self, seed: u64) -> Option<Config> {
        match &self.source {
            Source::Trained(config) => Some(Config { seed, ..(**config).clone() }),
            Source::Existing { .. } => None,
        }
    }
}

fn of_grid(
    grid: &Grid,
    base: &Config,
    whole: &dyn Fn(String) -> SweepError,
) -> Result<Vec<PlannedArm>, SweepError> {
    if grid.codebook_sizes.is_empty() || grid.quantizers.is_empty() {
        return Err(whole(
            "grid.codebook_sizes or grid.quantizers is empty; give at least one of each".into(),
        ));
    }
    let mut arms = vec![];
    for (series, quantizer) in &grid.quantizers {
        for &codes in &grid.codebook_sizes {
            let name = format!("{series}-{codes}");
            let sized = |quantizer: &QuantizerConfig| -> Result<QuantizerConfig, QuantizerError> {
                quantizer.settings().sized(codes)
            };
            let quantizer = sized(quantizer)
                .map_err(|error| SweepError::Arm { name: name.clone(), reason: error.to_string() })?
                .resolved();
            let config = Config { quantizer, ..base.clone() };
            arms.push(PlannedArm { name, series: series.clone(), source: Source::Trained(Box::new(config)) });
        }
    }
    Ok(arms)
}

fn of_entry(
    entry: ArmEntry,
    base: &Config,
    base_path: &Path,
    common: &[String],
    folder: &Path,
) -> Result<PlannedArm, SweepError> {
    let ArmEntry { name, series, config, set, path, codebook_size } = entry;
    let fail = |reason: String| SweepError::Arm { name: name.clone(), reason };
    if let Some(path) = path {
        if !set.is_empty() || config.is_some() {
            return Err(fail(
                "it has path beside set or config; what is there already cannot be changed".into(),
            ));
        }
        let source = Source::Existing { path: folder.join(path), codebook_size };
        let series = series.unwrap_or_else(|| name.clone());
        return Ok(PlannedArm { name, series, source });
    }
    let start = config.map_or_else(|| base_path.to_owned(), |path| folder.join(path));
    let own = overrides(&set);
    let (config, _) = Config::read(&start, &[common, &own].concat())
        .map_err(|error| fail(error.in_a_sweep().to_string()))?;
    let changes = config.changes(base).map_err(|error| fail(error.to_string()))?;
    let of_all = |change: &&Difference| COMMON.iter().any(|common| change.path.is_in(*common));
    if let Some(change) = changes.iter().find(of_all) {
        return Err(fail(format!(
            "it changes {}, which must be the same for all; move that to the sweep's own set{}",
            change.path,
            if change.path.is(known::SEED) { " of seeds" } else { "" }
        )));
    }
    config.check().map_err(|error| fail(error.to_string()))?;
    let (_, codes) = config.quantizer.settings().codes();
    if let Some(wanted) = codebook_size.filter(|&wanted| wanted != codes) {
        return Err(fail(format!(
            "codebook_size is {wanted}, and its quantizer has {codes} codes; correct one of them"
        )));
    }
    let series = series.unwrap_or_else(|| config.quantizer.kind());
    Ok(PlannedArm { name, series, source: Source::Trained(Box::new(config)) })
}

/// Converts a table of changes to `key=value` arguments. A nested table without a `kind` is a path,
/// not a value: `train.steps = 9` and `train = { steps = 9 }` are the same.
fn overrides(set: &Table) -> Vec<String> {
    fn collect(prefix: &str, table: &Table, into: &mut Vec<String>) {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            match value {
                Value::Table(inner) if !inner.contains_key("kind") => {
                    collect(&format!("{key}."), inner, into)
                }
                value => into.push(format!("{key}={value}")),
            }
        }
    }
    let mut list = vec![];
    collect("", set, &mut list);
    list
}

fn first_twice(seeds: &[u64]) -> Option<u64> {
    let mut seen = HashSet::new();
    seeds.iter().copied().find(|seed| !seen.insert(*seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "[data]\nimage_size = 32\n[quantizer]\nkind = \"fsq\"\nlevels = [8, 5, 5, 5]\n";

    fn plan(sweep: &str) -> Result<Plan, SweepError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("base.toml"), BASE).unwrap();
        std::fs::write(folder.path().join("other.toml"), BASE.replace("32", "64")).unwrap();
        let path = folder.path().join("sweep.toml");
        std::fs::write(&path, format!("base = \"base.toml\"\n{sweep}")).unwrap();
        Plan::read(&path)
    }

    #[test]
    fn a_grid_makes_an_arm_for_each_quantizer_at_each_size() {
        let plan = plan(
            "seeds = [3, 4]\nset = { train.steps = 9, \"train.batch_size\" = 2 }\n[grid]\ncodebook_sizes = [256, 1024]\n\
             [grid.quantizers]\nfsq = { kind = \"fsq\" }\nvq-restart = { kind = \"vq\", restart_threshold = 1.0 }\n",
        )
        .unwrap();
        let names: Vec<_> = plan.arms.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(names, ["fsq-256", "fsq-1024", "vq-restart-256", "vq-restart-1024"]);
        let config = plan.arms[0].config(4).unwrap();
        assert_eq!((config.seed, config.train.steps, config.train.batch_size), (4, 9, 2));
        assert_eq!(config.quantizer.settings().codes(), (1, 240));
        assert_eq!(plan.arms[3].config(3).unwrap().quantizer.settings().codes(), (1, 1024));
        assert_eq!(plan.arms[3].series, "vq-restart");
        assert_eq!(plan.name, "sweep");
    }

    #[test]
    fn arms_change_the_base_and_nothing_else() {
        let plan = plan(
            "[[arms]]\nname = \"as-it-is\"\n[[arms]]\nname = \"vq\"\nset = { quantizer = { kind = \"vq\" } }\n\
             [[arms]]\nname = \"fast\"\nset.optimizer.lr = 0.5\n[[arms]]\nname = \"there\"\npath = \"x.toml\"\n",
        )
        .unwrap();
        let base = &plan.base;
        let changes = |i: usize| {
            let config = plan.arms[i].config(0).unwrap();
            config.changes(base).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(changes(0).is_empty());
        assert!(changes(1).iter().any(|change| change == "quantizer.kind: \"fsq\" -> \"vq\""));
        assert_eq!(changes(2), ["optimizer.lr: 0.001 -> 0.5"]);
        assert!(plan.arms[3].config(0).is_none());
        assert_eq!((plan.arms[0].series.as_str(), plan.arms[1].series.as_str()), ("fsq", "vq"));
    }

    #[test]
    fn mistakes_are_named() {
        let arm = |text: &str| format!("[[arms]]\nname = \"a\"\n{text}\n");
        for (sweep, parts) in [
            (String::new(), &["there are no arms", "[grid]"][..]),
            ("seeds = []\n".to_owned() + &arm(""), &["seeds is empty"]),
            ("seeds = [1, 1]\n".to_owned() + &arm(""), &["seeds has 1 twice"]),
            ("sedes = [1]\n".to_owned() + &arm(""), &["sedes", "did you mean \"seeds\""]),
            (arm("") + &arm(""), &["two arms are called \"a\""]),
            (arm("serie = \"x\""), &["arms", "serie", "series"]),
            (arm("set.train.stepz = 3"), &["arm \"a\"", "train.stepz", "steps"]),
            (arm("set.train.steps = 3"), &["arm \"a\"", "train.steps", "same for all"]),
            (arm("set.train.precision = \"fp32\""), &["train.precision", "same for all"]),
            (arm("set.quantizer = { kind = \"lfq\", bits = 64 }"), &["arm \"a\"", "quantizer.bits is 64"]),
            (arm("set.quantizer.levels = [999999, 999999, 999999, 999999]"), &["arm \"a\"", "2^31"]),
            (arm("set.seed = 3"), &["arm \"a\"", "seed", "same for all"]),
            (arm("set.quantizer.levels = [8, 1]"), &["arm \"a\"", "quantizer.levels", "2 levels or more"]),
            (arm("codebook_size = 1024"), &["arm \"a\"", "codebook_size is 1024", "1000 codes"]),
            (arm("path = \"x\"\nset.train.ema_decay = 0.5"), &["path beside set"]),
            (arm("config = \"other.toml\""), &["arm \"a\"", "data.image_size", "same for all"]),
            ("[[arms]]\nname = \"a/b\"\n".into(), &["a/b", "folder"]),
            (
                "[grid]\ncodebook_sizes = [1000]\nquantizers.fsq.kind = \"fsq\"\n".into(),
                &["fsq-1000", "recommended levels", "1024"],
            ),
            (
                "[grid]\ncodebook_sizes = [1000]\nquantizers.lfq.kind = \"lfq\"\n".into(),
                &["lfq-1000", "power of two"],
            ),
            (
                "[grid]\ncodebook_sizes = [1]\nquantizers.vq.kind = \"vq\"\n".into(),
                &["vq-1", "codebook_size is 1"],
            ),
        ] {
            let error = plan(&sweep).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{sweep}: {error}");
        }
    }
}
