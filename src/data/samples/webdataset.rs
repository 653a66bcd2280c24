//! WebDataset: tars in which adjacent members with the same key are a sample.
//!
//! The key is a member's path up to the first dot of its base name. What follows says what it is: an image by its last
//! part, in any case; `txt` a caption; `cls` the number of a class; `json` an object. Anything else is ignored.

use std::collections::HashSet;
use std::path::PathBuf;
use std::vec;

use serde_json::{Map, Value};

use super::members::{Member, Members};
use super::{DataError, Encoded, Input, Sample, SampleStream, fingerprint, key};
use crate::data::EXTENSIONS;

/// The longest member that is read: the longest image that is decoded.
const MEMBER_LIMIT: u64 = 1 << 31;

/// Tars, in order.
#[derive(Debug)]
pub(super) struct WebDataset {
    shards: Vec<PathBuf>,
    fingerprint: String,
}

impl WebDataset {
    pub(super) fn open(shards: Vec<PathBuf>) -> Result<WebDataset, DataError> {
        Ok(WebDataset { fingerprint: fingerprint(&shards)?, shards })
    }
}

impl Input for WebDataset {
    fn kind(&self) -> &'static str {
        "webdataset"
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        let shards = self.shards.clone().into_iter();
        Ok(Box::new(Stream { shards, shard: None }))
    }
}

struct Stream {
    shards: vec::IntoIter<PathBuf>,
    /// The one being read.
    shard: Option<Shard>,
}

impl SampleStream for Stream {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        loop {
            if let Some(shard) = &mut self.shard {
                if let Some(sample) = shard.next(wanted)? {
                    return Ok(Some(sample));
                }
                self.shard = None;
            }
            let Some(path) = self.shards.next() else { return Ok(None) };
            let members = Members::open(&path)?;
            self.shard = Some(Shard { members, ahead: None, seen: HashSet::new() });
        }
    }
}

/// What a member is to its sample.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    Image,
    Text,
    Label,
    Json,
    Other,
}

impl Role {
    fn of(ending: &str) -> Role {
        let ending = ending.to_ascii_lowercase();
        match ending.as_str() {
            "txt" => Role::Text,
            "cls" => Role::Label,
            "json" => Role::Json,
            _ => {
                let last = ending.rsplit('.').next().unwrap_or_default();
                if EXTENSIONS.contains(&last) { Role::Image } else { Role::Other }
            }
        }
    }
}

/// A member that belongs to a sample.
struct Part {
    key: String,
    role: Role,
    member: Member,
}

/// A tar being read.
struct Shard {
    members: Members,
    /// The first member of the next sample, which showed that the one before is whole.
    ahead: Option<Part>,
    /// The keys so far: 16 bytes for each sample of this tar.
    seen: HashSet<u128>,
}

impl Shard {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        loop {
            let first = match self.ahead.take() {
                Some(part) => part,
                None => match self.next_part()? {
                    Some(part) => part,
                    None => return Ok(None),
                },
            };
            if !self.seen.insert(key::digest(&first.key)) {
                let reason = format!(
                    "{} belongs to {}, which other samples stand after; sort the members by name",
                    first.member.name, first.key
                );
                return Err(DataError::KeysClash { path: self.members.path().to_owned(), reason });
            }
            let key = first.key.clone();
            let mut group = Group { wanted: wanted(&key), ..Group::default() };
            let mut current = Some(first);
            while let Some(part) = current {
                if part.key != key {
                    self.ahead = Some(part);
                    break;
                }
                group.add(part, &mut self.members)?;
                current = self.next_part()?;
            }
            self.members.last_whole = Some(key.clone());
            if group.wanted {
                return Ok(Some(group.into_sample(key)));
            }
        }
    }

    /// The next member that has a key and an ending.
    fn next_part(&mut self) -> Result<Option<Part>, DataError> {
        while let Some(member) = self.members.next()? {
            let (folders, base) = key::split(&member.name);
            if let Some((stem, ending)) = base.split_once('.') {
                let (key, role) = (format!("{folders}{stem}"), Role::of(ending));
                return Ok(Some(Part { key, role, member }));
            }
        }
        Ok(None)
    }
}

/// The members of one key, as far as they are read.
#[derive(Default)]
struct Group {
    wanted: bool,
    /// The roles that are taken, and by whom.
    taken: Vec<(Role, String)>,
    image: Option<Vec<u8>>,
    label: Option<i64>,
    text: Option<String>,
    json: Option<Map<String, Value>>,
    /// The first thing that is wrong with the sample.
    fault: Option<String>,
}

impl Group {
    fn add(&mut self, part: Part, members: &mut Members) -> Result<(), DataError> {
        let Part { key, role, member } = part;
        members.check(&member)?;
        if role == Role::Other {
            return Ok(());
        }
        if let Some((_, other)) = self.taken.iter().find(|(taken, _)| *taken == role) {
            let what = if role == Role::Image { "images" } else { "parts of one kind" };
            let reason = format!(
                "{other} and {} are two {what} of {key}, since a key ends at the first dot; rename one of them",
                member.name
            );
            return Err(DataError::KeysClash { path: members.path().to_owned(), reason });
        }
        self.taken.push((role, member.name.clone()));
        if !self.wanted {
            return Ok(());
        }
        if member.size > MEMBER_LIMIT {
            self.blame(format!("a member has more bytes than the limit of {MEMBER_LIMIT}"));
            return Ok(());
        }
        let bytes = members.read(&member)?;
        if let Err(reason) = self.take(role, bytes) {
            self.blame(reason);
        }
        Ok(())
    }

    fn blame(&mut self, reason: String) {
        self.fault.get_or_insert(reason);
    }

    fn take(&mut self, role: Role, bytes: Vec<u8>) -> Result<(), String> {
        let text = |bytes| String::from_utf8(bytes).map_err(|_| "the text is not UTF-8".to_owned());
        match role {
            Role::Image => self.image = Some(bytes),
            Role::Text => {
                let mut text = text(bytes)?;
                text.truncate(text.trim_end_matches(['\r', '\n']).len());
                self.text = Some(text);
            }
            Role::Label => {
                let text = text(bytes)?;
                let label = text.trim().parse().map_err(|_| "the class is no 64-bit integer".to_owned())?;
                self.label = Some(label);
            }
            Role::Json => match serde_json::from_slice(&bytes) {
                Ok(Value::Object(object)) => self.json = Some(object),
                Ok(_) => return Err("the JSON is no object".to_owned()),
                Err(error) => return Err(format!("broken JSON: {error}")),
            },
            Role::Other => {}
        }
        Ok(())
    }

    fn into_sample(self, key: String) -> Sample {
        let image = match (self.fault, self.image) {
            (Some(reason), _) => Err(reason),
            (None, Some(bytes)) => Ok(Encoded::Bytes(bytes)),
            (None, None) => Err(format!("no image member; one ends in {}", EXTENSIONS.join(", "))),
        };
        Sample { key, image, label: self.label, text: self.text, json: self.json }
    }
}

#[cfg(test)]
mod tests;
