//! Samples without an image, and their list in a finished set.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ExportError;
use super::error::io_error;
use pixtok_base::Action;

/// The file name of the list.
pub(super) const SKIPPED: &str = "skipped.jsonl";

/// A sample that gave no image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its key.
    pub key: String,
    /// The reason.
    pub reason: String,
    /// The file that was looked for, in full, if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Skipped {
    /// The image, the reason and the file, for messages.
    #[must_use]
    pub fn in_words(&self) -> String {
        let path = self.path.as_ref().map_or_else(String::new, |path| format!(" ({path})"));
        format!("{}: {}{path}", self.key, self.reason)
    }
}

/// The text of the list.
pub(super) fn lines(skipped: &[&Skipped]) -> Result<Vec<u8>, ExportError> {
    let mut text = vec![];
    for sample in skipped {
        serde_json::to_writer(&mut text, sample)
            .map_err(|error| io_error(Action::Write, Path::new(SKIPPED))(error.into()))?;
        text.push(b'\n');
    }
    Ok(text)
}

/// The samples that a finished set in `folder` lists as skipped.
pub(super) fn read_skipped(folder: &Path) -> Result<Vec<Skipped>, ExportError> {
    let path = folder.join(SKIPPED);
    if !path.exists() {
        return Ok(vec![]);
    }
    let text = fs::read_to_string(&path).map_err(io_error(Action::Read, &path))?;
    let parse = |line| {
        serde_json::from_str(line).map_err(|error| io_error(Action::Read, &path)(io::Error::from(error)))
    };
    text.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_in_full() {
        let reason = "cannot find it".to_owned();
        let plain = Skipped { key: "a".into(), reason, path: None };
        assert_eq!(plain.in_words(), "a: cannot find it");
        let missing = Skipped { path: Some("/data/a.png".into()), ..plain.clone() };
        assert_eq!(missing.in_words(), "a: cannot find it (/data/a.png)");
        let text = lines(&[&plain, &missing]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.matches("\"path\"").count(), 1, "{text}");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SKIPPED), text).unwrap();
        assert_eq!(read_skipped(folder.path()).unwrap(), [plain, missing]);
    }
}
