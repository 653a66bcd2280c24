//! `metrics.jsonl`: one flat JSON object per line, `{"step":20,"loss/total":0.0123,…}`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::Deserialize;
use serde::ser::{SerializeMap, Serializer};

use super::LoggerError;
use super::append::AppendFile;

/// The open log of scalars.
#[derive(Debug)]
pub(super) struct Rows(AppendFile);

impl Rows {
    /// Opens the log at `path` for appending. Creates it if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, LoggerError> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        file.and_then(|file| AppendFile::new(path, file)).map(Self).map_err(|e| LoggerError::open(path, e))
    }

    /// Appends one row. JSON has no NaN and no infinity, so such a value is written as `null`.
    pub(super) fn write(&mut self, step: u64, values: &[(String, f64)]) -> Result<(), LoggerError> {
        let written = row(step, values).map_err(io::Error::other).and_then(|row| self.0.append(&row));
        written.map_err(|e| LoggerError::write(self.0.path(), e))
    }
}

/// Built by hand and not through a map type: the step comes first, and the values keep their order.
fn row(step: u64, values: &[(String, f64)]) -> serde_json::Result<Vec<u8>> {
    let mut serializer = serde_json::Serializer::new(Vec::new());
    let mut map = serializer.serialize_map(Some(values.len() + 1))?;
    map.serialize_entry("step", &step)?;
    for (name, value) in values {
        map.serialize_entry(name, value)?;
    }
    SerializeMap::end(map)?;
    let mut row = serializer.into_inner();
    row.push(b'\n');
    Ok(row)
}

#[derive(Deserialize)]
struct StepOf {
    step: u64,
}

/// Checks a `.jsonl` file as [`cut_back`] does, without changing it. A missing file is accepted.
///
/// # Errors
/// The same as [`cut_back`].
pub fn check_rows(path: &Path) -> Result<(), LoggerError> {
    whole_rows(path, |_, _| Ok(()))
}

/// Cuts a `.jsonl` file back to a checkpoint: keeps the rows whose `"step"` is at most `step`, and
/// drops an incomplete last line. The file is replaced in one move, so an interruption leaves the
/// old file or the new one. A missing file stays missing.
///
/// # Errors
/// [`LoggerError::Row`] for a line before the last that is not a row with a step (the file is then
/// left as it was), and any failure to read or replace the file.
pub fn cut_back(path: &Path, step: u64) -> Result<(), LoggerError> {
    if !path.exists() {
        return Ok(());
    }
    let temporary = path.with_extension("jsonl.tmp");
    let kept = copy_rows(path, &temporary, step);
    let replaced = kept.and_then(|()| replace(&temporary, path).map_err(|e| LoggerError::write(path, e)));
    if replaced.is_err() {
        // Best effort: the returned error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    replaced
}

fn copy_rows(path: &Path, temporary: &Path, step: u64) -> Result<(), LoggerError> {
    let copy = File::create(temporary).map_err(|e| LoggerError::open(temporary, e))?;
    let mut copy = BufWriter::new(copy);
    whole_rows(path, |line, of| {
        if of > step {
            return Ok(());
        }
        copy.write_all(line).map_err(|e| LoggerError::write(temporary, e))
    })?;
    let copy = copy.into_inner().map_err(|e| LoggerError::write(temporary, e.into_error()))?;
    copy.sync_all().map_err(|e| LoggerError::write(temporary, e))
}

/// Calls `each` with every complete line and its step. Skips an incomplete last line.
fn whole_rows(
    path: &Path,
    mut each: impl FnMut(&[u8], u64) -> Result<(), LoggerError>,
) -> Result<(), LoggerError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| LoggerError::open(path, e))?,
    };
    let mut rows = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if rows.read_until(b'\n', &mut line).map_err(|e| LoggerError::open(path, e))? == 0 {
            break;
        }
        match serde_json::from_slice::<StepOf>(&line) {
            Ok(row) if line.ends_with(b"\n") => each(&line, row.step)?,
            Ok(_) => {}
            Err(source) => {
                // If nothing follows, a crash cut the line off. If something follows, the file was
                // edited.
                if !rows.fill_buf().map_err(|e| LoggerError::open(path, e))?.is_empty() {
                    return Err(LoggerError::Row { path: path.to_path_buf(), line: number, source });
                }
            }
        }
    }
    Ok(())
}

/// Renames the file and makes the rename durable.
fn replace(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::rename(temporary, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(values: &[(&str, f64)]) -> Vec<(String, f64)> {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn a_row_is_flat_and_keeps_its_order() {
        let row = row(20, &named(&[("loss/total", 0.5), ("a", 1e-7), ("b", f64::NAN)])).unwrap();
        assert_eq!(row, b"{\"step\":20,\"loss/total\":0.5,\"a\":1e-7,\"b\":null}\n");
    }

    #[test]
    fn rows_are_appended_to_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        for step in [1, 2] {
            Rows::open(&path).unwrap().write(step, &named(&[("x", 3.0)])).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1,\"x\":3.0}\n{\"step\":2,\"x\":3.0}\n");
    }

    #[test]
    fn cutting_back_keeps_the_steps_up_to_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        cut_back(&path, 5).unwrap();
        assert!(!path.exists(), "a missing file stays missing");
        let rows = "{\"step\":4,\"x\":1}\n{\"step\":6}\n{\"step\":5,\"y\":\"é\"}\n";
        for torn in ["", "{\"st", "{\"step\":5}", "\0\0\0", "{\"x\":1}\n"] {
            fs::write(&path, format!("{rows}{torn}")).unwrap();
            cut_back(&path, 5).unwrap();
            let kept = fs::read_to_string(&path).unwrap();
            assert_eq!(kept, "{\"step\":4,\"x\":1}\n{\"step\":5,\"y\":\"é\"}\n", "with {torn:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary is left");
    }

    #[test]
    fn an_altered_line_in_the_middle_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let altered = "{\"step\":1}\nnot json\n{\"step\":2}\n";
        fs::write(&path, altered).unwrap();
        assert!(matches!(check_rows(&path).unwrap_err(), LoggerError::Row { line: 2, .. }));
        let error = cut_back(&path, 5).unwrap_err();
        assert!(matches!(error, LoggerError::Row { line: 2, .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), altered);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
