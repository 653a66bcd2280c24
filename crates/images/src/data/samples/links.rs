//! Resolves the links in a tar. A tar stores a file with several names once, and its other names as
//! links.

use std::collections::HashMap;

use super::DataError;
use super::entries::Raw;
use super::key;
use super::members::Members;

/// How many links are followed in a row, as in Linux; this also ends loops.
const HOPS: usize = 40;

/// The files and links of a tar by name. Built only once a link is met.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The first byte and length of each file.
    files: HashMap<String, (u64, u64)>,
    /// The target of each link; none if it lies outside the tar.
    links: HashMap<String, Option<String>>,
}

impl Links {
    /// Reads the headers of a tar from its start. At damage the list ends; reading the tar for its
    /// files will report the damage.
    pub(super) fn read(mut members: Members) -> Result<Links, DataError> {
        let mut found = Links::default();
        while let Ok(Some(raw)) = members.next_raw() {
            let Ok(name) = key::normalised(&key::readable(&raw.name)) else { continue };
            if raw.regular {
                found.files.insert(name, (raw.start, raw.size));
            } else if raw.link.is_some() {
                let target = target(&raw, &name);
                found.links.insert(name, target);
            }
        }
        Ok(found)
    }

    /// The first byte and length of the file that `target` names or leads to.
    pub(super) fn resolve(&self, target: &str) -> Option<(u64, u64)> {
        let mut at = target.to_owned();
        for _ in 0..HOPS {
            if let Some(&file) = self.files.get(&at) {
                return Some(file);
            }
            at = self.follow(&at)?;
        }
        None
    }

    /// `name` with its first link replaced by that link's target. The link may be the whole name or
    /// a folder in it.
    fn follow(&self, name: &str) -> Option<String> {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        let (end, target) = ends.into_iter().find_map(|end| Some((end, self.links.get(&name[..end])?)))?;
        Some(format!("{}{}", target.as_ref()?, &name[end..]))
    }
}

/// The target of the link `name`, as a path from the tar's root; none if it is outside the tar.
pub(super) fn target(link: &Raw, name: &str) -> Option<String> {
    let text = key::readable(link.link.as_deref()?);
    if text.starts_with('/') {
        return None;
    }
    // A hard link gives the file's name in the tar; a symbolic link is relative to its own folder.
    let folder = if link.symbolic { key::split(name).0 } else { "" };
    let mut parts = vec![];
    for part in folder.split('/').chain(text.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
