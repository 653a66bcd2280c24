//! WebDataset: tars in which adjacent members with the same key are a sample.
//!
//! The key is a member's path up to the first dot of its base name. What follows says what it is: see `endings`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use rayon::prelude::*;
use serde_json::Value;

use super::endings::{Endings, Left, Role, TWO_PARTS};
use super::labels::{Labels, Raw, Survey, caption};
use super::members::{Member, Members};
use super::{DataError, Encoded, Input, Sample, SampleStream, Selection, fingerprint, key};
use crate::data::EXTENSIONS;
use crate::data::omitted::OmittedMembers;

/// The longest member that is read: the longest image that is decoded.
const MEMBER_LIMIT: u64 = 1 << 31;
/// The longest label that is read; what is longer is no number and no name.
const LABEL_LIMIT: u64 = 256;
/// Tars whose keys are in memory at a time.
const TARS_AT_A_TIME: usize = 64;

/// Tars, in order.
#[derive(Debug)]
pub(super) struct WebDataset {
    shards: Vec<PathBuf>,
    fingerprint: String,
    endings: Arc<Endings>,
    labels: Labels,
    notes: Vec<String>,
    /// Whether keys begin with the name of their tar.
    prefixed: bool,
}

impl WebDataset {
    /// Reads the headers of all members, and the labels.
    pub(super) fn open(shards: Vec<PathBuf>, selection: &Selection) -> Result<WebDataset, DataError> {
        let endings = Arc::new(Endings::of(selection));
        let surveys: Vec<(Survey, Left, bool)> =
            shards.par_iter().map(|path| survey(path, &endings)).collect();
        let (mut all, mut left, mut texts) = (Survey::default(), Left::default(), false);
        for (survey, of_shard, has_texts) in surveys {
            all = all.and(survey);
            left.add(of_shard);
            texts |= has_texts;
        }
        let mut notes: Vec<String> = left.in_words().into_iter().collect();
        if let (Some(ending), false) = (&selection.text, texts) {
            return Err(DataError::Unclear(format!("--text-column {ending}: no member has that ending")));
        }
        let asked = selection.label.is_some();
        let labels = all.settle(&endings.labels(), None, selection.classes.as_ref(), asked, &mut notes)?;
        Ok(WebDataset { fingerprint: fingerprint(&shards)?, shards, endings, labels, notes, prefixed: false })
    }
}

/// Of a tar, as far as it can be read; its damage is told when it is reached.
fn survey(path: &Path, endings: &Arc<Endings>) -> (Survey, Left, bool) {
    let mut survey = Survey::default();
    let Ok(mut shard) = Shard::open(path, endings) else { return (survey, Left::default(), false) };
    let tar = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    while let Ok(Some(located)) = shard.locate() {
        survey.add(located.label.as_ref(), || format!("{} in {tar}", located.name));
    }
    (survey, shard.left, shard.has_texts)
}

impl WebDataset {
    /// All keys of a tar, and what is passed over in it.
    fn keys_of(&self, path: &Path) -> Result<(Vec<String>, OmittedMembers), DataError> {
        let (mut shard, mut keys) = (open_shard(path, &self.endings, self.prefixed)?, vec![]);
        let mut keep = |key: &str| {
            keys.push(key.to_owned());
            false
        };
        while shard.next(&self.labels, &mut keep)?.is_some() {}
        Ok((keys, shard.omitted()))
    }
}

/// Opens a tar, whose keys begin with its name if they are to.
fn open_shard(path: &Path, endings: &Arc<Endings>, prefixed: bool) -> Result<Shard, DataError> {
    let mut shard = Shard::open(path, endings)?;
    if prefixed {
        let stem = key::readable(path.file_stem().unwrap_or_default().as_encoded_bytes());
        let stem = key::normalised(&stem)
            .map_err(|reason| key::refusal(path, "the file's name".to_owned(), &stem, reason))?;
        shard.prefix = stem + "/";
    }
    Ok(shard)
}

impl Input for WebDataset {
    fn kind(&self) -> &'static str {
        "webdataset"
    }

    fn classes(&self) -> &[String] {
        self.labels.classes()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn len(&self) -> Option<u64> {
        None
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn stream(&self) -> Result<Box<dyn SampleStream>, DataError> {
        let shards = self.shards.clone().into_iter();
        let (endings, labels) = (Arc::clone(&self.endings), self.labels.clone());
        Ok(Box::new(Stream { shards, shard: None, endings, labels, prefixed: self.prefixed }))
    }

    fn keys(&self, each: &mut dyn FnMut(&Path, &str)) -> Result<Vec<String>, DataError> {
        let mut omitted = OmittedMembers::default();
        for tars in self.shards.chunks(TARS_AT_A_TIME) {
            let scans: Vec<Result<_, DataError>> = tars.par_iter().map(|tar| self.keys_of(tar)).collect();
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
    endings: Arc<Endings>,
    labels: Labels,
    prefixed: bool,
}

impl SampleStream for Stream {
    fn next(&mut self, wanted: &mut dyn FnMut(&str) -> bool) -> Result<Option<Sample>, DataError> {
        loop {
            if let Some(shard) = &mut self.shard {
                if let Some(sample) = shard.next(&self.labels, wanted)? {
                    return Ok(Some(sample));
                }
                self.shard = None;
            }
            let Some(path) = self.shards.next() else { return Ok(None) };
            self.shard = Some(open_shard(&path, &self.endings, self.prefixed)?);
        }
    }
}

/// A member that belongs to a sample.
struct Part {
    key: String,
    role: Role,
    /// The first of several of one role is taken.
    place: usize,
    ending: String,
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
    endings: Arc<Endings>,
    left: Left,
    has_texts: bool,
}

/// Where a sample's image lies.
pub(in crate::data) struct Located {
    /// Of the image, else the sample's key.
    pub name: String,
    /// The image's first byte in the tar and its length, or why it cannot be used; none if there is no image.
    pub image: Option<Result<(u64, u64), String>>,
    /// Its label.
    pub label: Option<Raw>,
}

impl Shard {
    pub(in crate::data) fn open(path: &Path, endings: &Arc<Endings>) -> Result<Shard, DataError> {
        Ok(Shard {
            members: Members::open(path)?,
            ahead: None,
            seen: HashSet::new(),
            prefix: String::new(),
            endings: Arc::clone(endings),
            left: Left::default(),
            has_texts: false,
        })
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

    fn next(
        &mut self,
        labels: &Labels,
        wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Option<Sample>, DataError> {
        while let Some(mut group) = self.group()? {
            group.key.insert_str(0, &self.prefix);
            let sample = if wanted(&group.key) { Some(group.read(&mut self.members, labels)?) } else { None };
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
            self.members.check(&part.member)?;
            group.parts.push(part);
            current = self.next_part()?;
        }
        group.settle(self.members.path(), &mut self.left)?;
        self.has_texts |= group.parts.iter().any(|part| part.role == Role::Text);
        Ok(Some(group))
    }

    /// The next member that has a key and an ending.
    fn next_part(&mut self) -> Result<Option<Part>, DataError> {
        while let Some(member) = self.members.next()? {
            let (folders, base) = key::split(&member.name);
            if let Some((stem, ending)) = base.split_once('.') {
                let (key, ending) = (format!("{folders}{stem}"), ending.to_ascii_lowercase());
                let (role, place) = self.endings.role(&ending);
                return Ok(Some(Part { key, role, place, ending, member }));
            }
            self.members.pass_over(&member);
        }
        Ok(None)
    }
}

/// The members of one key; once settled those that are of use, one of each role.
struct Group {
    key: String,
    parts: Vec<Part>,
}

impl Group {
    /// Leaves one member of each role.
    fn settle(&mut self, tar: &Path, left: &mut Left) -> Result<(), DataError> {
        for role in [Role::Image, Role::Text, Role::Label, Role::Json] {
            let of_role = || self.parts.iter().filter(|part| part.role == role);
            let Some(first) = of_role().map(|part| part.place).min() else { continue };
            let mut firsts = of_role().filter(|part| part.place == first);
            let (one, another) = (firsts.next(), firsts.next());
            let unclear = first == TWO_PARTS && another.is_some();
            if let (Some(one), Some(another), false) = (one, another, unclear) {
                return Err(self.clash(one, another, tar));
            }
            for part in self.parts.iter_mut().filter(|part| part.role == role) {
                if unclear || part.place != first {
                    part.role = Role::Other;
                }
            }
        }
        self.parts.retain(|part| {
            let other = part.role == Role::Other;
            if other {
                left.count(&part.ending);
            }
            !other
        });
        Ok(())
    }

    fn clash(&self, one: &Part, another: &Part, tar: &Path) -> DataError {
        let (what, remedy) = match one.role {
            Role::Image => ("images", " or choose an ending with --image-column"),
            _ => ("parts of one kind", ""),
        };
        let reason = format!(
            "{} and {} are two {what} of {}, since a key ends at the first dot; rename one of them{remedy}",
            one.member.name, another.member.name, self.key
        );
        DataError::KeysClash { path: tar.to_owned(), reason }
    }

    fn member(&self, role: Role) -> Option<&Member> {
        self.parts.iter().find(|part| part.role == role).map(|part| &part.member)
    }

    fn locate(&self, members: &mut Members) -> Result<Located, DataError> {
        let image = self.member(Role::Image);
        let mut found = Located {
            name: image.map_or_else(|| self.key.clone(), |image| image.name.clone()),
            image: image.map(|image| match image.size {
                0..=MEMBER_LIMIT => Ok((image.start, image.size)),
                _ => Err(too_long()),
            }),
            label: None,
        };
        if let Some(member) = self.member(Role::Label) {
            match label(members, member)? {
                Ok(label) => found.label = Some(label),
                Err(reason) => found.image = found.image.map(|image| image.and(Err(reason))),
            }
        }
        Ok(found)
    }

    fn read(&self, members: &mut Members, labels: &Labels) -> Result<Sample, DataError> {
        let mut sample =
            Sample { key: self.key.clone(), image: Err(no_image()), label: None, text: None, json: None };
        // The first thing that is wrong with the sample.
        let named = self.parts.iter().all(|part| part.member.is_utf8);
        let mut fault = (!named).then(|| key::NOT_UTF8.to_owned());
        for Part { role, member, .. } in &self.parts {
            let taken = if *role == Role::Label {
                label(members, member)?.map(|label| sample.label = labels.number(Some(&label)))
            } else if member.size > MEMBER_LIMIT {
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
        Role::Text => sample.text = Some(caption(bytes)?),
        Role::Json => match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => sample.json = Some(object),
            Ok(_) => return Err("the JSON is no object".to_owned()),
            Err(error) => return Err(format!("broken JSON: {error}")),
        },
        // A label has been read with fewer bytes; the others are not.
        Role::Label | Role::Other => {}
    }
    Ok(())
}

/// A sample's label, or why it has none that can be used.
fn label(members: &mut Members, member: &Member) -> Result<Result<Raw, String>, DataError> {
    if member.size > LABEL_LIMIT {
        return Ok(Err(format!("the label has more bytes than the limit of {LABEL_LIMIT}")));
    }
    let word = String::from_utf8(members.read(member)?);
    Ok(word.map(|word| Raw::Word(word.trim().to_owned())).map_err(|_| "the label is not UTF-8".to_owned()))
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
