//! The names of the small files that describe a set.

use std::path::Path;

use super::FormatKind;
use super::sidecar::SIDECAR;

/// The names in a set's folder.
#[derive(Debug, PartialEq, Eq)]
pub struct SideFiles {
    /// The sidecar, which states what the numbers mean.
    pub sidecar: &'static str,
    /// The vocabulary map.
    pub map: &'static str,
    /// The job that made the set, or that will continue it.
    pub job: &'static str,
}

const JSON: SideFiles = SideFiles { sidecar: SIDECAR, map: "vocab-map.json", job: "job.json" };
/// Names without `.json`, for readers that take every `.json` file for one of theirs.
const PLAIN: SideFiles = SideFiles { sidecar: "tokens.pixtok", map: "vocab-map.pixtok", job: "job.pixtok" };

impl SideFiles {
    /// The names for a new set.
    #[must_use]
    pub fn of(format: FormatKind) -> &'static SideFiles {
        if format.format().claims_json() { &PLAIN } else { &JSON }
    }

    /// The names in `folder`, if it holds a set or a job. Sets of older versions always have the
    /// `.json` names.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Option<&'static SideFiles> {
        [&JSON, &PLAIN]
            .into_iter()
            .find(|names| folder.join(names.sidecar).is_file() || folder.join(names.job).is_file())
    }

    /// The names in `folder`, if it holds a finished set.
    #[must_use]
    pub fn of_finished(folder: &Path) -> Option<&'static SideFiles> {
        [&JSON, &PLAIN].into_iter().find(|names| folder.join(names.sidecar).is_file())
    }

    /// Whether `name` is one of these names.
    #[must_use]
    pub fn have(name: &str) -> bool {
        [&JSON, &PLAIN].iter().any(|names| [names.sidecar, names.map, names.job].contains(&name))
    }

    /// Whether `name` is that of a map.
    #[must_use]
    pub fn is_map(name: &str) -> bool {
        [JSON.map, PLAIN.map].contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_sets_whose_reader_takes_json_for_its_own_have_other_names() {
        for &kind in FormatKind::ALL {
            let SideFiles { sidecar, map, job } = SideFiles::of(kind);
            let plain = kind == FormatKind::Mds;
            assert!([sidecar, map, job].iter().all(|name| name.ends_with(".json") != plain), "{kind}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(SideFiles::in_folder(folder.path()), None);
        fs::write(folder.path().join(PLAIN.job), "").unwrap();
        assert_eq!(SideFiles::in_folder(folder.path()), Some(&PLAIN));
        assert_eq!(SideFiles::of_finished(folder.path()), None);
        fs::write(folder.path().join(PLAIN.sidecar), "").unwrap();
        assert_eq!(SideFiles::of_finished(folder.path()), Some(&PLAIN));
    }
}
