//! WebDataset: tars in which adjacent members with the same key are a sample.
//!
//! The key is a member's path up to the first dot of its base name. What follows says what it is: an image by its last
//! part, in any case; `txt` a caption; `cls` the number of a class; `json` an object. Anything else is ignored.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::vec;

use rayon::prelude::*;
use serde_json::Value;

use super::members::{Member, Members};
use super::{DataError, Encoded, Input, Sample, SampleStream, fingerprint, key};
use crate::data::EXTENSIONS;
use crate::data::omitted::OmittedMembers;

/// The longest member that is read: the longest image that is decoded.
const MEMBER_LIMIT: u64 = 1 << 31;
/// The longest class that is read when only its place is looked for; a number is shorter.
const LABEL_LIMIT: u64 = 64;
/// Tars whose keys are in memory at a time.
const TARS_AT_A_TIME: usize = 64;

/// Tars, in order.
#[derive(Debug)]
pub(super) struct WebDataset {
    shards: Vec<PathBuf>,
    fingerprint: String,
    /// Whether keys begin with the name of their tar.
    prefixed: bool,
}

impl WebDataset {
    pub(super) fn open(shards: Vec<PathBuf>) -> Result<WebDataset, DataError> {
        Ok(WebDataset { fingerprint: fingerprint(&shards)?, shards, prefixed: false })
    }
}

/// Opens a tar, whose keys begin with its name if they are to.
fn open_shard(path: &Path, prefixed: bool) -> Result<Shard, DataError> {
    let mut shard = Shard::open(path)?;
    if prefixed {
        let stem = key::readable(path.file_stem().unwrap_or_default().as_encoded_bytes());
        let stem = key::normalised(&stem)
            .map_err(|reason| key::refusal(path, "the file's name".to_owned(), &stem, reason))?;
        shard.prefix = stem + "/";
    }
    Ok(shard)
}

/// All keys of a tar, and what is passed over in it.
fn keys(path: &Path, prefixed: bool) -> Result<(Vec<String>, OmittedMembers), DataError> {
    let (mut shard, mut keys) = (open_shard(path, prefixed)?, vec![]);
    let mut keep = |key: &str| {
        keys.push(key.to_owned());
        false
    };
    while shard.next(&mut keep)?.is_some() {}
    Ok((keys, shard.omitted()))
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
        Ok(Box::new(Stream { shards, shard: None, prefixed: self.prefixed }))
    }

    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<Vec<String>, DataError> {
        let mut omitted = OmittedMembers::default();
        for tars in self.shards.chunks(TARS_AT_A_TIME) {
            let scans: Vec<Result<_, DataError>> =
                tars.par_iter().map(|tar| keys(tar, self.prefixed)).collect();
            for (tar, scan) in tars.iter().zip(scans) {
                let (keys, own) = scan?;
                omitted.append(own);
                keys.iter().for_each(|key| each(tar, key));
            }
        }
        Ok(omitted.words())
    }

    fn prefix_keys(&mut self) -> bool {
        self.prefixed = true;
        true
    }
}

struct Stream {
    shards: vec::IntoIter<PathBuf>,
    /// The one being read.
    shard: Option<Shard>,
    prefixed: bool,
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
            self.shard = Some(open_shard(&path, self.prefixed)?);
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
pub(in crate::data) struct Shard {
    members: Members,
    /// The first member of the next sample, which showed that the one before is whole.
    ahead: Option<Part>,
    /// The keys so far: 16 bytes for each sample of this tar.
    seen: HashSet<u128>,
    /// What keys begin with.
    prefix: String,
}

/// Where a sample's image lies.
pub(in crate::data) struct Located {
    /// Of the image, else the sample's key.
    pub name: String,
    /// The image's first byte in the tar and its length, or why it cannot be used; none if there is no image.
    pub image: Option<Result<(u64, u64), String>>,
    /// The number of its class.
    pub label: Option<i64>,
}

impl Shard {
    pub(in crate::data) fn open(path: &Path) -> Result<Shard, DataError> {
        Ok(Shard { members: Members::open(path)?, ahead: None, seen: HashSet::new(), prefix: String::new() })
    }

    /// What has been passed over, once all has been read.
    pub(in crate::data) fn omitted(self) -> OmittedMembers {
        self.members.omitted
    }

    /// Where the next sample's image is; none at the tar's end. Reads headers and the class alone.
    pub(in crate::data) fn locate(&mut self) -> Result<Option<Located>, DataError> {
        let Some(group) = self.group()? else { return Ok(None) };
        let located = group.locate(&mut self.members)?;
        self.members.last_whole = Some(group.key);
        Ok(Some(located))
    }

    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        while let Some(mut group) = self.group()? {
            group.key.insert_str(0, &self.prefix);
            let sample = if wanted(&group.key) { Some(group.read(&mut self.members)?) } else { None };
            self.members.last_whole = Some(group.key);
            if sample.is_some() {
                return Ok(sample);
            }
        }
        Ok(None)
    }

    /// The members of the next sample, none of them read.
    fn group(&mut self) -> Result<Option<Group>, DataError> {
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
        let mut group = Group { key: first.key.clone(), parts: vec![] };
        let mut current = Some(first);
        while let Some(part) = current {
            if key::composed(&part.key) != key::composed(&group.key) {
                self.ahead = Some(part);
                break;
            }
            group.add(part, &self.members)?;
            current = self.next_part()?;
        }
        Ok(Some(group))
    }

    /// The next member that has a key and an ending.
    fn next_part(&mut self) -> Result<Option<Part>, DataError> {
        while let Some(member) = self.members.next()? {
            let (folders, base) = key::split(&member.name);
            if let Some((stem, ending)) = base.split_once('.') {
                let (key, role) = (format!("{folders}{stem}"), Role::of(ending));
                return Ok(Some(Part { key, role, member }));
            }
            self.members.pass_over(&member);
        }
        Ok(None)
    }
}

/// The members of one key that are of use, one of each role.
struct Group {
    key: String,
    parts: Vec<(Role, Member)>,
}

impl Group {
    fn add(&mut self, part: Part, members: &Members) -> Result<(), DataError> {
        let Part { key, role, member } = part;
        members.check(&member)?;
        if role == Role::Other {
            return Ok(());
        }
        if let Some((_, other)) = self.parts.iter().find(|(taken, _)| *taken == role) {
            let what = if role == Role::Image { "images" } else { "parts of one kind" };
            let reason = format!(
                "{} and {} are two {what} of {key}, since a key ends at the first dot; rename one of them",
                other.name, member.name
            );
            return Err(DataError::KeysClash { path: members.path().to_owned(), reason });
        }
        self.parts.push((role, member));
        Ok(())
    }

    fn locate(&self, members: &mut Members) -> Result<Located, DataError> {
        let image = self.parts.iter().find(|(role, _)| *role == Role::Image).map(|(_, member)| member);
        let mut found = Located {
            name: image.map_or_else(|| self.key.clone(), |image| image.name.clone()),
            image: image.map(|image| match image.size {
                0..=MEMBER_LIMIT => Ok((image.start, image.size)),
                _ => Err(too_long()),
            }),
            label: None,
        };
        if let Some((_, member)) = self.parts.iter().find(|(role, _)| *role == Role::Label) {
            // What is longer is no number, and not worth reading.
            let bytes = if member.size > LABEL_LIMIT { vec![] } else { members.read(member)? };
            match label(bytes) {
                Ok(label) => found.label = Some(label),
                Err(reason) => found.image = found.image.map(|image| image.and(Err(reason))),
            }
        }
        Ok(found)
    }

    fn read(&self, members: &mut Members) -> Result<Sample, DataError> {
        let mut sample =
            Sample { key: self.key.clone(), image: Err(no_image()), label: None, text: None, json: None };
        // The first thing that is wrong with the sample.
        let named = self.parts.iter().all(|(_, member)| member.is_utf8);
        let mut fault = (!named).then(|| key::NOT_UTF8.to_owned());
        for (role, member) in &self.parts {
            let taken = if member.size > MEMBER_LIMIT {
                Err(too_long())
            } else {
                take(&mut sample, *role, members.read(member)?)
            };
            fault = fault.or(taken.err());
        }
        if let Some(reason) = fault {
            sample.image = Err(reason);
        }
        Ok(sample)
    }
}

/// Puts a member's content in its place.
fn take(sample: &mut Sample, role: Role, bytes: Vec<u8>) -> Result<(), String> {
    match role {
        Role::Image => sample.image = Ok(Encoded::Bytes(bytes)),
        Role::Text => {
            let mut text = text(bytes)?;
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
            sample.text = Some(text);
        }
        Role::Label => sample.label = Some(label(bytes)?),
        Role::Json => match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => sample.json = Some(object),
            Ok(_) => return Err("the JSON is no object".to_owned()),
            Err(error) => return Err(format!("broken JSON: {error}")),
        },
        Role::Other => {}
    }
    Ok(())
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "the text is not UTF-8".to_owned())
}

fn label(bytes: Vec<u8>) -> Result<i64, String> {
    text(bytes)?.trim().parse().map_err(|_| "the class is no 64-bit integer".to_owned())
}

/// What is wrong with a sample that has none.
pub(in crate::data) fn no_image() -> String {
    format!("no image member; one ends in {}", EXTENSIONS.join(", "))
}

fn too_long() -> String {
    format!("a member has more bytes than the limit of {MEMBER_LIMIT}")
}

#[cfg(test)]
mod tests;
