//! What a path names, as far as its kind and the keys of a TOML file show.

use std::path::Path;

use anyhow::Result;
use toml::Table;

use crate::config::read_toml;
use pixtok_base::Misuse;
use pixtok_base::paths::absence;

/// What can be given to a comparison, rightly or by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The file of a sweep.
    Sweep,
    /// A training config.
    Config,
    /// The adapter of a TorchScript pair.
    Adapter,
    /// A folder: a run, a model, reconstructions, or something else.
    Folder,
}

/// Keys of which a file of each kind has at least one, and no file of another kind has any.
const KEYS: [(Subject, &[&str]); 3] = [
    (Subject::Sweep, &["base", "arms", "grid", "seeds"]),
    (Subject::Adapter, &["encoder", "decoder", "downsample"]),
    (Subject::Config, &["quantizer", "model", "data", "train", "optimizer", "loss", "eval", "adversarial"]),
];

/// What a comparison takes, for messages.
const WANTED: &str = "give the file of a sweep; or run folders, model folders, adapters (.toml) and folders of \
                      reconstructions";

impl Subject {
    /// Recognises what is at the path.
    ///
    /// # Errors
    /// [`Misuse`] says what else it is.
    pub fn at(path: &Path) -> Result<Self> {
        let shown = path.display();
        if !path.exists() {
            return Err(Misuse(format!("{shown} {}; {WANTED}", absence(path))).into());
        }
        if path.is_dir() {
            return Ok(Self::Folder);
        }
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(Misuse(format!("{shown} is neither a folder nor a TOML file; {WANTED}")).into());
        }
        let table: Table = read_toml(path)?;
        Self::with_keys(&table).ok_or_else(|| {
            let keys = table.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let keys = if keys.is_empty() { "no keys".to_owned() } else { format!("the keys {keys}") };
            Misuse(format!(
                "{shown} has {keys}: it is not a sweep (base, arms), an adapter (encoder, decoder) or a config \
                 (quantizer); {WANTED}"
            ))
            .into()
        })
    }

    /// Recognises a TOML file by its keys.
    fn with_keys(table: &Table) -> Option<Self> {
        KEYS.iter().find(|(_, keys)| keys.iter().any(|key| table.contains_key(*key))).map(|(kind, _)| *kind)
    }

    /// Why a tokenizer cannot be this, with the remedy; `None` for what may be one.
    pub fn is_no_tokenizer(self, path: &Path) -> Option<String> {
        let shown = path.display();
        match self {
            Self::Sweep => Some(format!(
                "{shown} is a sweep, which trains its own arms and is compared by itself; leave the others out, or add \
                 them to it as arms with path = \"…\""
            )),
            Self::Config => Some(format!(
                "{shown} is a training config, not a tokenizer; train it with `pixtok train {shown}` and give its run \
                 folder, or give it as --protocol if it is to state how images are prepared"
            )),
            Self::Adapter | Self::Folder => None,
        }
    }

    /// Why a protocol cannot be this, with the remedy; `None` for what may be one.
    pub fn is_no_protocol(self, path: &Path) -> Option<String> {
        let what = match self {
            Self::Sweep => "the file of a sweep",
            Self::Adapter => "an adapter",
            Self::Config | Self::Folder => return None,
        };
        let shown = path.display();
        Some(format!("--protocol is {shown}, which is {what}; give a training config or a run folder"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_told_apart_by_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        let at = |text: &str| {
            fs::write(&path, text).unwrap();
            Subject::at(&path)
        };
        assert_eq!(at("base = \"b.toml\"\nset.train.steps = 3").unwrap(), Subject::Sweep);
        assert_eq!(at("[[arms]]\nname = \"a\"").unwrap(), Subject::Sweep, "the base was forgotten");
        assert_eq!(at("encoder = \"e.jit\"\ncodebook_size = 9").unwrap(), Subject::Adapter);
        assert_eq!(at("[quantizer]\nkind = \"fsq\"\n[model]\nkind = \"cnn\"").unwrap(), Subject::Config);
        assert_eq!(Subject::at(folder.path()).unwrap(), Subject::Folder);
        for (text, words) in
            [("", "no keys"), ("a = 1\nb = 2", "the keys a, b: it is not a sweep (base, arms)")]
        {
            let error = at(text).unwrap_err();
            assert!(error.is::<Misuse>() && error.to_string().contains(words), "{error}");
        }
        let picture = folder.path().join("x.png");
        fs::write(&picture, "").unwrap();
        let error = Subject::at(&picture).unwrap_err().to_string();
        assert!(error.contains("neither a folder nor a TOML file"), "{error}");
        let error = Subject::at(&folder.path().join("gone")).unwrap_err().to_string();
        assert!(error.contains("gone does not exist; give the file of a sweep"), "{error}");
    }

    #[test]
    fn what_was_given_by_mistake_is_named_with_the_remedy() {
        let path = Path::new("a.toml");
        let words = Subject::Config.is_no_tokenizer(path).unwrap();
        assert!(words.contains("`pixtok train a.toml`") && words.contains("--protocol"), "{words}");
        let words = Subject::Sweep.is_no_tokenizer(path).unwrap();
        assert!(words.contains("is a sweep") && words.contains("path = "), "{words}");
        assert_eq!(Subject::Adapter.is_no_tokenizer(path), None);
        assert!(Subject::Adapter.is_no_protocol(path).unwrap().contains("which is an adapter"));
        assert_eq!(Subject::Folder.is_no_protocol(path), None);
    }
}
