//! The plan of a comparison: configs that can be trained, made from a sweep's file and checked as a
//! whole before anything runs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::file::{ArmEntry, Grid, SweepFile};
use crate::config::{
    Config, ConfigError, Difference, KnownKey, ResolveError, known, overrides_set, read_toml, shipped,
};
use crate::quantizer::{QuantizerConfig, QuantizerError};
use crate::run::{Pick, drop_those_of_config, words_of_validation};
use pixtok_base::{Class, Classified};
use pixtok_images::data;
use pixtok_torch::Precision;

/// A comparison that is ready to run.
#[derive(Debug)]
pub struct Plan {
    /// The name of the sweep's file, without its extension; or the names of the arms.
    pub name: String,
    /// The name of the comparison's folder, if the caller chooses none.
    pub folder: String,
    /// The config from which all arms start, with the changes for all arms and the first seed. It
    /// states how images are prepared for all of them, and which ones are evaluated.
    pub base: Config,
    /// The origin of the base.
    pub recipe: Recipe,
    /// The seeds. Each trained arm is trained with each seed.
    pub seeds: Vec<u64>,
    /// The arms in the order of the file, with those of the grid first.
    pub arms: Vec<PlannedArm>,
    /// What the user should know about how the plan was made, one sentence each.
    pub remarks: Vec<String>,
}

/// What states how the images of a comparison are prepared.
#[derive(Debug)]
pub struct Recipe {
    /// A config, or the folder of a run or a model.
    pub path: PathBuf,
    /// Its config, without the changes of the comparison.
    pub config: Config,
}

/// What the caller of a comparison changes about its trainings and images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Replaced values of a sweep's base, each as `key=value`, after those of its own `set`.
    pub overrides: Vec<String>,
    /// The seeds of a sweep, instead of its own; empty: its own.
    pub seeds: Vec<u64>,
    /// Of a sweep the training images; of tokenizers that are compared as they are, the images on
    /// which they are measured.
    pub data: Option<PathBuf>,
    /// The validation images of a sweep.
    pub val_data: Option<PathBuf>,
    /// The selection from the images of `data`.
    pub pick: Pick,
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
    /// Several things are wrong, each as a sentence with its remedy.
    #[error("{} problems, and nothing was started:{}", .0.len(), listed(.0))]
    Several(Vec<String>),
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

impl Changes {
    /// Changes the images of a sweep's config as `pixtok train` does with the same options.
    fn apply(&self, config: &mut Config) {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        if let Some(path) = &self.data {
            config.data.train = text(path);
            drop_those_of_config(&self.overrides, &mut config.data);
        }
        if let Some(path) = &self.val_data {
            config.data.val = Some(text(path));
            config.data.val_split = None;
        }
        if self.pick.split.is_some() {
            config.data.split.clone_from(&self.pick.split);
        }
        if self.pick.image_column.is_some() {
            config.data.image_column.clone_from(&self.pick.image_column);
        }
    }

    /// Says which validation images are used, if those of the base are not because the training
    /// images were replaced.
    fn remark(&self, before: &data::Config, base: &Config) -> Option<String> {
        let now = &base.data;
        let earlier = before.val.iter().chain(&before.val_split).next();
        let dropped = self.data.is_some() && now.val.is_none() && now.val_split.is_none();
        earlier.filter(|_| dropped).map(|earlier| {
            format!(
                "validation images: {}; those of the base, {earlier}, are not used, since --data replaces its \
                 images (to use them, give --val-data)",
                words_of_validation(base)
            )
        })
    }
}

impl Plan {
    /// Reads a sweep's file, applies `changes`, and checks everything that can be checked without
    /// images and weights.
    ///
    /// # Errors
    /// [`SweepError`], with the arm and the key; [`SweepError::Several`] if several arms cannot be
    /// trained.
    pub fn read(path: &Path, changes: &Changes) -> Result<Self, SweepError> {
        let file: SweepFile = read_toml(path)?;
        let whole = |reason: String| SweepError::Whole { path: path.to_owned(), reason };
        let folder = path.parent().unwrap_or(Path::new(""));
        let seeds = if changes.seeds.is_empty() { file.seeds } else { changes.seeds.clone() };
        let Some(&first) = seeds.first() else {
            return Err(whole("seeds is empty; give one or more, for instance [0, 1]".into()));
        };
        if let Some(seed) = first_twice(&seeds) {
            return Err(whole(format!("seeds has {seed} twice; give each once")));
        }
        if overrides_set(&changes.overrides, known::SEED) {
            return Err(whole("its seeds are not changed with --set, but with --seeds".into()));
        }
        let beside = folder.join(&file.base);
        // A shipped config may be named.
        let base_path =
            if beside.exists() { beside } else { shipped::config(Path::new(&file.base)).unwrap_or(beside) };
        let start = Start {
            base_path: &base_path,
            common: [overrides(&file.set), changes.overrides.clone(), vec![format!("seed={first}")]].concat(),
            changes,
            folder,
        };
        let of_base =
            |error: ConfigError| whole(format!("its base with its set: {}", start.in_the_sweep(error)));
        let (mut base, _) = Config::read(&base_path, &start.common).map_err(of_base)?;
        let before = base.data.clone();
        changes.apply(&mut base);
        base.check().map_err(|source| SweepError::Base { path: base_path.clone(), source })?;
        // As it was written. Only the sweep's changes may make it complete.
        let own = Config::read(&base_path, &[]).map_or_else(|_| base.clone(), |(config, _)| config);
        let mut arms = file.grid.as_ref().map_or(Ok(vec![]), |grid| of_grid(grid, &base, &whole))?;
        let mut wrong = vec![];
        for entry in file.arms {
            match start.of_entry(entry, &base) {
                Ok(arm) => arms.push(arm),
                Err(error) => wrong.push(error),
            }
        }
        if arms.is_empty() && wrong.is_empty() {
            return Err(whole("there are no arms; give [grid] or [[arms]]".into()));
        }
        let mut names = HashSet::new();
        if let Some(arm) = arms.iter().find(|arm| !names.insert(arm.name.as_str())) {
            wrong.push(whole(format!("two arms are called {:?}; give each its own name", arm.name)));
        }
        wrong.extend(arms.iter().filter_map(|arm| arm.check().err()));
        match wrong.len() {
            0 | 1 => wrong.pop().map_or(Ok(()), Err)?,
            _ => return Err(SweepError::Several(wrong.iter().map(ToString::to_string).collect())),
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let remarks = changes.remark(&before, &base).into_iter().collect();
        let recipe = Recipe { path: base_path.clone(), config: own };
        Ok(Self { folder: name.clone(), name, base, recipe, seeds, arms, remarks })
    }

    /// Whether any arm is trained.
    #[must_use]
    pub fn trains(&self) -> bool {
        self.arms.iter().any(|arm| matches!(arm.source, Source::Trained(_)))
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

/// What the configs of a sweep's arms start from.
struct Start<'a> {
    base_path: &'a Path,
    /// The overrides of all arms.
    common: Vec<String>,
    changes: &'a Changes,
    /// The folder of the sweep's file.
    folder: &'a Path,
}

impl Start<'_> {
    /// Reads a config with the changes of all arms, and those of an arm.
    fn read(&self, path: &Path, own: &[String]) -> Result<Config, ConfigError> {
        let (mut config, _) = Config::read(path, &[&self.common[..], own].concat())?;
        self.changes.apply(&mut config);
        Ok(config)
    }

    /// An error of [`Start::read`], as it is named in a sweep.
    fn in_the_sweep(&self, error: ConfigError) -> ConfigError {
        error.in_a_sweep(&self.changes.overrides)
    }

    fn of_entry(&self, entry: ArmEntry, base: &Config) -> Result<PlannedArm, SweepError> {
        let ArmEntry { name, series, config, set, path, codebook_size } = entry;
        let fail = |reason: String| SweepError::Arm { name: name.clone(), reason };
        if let Some(path) = path {
            if !set.is_empty() || config.is_some() {
                return Err(fail(
                    "it has path beside set or config; what is there already cannot be changed".into(),
                ));
            }
            let source = Source::Existing { path: self.folder.join(path), codebook_size };
            let series = series.unwrap_or_else(|| name.clone());
            return Ok(PlannedArm { name, series, source });
        }
        let start = config.map_or_else(|| self.base_path.to_owned(), |path| self.folder.join(path));
        let config = self
            .read(&start, &overrides(&set))
            .map_err(|error| fail(self.in_the_sweep(error).to_string()))?;
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
}

/// A line for each of several problems.
fn listed(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}")).collect()
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
        changed(sweep, &Changes::default())
    }

    fn changed(sweep: &str, changes: &Changes) -> Result<Plan, SweepError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("base.toml"), BASE).unwrap();
        std::fs::write(folder.path().join("other.toml"), BASE.replace("32", "64")).unwrap();
        let path = folder.path().join("sweep.toml");
        std::fs::write(&path, format!("base = \"base.toml\"\n{sweep}")).unwrap();
        Plan::read(&path, changes)
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

    #[test]
    fn changes_are_of_the_base_and_of_all_arms() {
        let changes = Changes {
            overrides: vec!["train.steps=9".into(), "optimizer.lr=0.25".into()],
            seeds: vec![5, 6],
            data: Some("mine".into()),
            pick: Pick { split: Some("first".into()), image_column: None },
            ..Changes::default()
        };
        let sweep = "seeds = [0]\nset.train.steps = 7\nset.data.val = \"theirs\"\n[[arms]]\nname = \"a\"\n\
            [[arms]]\nname = \"b\"\nconfig = \"base.toml\"\nset.optimizer.lr = 0.5\n\
            [grid]\ncodebook_sizes = [256]\nquantizers.vq.kind = \"vq\"\n";
        let plan = changed(sweep, &changes).unwrap();
        assert_eq!(plan.seeds, [5, 6]);
        for (arm, lr) in [("vq-256", 0.25), ("a", 0.25), ("b", 0.5)] {
            let arm = plan.arms.iter().find(|planned| planned.name == arm).unwrap();
            let config = arm.config(6).unwrap();
            assert_eq!((config.seed, config.train.steps, config.optimizer.lr), (6, 9, lr), "{}", arm.name);
            assert_eq!((config.data.train.as_str(), &config.data.val), ("mine", &None), "{}", arm.name);
            assert_eq!(config.data.split.as_deref(), Some("first"));
        }
        assert_eq!(plan.recipe.config.train.steps, 600);
        assert!(plan.remarks[0].contains("those of the base, theirs, are not used"), "{:?}", plan.remarks);
        let val = Changes { val_data: Some("val".into()), ..changes.clone() };
        let plan = changed(sweep, &val).unwrap();
        assert_eq!((plan.base.data.val.as_deref(), plan.remarks.len()), (Some("val"), 0));
        for (overrides, parts) in [
            ("seed=3", &["--seeds"][..]),
            ("train.stepz=3", &["--set train.stepz=3", "train.stepz"]),
            ("train.steps", &["--set train.steps", "there is no '='"]),
        ] {
            let changes = Changes { overrides: vec![overrides.into()], ..Changes::default() };
            let error = changed(sweep, &changes).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{overrides}: {error}");
        }
    }

    #[test]
    fn all_arms_that_are_wrong_are_named_at_once() {
        let sweep = "[[arms]]\nname = \"a\"\nset.seed = 3\n[[arms]]\nname = \"b\"\n\
            [[arms]]\nname = \"c\"\nset.train.stepz = 3\n[[arms]]\nname = \"d/e\"\n";
        let error = plan(sweep).unwrap_err().to_string();
        for part in
            ["3 problems", "  - arm \"a\": it changes seed", "  - arm \"c\": ", "  - arm \"d/e\": the name"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
