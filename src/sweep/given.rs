//! The plan of a comparison that trains nothing: tokenizers as they are given, measured alike.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::Device;

use super::plan::{Changes, Recipe};
use super::problems::Problems;
use super::subject::Subject;
use super::{Plan, PlannedArm, Source};
use crate::config::{Config, shipped};
use crate::run::{Found, ModelChoice, Run, Tell};
use pixtok_base::Misuse;
use pixtok_base::paths::absence;

/// The most letters of the names of all arms together that name the comparison.
const MOST_LETTERS: usize = 80;

/// Plans the comparison of the tokenizers at `paths`. `protocol` states how images are prepared, or
/// else the first run among them does.
///
/// # Errors
/// [`Misuse`]: what cannot be compared, options that only a sweep has, or no protocol.
pub(super) fn plan(paths: &[PathBuf], changes: &Changes, protocol: Option<&Path>) -> Result<Plan> {
    let mut problems = Problems::default();
    without_a_sweeps(changes, &mut problems);
    let mut seen = HashSet::new();
    for path in paths {
        // The name of a shipped config is recognised, to say what it is.
        let named = [shipped::config(path), shipped::comparison(path)].into_iter().flatten();
        let file = named.into_iter().find(|file| file.exists());
        let subject = problems.keep(Subject::at(file.as_deref().unwrap_or(path)));
        if let Some(words) = subject.and_then(|subject| subject.is_no_tokenizer(path)) {
            problems.keep(Err::<(), _>(Misuse(words)));
        }
        if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            let words = format!("{} is given twice; give each tokenizer once", path.display());
            problems.keep(Err::<(), _>(Misuse(words)));
        }
    }
    problems.finish(None)?;
    let recipe = recipe(paths, protocol)?;
    let mut base = recipe.config.clone();
    if let Some(path) = &changes.data {
        // All images that are given, and only those.
        base.data.val = Some(path.to_string_lossy().into_owned());
        base.data.val_split.clone_from(&changes.pick.split);
        base.data.image_column.clone_from(&changes.pick.image_column);
        base.data.split = None;
        base.eval.max_images = 0;
        // They are images of the protocol.
        base.eval.samples.clear();
    }
    base.check().with_context(|| format!("{} cannot be the protocol", recipe.path.display()))?;
    let names = names(paths);
    let name = name_of(&names);
    let arms = names.into_iter().zip(paths).map(|(name, path)| PlannedArm {
        series: name.clone(),
        name,
        source: Source::Existing { path: path.clone(), codebook_size: None },
    });
    Ok(Plan {
        folder: format!("compared-{}", name.replace(' ', "-")),
        name,
        seeds: vec![base.seed],
        base,
        arms: arms.collect(),
        recipe,
        remarks: vec![],
    })
}

/// Refuses what only a sweep has.
fn without_a_sweeps(changes: &Changes, problems: &mut Problems) {
    let only = "belongs to a sweep, and these tokenizers are compared as they are";
    let mut refuse = |words: String| problems.keep(Err::<(), _>(Misuse(words)));
    if let Some(path) = &changes.val_data {
        let path = path.display();
        refuse(format!("--val-data {only}; give the images to measure them on with --data {path}"));
    }
    if let Some(first) = changes.overrides.first() {
        refuse(format!("--set {first} {only}; to prepare images differently, give a config with --protocol"));
    }
    if !changes.seeds.is_empty() {
        refuse(format!("--seeds {only}; leave it out"));
    }
}

/// The config that states how images are prepared, and which ones without `--data`.
fn recipe(paths: &[PathBuf], protocol: Option<&Path>) -> Result<Recipe> {
    if let Some(path) = protocol {
        // A shipped config may be named.
        let path = &shipped::config(path).map_err(|error| Misuse(format!("--protocol: {error}")))?;
        if !path.exists() {
            let (shown, absence) = (path.display(), absence(path));
            let remedy = "give a training config or a run folder";
            return Err(Misuse(format!("--protocol is {shown}, which {absence}; {remedy}")).into());
        }
        let subject = Subject::at(path)?;
        if let Some(words) = subject.is_no_protocol(path) {
            return Err(Misuse(words).into());
        }
        let config = match subject {
            Subject::Folder => Run::find(path)?.config()?,
            _ => Config::read(path, &[])?.0,
        };
        return Ok(Recipe { path: path.to_owned(), config });
    }
    let Some(run) = paths.iter().find(|path| Run::is_one(path)) else {
        // A folder that is neither a run nor reconstructions is the likelier mistake.
        for path in paths.iter().filter(|path| path.is_dir()) {
            Found::open(path, ModelChoice::default(), Device::Cpu, Tell::to(&|_| ()))?;
        }
        return Err(Misuse(
            "no run or model folder is among them, so nothing states how images are prepared; give a config with \
             --protocol, and the images with --data if that config's own validation images are not meant"
                .into(),
        )
        .into());
    };
    Ok(Recipe { path: run.clone(), config: Run::find(run)?.config()? })
}

/// A name for each path: that of its folder or file, with as many of the folders around it as are
/// needed to tell them apart. An adapter keeps its ending only if a folder is called like it.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let folders: Vec<Vec<String>> =
        paths.iter().filter(|path| path.is_dir()).map(|path| parts(path, false)).collect();
    let of_path = |path: &PathBuf| {
        let parts = |with_ending| parts(path, with_ending);
        let clashes = !path.is_dir() && folders.iter().any(|other| other[0] == parts(false)[0]);
        parts(clashes)
    };
    let parts: Vec<Vec<String>> = paths.iter().map(of_path).collect();
    let mut depths = vec![1; paths.len()];
    let name = |at: usize, depth: usize| {
        let mut own: Vec<&str> = parts[at].iter().take(depth).map(String::as_str).collect();
        own.reverse();
        own.join("-")
    };
    loop {
        let names: Vec<String> = depths.iter().enumerate().map(|(at, &depth)| name(at, depth)).collect();
        let clashes = |at: usize| {
            let others = (0..names.len()).filter(|&other| names[other] == names[at]);
            others.into_iter().any(|other| parts[other] != parts[at]) && depths[at] < parts[at].len()
        };
        let deeper: Vec<usize> = (0..names.len()).filter(|&at| clashes(at)).collect();
        if deeper.is_empty() {
            return numbered(names);
        }
        deeper.into_iter().for_each(|at| depths[at] += 1);
    }
}

/// The names on the way to a path, the last one first, as far as a folder can be called so.
fn parts(path: &Path, with_ending: bool) -> Vec<String> {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let whole = if with_ending || whole.is_dir() { whole } else { whole.with_extension("") };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    let names = whole.iter().rev().map(|part| {
        let part = part.to_string_lossy();
        let name: String = part.chars().map(|c| if fits(c) { c } else { '-' }).collect();
        name.trim_matches(['.', '-']).to_owned()
    });
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() { vec!["arm".to_owned()] } else { names }
}

/// Gives the second and later arms of one name a number.
fn numbered(names: Vec<String>) -> Vec<String> {
    let given: HashSet<String> = names.iter().cloned().collect();
    let mut used: HashSet<String> = HashSet::new();
    let unique = |name: String| {
        let free = |candidate: &String| !used.contains(candidate);
        let numbers = (2_usize..).map(|number| format!("{name}-{number}"));
        let mut others = numbers.filter(|candidate| !given.contains(candidate));
        let unique = if free(&name) { name.clone() } else { others.find(free).unwrap_or_default() };
        used.insert(unique.clone());
        unique
    };
    names.into_iter().map(unique).collect()
}

/// The name of a comparison of these arms.
fn name_of(names: &[String]) -> String {
    let mut letters = 0;
    let fits = |name: &&String| {
        letters += name.len();
        letters <= MOST_LETTERS
    };
    let shown: Vec<&str> = names.iter().take_while(fits).map(String::as_str).collect();
    let shown = if shown.is_empty() { vec!["many"] } else { shown };
    let more = names.len().saturating_sub(shown.len());
    let words = shown.join(" vs ");
    if more == 0 { words } else { format!("{words} and {more} more") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONFIG: &str = "[data]\nimage_size = [32, 48]\nval = \"VAL\"\n[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]\n\
        [eval]\nbatch_size = 7\nmax_images = 9\n";

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            for (file, text) in [
                ("one/run/config.toml", CONFIG),
                ("two/run/config.toml", CONFIG),
                ("three/config.toml", CONFIG),
                ("plain.toml", CONFIG),
                ("sweep.toml", "base = \"plain.toml\"\n[[arms]]\nname = \"a\"\n"),
                ("cosmos.toml", "encoder = \"e\"\ndecoder = \"d\"\ncodebook_size = 9\n"),
                ("made here/a.png", ""),
            ] {
                let path = place.at(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            place
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn plan(&self, names: &[&str], changes: &Changes, protocol: Option<&str>) -> Result<Plan, String> {
            let paths: Vec<PathBuf> = names.iter().map(|name| self.at(name)).collect();
            let protocol = protocol.map(|name| self.at(name));
            plan(&paths, changes, protocol.as_deref()).map_err(|error| format!("{error:#}"))
        }
    }

    #[test]
    fn tokenizers_are_measured_as_the_first_run_says() {
        let place = Place::new();
        let given = ["made here", "one/run", "cosmos.toml", "two/run"];
        let plan = place.plan(&given, &Changes::default(), None).unwrap();
        let names: Vec<&str> = plan.arms.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(names, ["made-here", "one-run", "cosmos", "two-run"]);
        assert!(plan.arms.iter().all(|arm| matches!(arm.source, Source::Existing { .. })));
        assert_eq!(plan.name, "made-here vs one-run vs cosmos vs two-run");
        assert_eq!(plan.folder, "compared-made-here-vs-one-run-vs-cosmos-vs-two-run");
        assert_eq!(plan.base.image_size(), (32, 48));
        assert_eq!((plan.base.eval.batch_size, plan.base.eval.max_images), (7, 9));
        assert_eq!(plan.recipe.path, place.at("one/run"));
        let data = Changes { data: Some("x".into()), ..Changes::default() };
        let plan = place.plan(&given, &data, None).unwrap();
        assert_eq!((plan.base.data.val.as_deref(), plan.base.eval.max_images), (Some("x"), 0));
        // A config, or a run folder, that is named.
        for protocol in ["plain.toml", "three"] {
            let plan = place.plan(&["made here", "cosmos.toml"], &data, Some(protocol)).unwrap();
            assert_eq!((plan.base.image_size(), plan.recipe.path), ((32, 48), place.at(protocol)));
        }
    }

    #[test]
    fn mistakes_are_named_with_the_right_option() {
        let place = Place::new();
        let changed = |change: fn(&mut Changes)| {
            let mut changes = Changes::default();
            change(&mut changes);
            changes
        };
        let none = Changes::default();
        let both = &["one/run", "two/run"][..];
        for (names, changes, protocol, parts) in [
            (
                both,
                changed(|changes| changes.val_data = Some("v".into())),
                None,
                &["--val-data", "--data v"][..],
            ),
            (both, changed(|changes| changes.seeds = vec![1]), None, &["--seeds", "leave it out"]),
            (
                both,
                changed(|changes| (changes.seeds, changes.val_data) = (vec![1], Some("v".into()))),
                None,
                &["2 problems", "--seeds", "--val-data"],
            ),
            (&["one"], none.clone(), None, &["it holds runs", "run"]),
            (
                both,
                changed(|changes| changes.overrides = vec!["data.resize=9".into()]),
                None,
                &["--set data.resize=9", "--protocol"],
            ),
            (&["cosmos.toml", "made here"], none.clone(), None, &["no run or model folder", "--protocol"]),
            (both, none.clone(), Some("sweep.toml"), &["--protocol", "file of a sweep"]),
            (both, none.clone(), Some("gone.toml"), &["--protocol is", "does not exist"]),
            (&["one/run", "plain.toml"], none.clone(), None, &["training config", "`pixtok train "]),
            (&["one/run", "one/../one/run"], none.clone(), None, &["given twice"]),
            (
                &["sweep.toml", "gone", "plain.toml"],
                none.clone(),
                None,
                &["3 problems", "is a sweep", "gone does not exist", "training config"],
            ),
        ] {
            let error = place.plan(names, &changes, protocol).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
        }
        let shipped = ["quickstart-fsq", "fsq-vs-vq", "no-such-config"].map(PathBuf::from);
        let error = super::plan(&shipped, &none, None).unwrap_err().to_string();
        let parts =
            ["quickstart-fsq is a training config", "fsq-vs-vq is a sweep", "no-such-config does not"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        let error = super::plan(&[place.at("made here")], &none, Some(&shipped[1])).unwrap_err().to_string();
        assert!(error.starts_with("--protocol: ") && error.contains("pixtok compare fsq-vs-vq"), "{error}");
    }

    #[test]
    fn names_are_unique_and_short() {
        let place = Place::new();
        for folder in ["a/x/run", "b/x/run", "c/run", "d/cosmos"] {
            fs::create_dir_all(place.at(folder)).unwrap();
        }
        fs::write(place.at("d/cosmos.toml"), "").unwrap();
        let named = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| place.at(name)).collect();
            super::names(&paths)
        };
        assert_eq!(named(&["a/x/run", "b/x/run", "c/run"]), ["a-x-run", "b-x-run", "c-run"]);
        assert_eq!(named(&["d/cosmos", "d/cosmos.toml"]), ["cosmos", "cosmos.toml"]);
        assert_eq!(numbered(["a", "a-2", "a"].map(str::to_owned).to_vec()), ["a", "a-2", "a-3"]);
        let long = vec!["n".repeat(50); 3];
        assert_eq!(name_of(&long), format!("{} and 2 more", long[0]));
        assert_eq!(name_of(&["n".repeat(90)]), "many");
    }
}
