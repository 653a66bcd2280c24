//! Where the links in a tar lead. A tar stores a file that has several names once, and the other
//! names as links.

use std::collections::HashMap;

use super::DataError;
use super::entries::Raw;
use super::key;
use super::members::Members;

/// Links that are followed one after the other, as in Linux; a loop has no end.
const HOPS: usize = 40;

/// A tar's files and links by their names. Read only where there is a link.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// First byte and length of each file.
    files: HashMap<String, (u64, u64)>,
    /// Where each link leads, if that is in the tar.
    links: HashMap<String, Option<String>>,
}

impl Links {
    /// Reads the headers of a tar from its start. Where it is damaged its names end; whoever reads
    /// it for its files will notice.
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

    /// The first byte and the length of the file that `target` is or leads to.
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

    /// `name` with its first part that is a link replaced: the whole of it, or a folder in which it
    /// lies.
    fn follow(&self, name: &str) -> Option<String> {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        let (end, target) = ends.into_iter().find_map(|end| Some((end, self.links.get(&name[..end])?)))?;
        Some(format!("{}{}", target.as_ref()?, &name[end..]))
    }
}

/// Where the link `name` leads to, from the tar's root; none if that is outside.
pub(super) fn target(link: &Raw, name: &str) -> Option<String> {
    let text = key::readable(link.link.as_deref()?);
    if text.starts_with('/') {
        return None;
    }
    // A hard link is told by the name that the file has in the tar, a symbolic one from where it
    // lies.
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
