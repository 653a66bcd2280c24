//! The configs that come with pixtok. They work by name from any folder: they and their photographs
//! are found in the clone that the program was built from.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::error::ConfigError;
use super::{Config, KnownKey, known, overrides_set};
use pixtok_base::paths::absence;
use pixtok_base::suggest::nearest;

/// The clone that this program was built from.
const CLONE: &str = env!("CARGO_MANIFEST_DIR");
/// Its folder with configs, in which images of the clone may be named.
const CONFIGS: &str = "configs";

/// What a shipped config describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShippedKind {
    /// One run.
    Run,
    /// A comparison.
    Comparison,
}

/// A config that comes with pixtok.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipped {
    /// The name by which it is given.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// The first sentence of its header.
    pub about: String,
}

impl ShippedKind {
    fn folder(self, clone: &Path) -> PathBuf {
        let configs = clone.join(CONFIGS);
        match self {
            Self::Run => configs,
            Self::Comparison => configs.join("compare"),
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Run => Self::Comparison,
            Self::Comparison => Self::Run,
        }
    }

    /// What to do with a config of this kind.
    fn remedy(self, name: &str) -> String {
        match self {
            Self::Run => format!("pixtok has it as the config of one run; for that, pixtok train {name}"),
            Self::Comparison => format!("pixtok has it as a comparison; for that, pixtok compare {name}"),
        }
    }
}

/// The configs of this kind that come with pixtok, by name.
///
/// # Errors
/// [`ConfigError::NoClone`]; [`ConfigError::Unreadable`].
pub fn list(kind: ShippedKind) -> Result<Vec<Shipped>, ConfigError> {
    list_in(kind, Path::new(CLONE))
}

fn list_in(kind: ShippedKind, clone: &Path) -> Result<Vec<Shipped>, ConfigError> {
    let names = names(kind, clone).ok_or_else(|| ConfigError::NoClone { folder: clone.to_owned() })?;
    let read = |name: String| {
        let path = file_of(&name, kind, clone);
        let text = fs::read_to_string(&path).map_err(|error| ConfigError::Unreadable {
            origin: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Shipped { name, path, about: about(&text) })
    };
    names.into_iter().map(read).collect()
}

/// The shipped config of either kind with this name, with or without `.toml`.
///
/// # Errors
/// [`ConfigError::NoClone`]; [`ConfigError::Unreadable`], which suggests the nearest name.
pub fn named(name: &str) -> Result<Shipped, ConfigError> {
    let mut all = list(ShippedKind::Run)?;
    all.extend(list(ShippedKind::Comparison)?);
    let wanted = name.strip_suffix(".toml").unwrap_or(name);
    if let Some(place) = all.iter().position(|shipped| shipped.name == wanted) {
        return Ok(all.swap_remove(place));
    }
    let reason = format!(
        "pixtok has no config of that name; {}",
        suggestion(wanted, all.iter().map(|own| &*own.name))
    );
    Err(ConfigError::Unreadable { origin: name.to_owned(), reason })
}

/// Which of `names` may be meant, and where to find all.
fn suggestion<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(name, names).map_or_else(String::new, |near| format!("did you mean {near:?}? "));
    format!("{near}`pixtok configs` lists its own")
}

/// The file of a run's config that the user gave: a file or folder at this path, or else the
/// shipped config with this name, with or without `.toml`. A path that leads nowhere is returned as
/// it is, and reading it says so.
///
/// # Errors
/// [`ConfigError::Unreadable`] when nothing has this name. It suggests the nearest.
pub fn config(given: &Path) -> Result<PathBuf, ConfigError> {
    find(given, ShippedKind::Run, Path::new(CLONE))
}

/// The same for the file of a comparison.
///
/// # Errors
/// The same as [`config`].
pub fn comparison(given: &Path) -> Result<PathBuf, ConfigError> {
    find(given, ShippedKind::Comparison, Path::new(CLONE))
}

fn find(given: &Path, kind: ShippedKind, clone: &Path) -> Result<PathBuf, ConfigError> {
    // What lies where the command runs comes first.
    if given.exists() || given.is_symlink() {
        return Ok(given.to_owned());
    }
    let nothing = |reason: String| {
        let reason = format!("it {}, and {reason}", absence(given));
        ConfigError::Unreadable { origin: given.display().to_string(), reason }
    };
    let Some(name) = name_of(given) else {
        let own = names(kind, clone).unwrap_or_default();
        let stem = given.file_stem().and_then(|stem| stem.to_str());
        return match stem.filter(|stem| own.iter().any(|name| name == stem)) {
            Some(name) => Err(nothing(format!("pixtok's own config of that name is given as {name}"))),
            None => Ok(given.to_owned()),
        };
    };
    let Some(names) = names(kind, clone) else {
        return Err(nothing(gone(clone)));
    };
    let has = |names: &[String]| names.iter().any(|own| own == name);
    if has(&names) {
        return Ok(file_of(name, kind, clone));
    }
    let other = kind.other();
    Err(nothing(if has(&self::names(other, clone).unwrap_or_default()) {
        other.remedy(name)
    } else {
        format!("pixtok has no config of that name; {}", suggestion(name, names.iter().map(String::as_str)))
    }))
}

/// Where the clone was, for a user whose program outlived it.
pub(super) fn gone(clone: &Path) -> String {
    format!(
        "pixtok's own configs were in {}, the clone that this program was built from, which is gone; give \
         the path of a config, or build pixtok again from a clone",
        clone.display()
    )
}

/// The name in `given` if it is one, and no path: `quickstart-fsq` or `quickstart-fsq.toml`.
fn name_of(given: &Path) -> Option<&str> {
    let mut parts = given.components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else { return None };
    let name = name.to_str()?;
    Some(name.strip_suffix(".toml").unwrap_or(name))
}

/// The names of all shipped configs of a kind, sorted; `None` if their folder is gone.
fn names(kind: ShippedKind, clone: &Path) -> Option<Vec<String>> {
    let files = fs::read_dir(kind.folder(clone)).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let name = |file: std::ffi::OsString| Some(file.to_str()?.strip_suffix(".toml")?.to_owned());
    let mut names: Vec<String> = files.filter_map(name).collect();
    names.sort();
    Some(names)
}

fn file_of(name: &str, kind: ShippedKind, clone: &Path) -> PathBuf {
    kind.folder(clone).join(format!("{name}.toml"))
}

/// The first sentence of a config's header.
fn about(text: &str) -> String {
    let header = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let words = header.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let sentence = words.split_once(". ").map_or(&*words, |(first, _)| first);
    sentence.trim_end_matches('.').to_owned()
}

/// Replaces relative paths of images that a shipped config names and that do not exist where the
/// command runs by those in the clone. Paths that the user gave in `overrides` stay.
pub(super) fn find_images(config: &mut Config, file: &Path, overrides: &[String]) {
    find_images_in(config, file, overrides, Path::new(CLONE));
}

fn find_images_in(config: &mut Config, file: &Path, overrides: &[String], clone: &Path) {
    let (Ok(file), Ok(configs)) = (file.canonicalize(), clone.join(CONFIGS).canonicalize()) else { return };
    if !file.starts_with(configs) {
        return;
    }
    let own: [(KnownKey, Option<&mut String>); 2] =
        [(known::DATA_TRAIN, Some(&mut config.data.train)), (known::DATA_VAL, config.data.val.as_mut())];
    for (key, path) in own {
        let Some(path) = path.filter(|_| !overrides_set(overrides, key)) else { continue };
        let there = clone.join(&**path);
        if Path::new(&**path).is_relative()
            && !Path::new(&**path).exists()
            && there.exists()
            && let Some(text) = there.to_str()
        {
            text.clone_into(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clone() -> tempfile::TempDir {
        let clone = tempfile::tempdir().unwrap();
        let at = |name: &str| clone.path().join(name);
        fs::create_dir_all(at("configs/compare")).unwrap();
        fs::create_dir_all(at("photographs-of-a-test/train")).unwrap();
        let quick = "# The best. It takes a minute.\n#\n# pixtok train quick-fsq\n[data]\n\
                     train = \"photographs-of-a-test/train\"\nval = \"nowhere/val\"\n\
                     [quantizer]\nkind = \"fsq\"\n";
        fs::write(at("configs/quick-fsq.toml"), quick).unwrap();
        fs::write(at("configs/quick-vq.toml"), "# Two lines of\n# one sentence.\nseed = 0\n").unwrap();
        fs::write(at("configs/compare/yard.toml"), "# FSQ at 0.5 bits. And VQ.\n").unwrap();
        fs::write(at("configs/notes.md"), "").unwrap();
        clone
    }

    #[test]
    fn configs_are_found_by_name_and_files_come_first() {
        let clone = clone();
        let find = |given: &str, kind| find(Path::new(given), kind, clone.path());
        let quick = clone.path().join("configs/quick-fsq.toml");
        assert_eq!(find("quick-fsq", ShippedKind::Run), Ok(quick.clone()));
        assert_eq!(find("quick-fsq.toml", ShippedKind::Run), Ok(quick));
        let yard = clone.path().join("configs/compare/yard.toml");
        assert_eq!(find("yard", ShippedKind::Comparison), Ok(yard));
        // Tests run in the repository's root, which has both.
        for here in ["Cargo.toml", "src"] {
            assert_eq!(find(here, ShippedKind::Run), Ok(here.into()));
        }
        // A path is no name; reading it gives the reason.
        for path in ["gone/mine.toml", "/gone/quick", "../mine"] {
            assert_eq!(find(path, ShippedKind::Run), Ok(path.into()));
        }
    }

    #[test]
    fn what_is_not_found_gets_a_remedy() {
        let clone = clone();
        let words = |given: &str, kind| find(Path::new(given), kind, clone.path()).unwrap_err().to_string();
        let misspelt = words("quik-fsq", ShippedKind::Run);
        for part in ["cannot read the config quik-fsq", "current folder", "did you mean \"quick-fsq\"?"] {
            assert!(misspelt.contains(part), "{misspelt}");
        }
        let unlike = words("mine.toml", ShippedKind::Run);
        assert!(!unlike.contains("did you mean") && unlike.contains("`pixtok configs`"), "{unlike}");
        let moved = words("configs-of-old/quick-fsq.toml", ShippedKind::Run);
        assert!(moved.contains("given as quick-fsq"), "{moved}");
        assert!(words("yard", ShippedKind::Run).contains("pixtok compare yard"));
        assert!(words("quick-vq", ShippedKind::Comparison).contains("pixtok train quick-vq"));
        let gone = tempfile::tempdir().unwrap();
        let words = find(Path::new("quick-fsq"), ShippedKind::Run, gone.path()).unwrap_err().to_string();
        let folder = gone.path().to_str().unwrap();
        assert!(words.contains(folder) && words.contains("built from, which is gone"), "{words}");
        assert!(matches!(list_in(ShippedKind::Run, gone.path()), Err(ConfigError::NoClone { .. })));
    }

    #[test]
    fn the_list_has_one_sentence_of_each() {
        let clone = clone();
        let listed = |kind| -> Vec<(String, String)> {
            let list = list_in(kind, clone.path()).unwrap();
            list.into_iter().map(|shipped| (shipped.name, shipped.about)).collect()
        };
        let pair = |name: &str, about: &str| (name.to_owned(), about.to_owned());
        assert_eq!(
            listed(ShippedKind::Run),
            [pair("quick-fsq", "The best"), pair("quick-vq", "Two lines of one sentence")]
        );
        assert_eq!(listed(ShippedKind::Comparison), [pair("yard", "FSQ at 0.5 bits")]);
    }

    #[test]
    fn every_config_of_this_clone_says_what_it_is() {
        for kind in [ShippedKind::Run, ShippedKind::Comparison] {
            let list = list(kind).unwrap();
            assert!(list.len() >= 5, "{list:?}");
            assert!(list.iter().all(|shipped| shipped.about.len() > 20), "{list:?}");
        }
    }

    #[test]
    fn photographs_are_those_of_the_clone_unless_the_user_says_others() {
        let clone = clone();
        let file = clone.path().join("configs/quick-fsq.toml");
        let read = |file: &Path, set: &[&str]| {
            let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
            let (mut config, _) = Config::read(file, &set).unwrap();
            find_images_in(&mut config, file, &set, clone.path());
            config.data.train
        };
        let there = clone.path().join("photographs-of-a-test/train");
        assert_eq!(read(&file, &[]), there.to_str().unwrap());
        assert_eq!(read(&file, &["data.train=photographs-of-a-test"]), "photographs-of-a-test");
        // Tests run in the repository's root, which has this folder too.
        fs::create_dir(clone.path().join("src")).unwrap();
        let here = clone.path().join("configs/here.toml");
        fs::write(&here, "data.train = \"src\"\nquantizer.kind = \"fsq\"\n").unwrap();
        assert_eq!(read(&here, &[]), "src", "what lies where the command runs comes first");
        let mine = clone.path().join("mine.toml");
        fs::copy(&file, &mine).unwrap();
        assert_eq!(read(&mine, &[]), "photographs-of-a-test/train", "a config of the user's own");
        let (mut config, _) = Config::read(&file, &[]).unwrap();
        find_images_in(&mut config, &file, &[], clone.path());
        assert_eq!(config.data.val.as_deref(), Some("nowhere/val"), "it is in neither place");
    }
}
