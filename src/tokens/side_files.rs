//! The small files of a set that say what it is, by their names.

use std::path::Path;

use super::FormatKind;
use super::sidecar::SIDECAR;

/// How they are called in a set's folder.
#[derive(Debug, PartialEq, Eq)]
pub struct SideFiles {
    /// What the numbers are.
    pub sidecar: &'static str,
    /// The vocabulary's map.
    pub map: &'static str,
    /// The job that made the set, or is to go on with it.
    pub job: &'static str,
}

const JSON: SideFiles = SideFiles { sidecar: SIDECAR, map: "vocab-map.json", job: "job.json" };
/// The same content, where a reader takes every file that ends in `.json` for its own.
const PLAIN: SideFiles = SideFiles { sidecar: "tokens.pixtok", map: "vocab-map.pixtok", job: "job.pixtok" };

impl SideFiles {
    /// Of a new set. MosaicML's `merge_index` takes each file that ends in `.json` for an index.
    #[must_use]
    pub fn of(format: FormatKind) -> &'static SideFiles {
        if format == FormatKind::Mds { &PLAIN } else { &JSON }
    }

    /// Of the set or job in `folder`, if there is one: sets of older versions all have the first
    /// names.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Option<&'static SideFiles> {
        [&JSON, &PLAIN]
            .into_iter()
            .find(|names| folder.join(names.sidecar).is_file() || folder.join(names.job).is_file())
    }

    /// Of the finished set in `folder`, if there is one.
    #[must_use]
    pub fn of_finished(folder: &Path) -> Option<&'static SideFiles> {
        [&JSON, &PLAIN].into_iter().find(|names| folder.join(names.sidecar).is_file())
    }

    /// Whether it is the name of one.
    #[must_use]
    pub fn have(name: &str) -> bool {
        [&JSON, &PLAIN].iter().any(|names| [names.sidecar, names.map, names.job].contains(&name))
    }

    /// Whether it is the name of a map.
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
        for kind in FormatKind::ALL {
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
