//! Reads a tar sample by sample: members with the same key form a sample.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::data::omitted::OmittedMembers;
use crate::data::samples::captions::{self, has_words};
use crate::data::samples::endings::{Endings, Left, Role, TWO_PARTS};
use crate::data::samples::labels::{Labels, Raw, caption, object_in, word};
use crate::data::samples::members::{Member, Members};
use crate::data::samples::{Altered, Encoded, Sample, key};
use crate::data::{DataError, EXTENSIONS};

/// The longest member that is read, equal to the longest image that is decoded.
pub(super) const MEMBER_LIMIT: u64 = 1 << 31;
/// The longest label that is read; a longer one is neither a number nor a class name.
const LABEL_LIMIT: u64 = 256;
/// The longest text that is searched for words; a longer one is assumed to have some.
const BLANK_LIMIT: u64 = 256;

/// A member that belongs to a sample.
struct TarMember {
    key: String,
    role: Role,
    /// The rank: of several members with the same role, the one with the lowest rank is used.
    place: usize,
    ending: String,
    member: Member,
}

/// A tar being read.
pub(in crate::data) struct Shard {
    pub(super) members: Members,
    /// The first member of the next sample. Reading it showed that the previous sample is complete.
    ahead: Option<TarMember>,
    /// Digests of the keys so far: 16 bytes per sample of this tar.
    seen: HashSet<u128>,
    /// The prefix of every key.
    pub(super) prefix: String,
    endings: Arc<Endings>,
    pub(super) left: Left,
    pub(super) has_texts: bool,
}

/// The location of a sample's image.
pub(in crate::data) struct Located {
    /// The image's name, or the sample's key if there is no image.
    pub name: String,
    /// The position of the image's first byte in the tar, and its length, or why it cannot be used;
    /// `None` if there is no image.
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

    /// What has been skipped. Call it after everything has been read.
    pub(in crate::data) fn omitted(self) -> OmittedMembers {
        self.members.omitted
    }

    /// The location of the next sample's image; `None` at the end of the tar. Reads only headers,
    /// labels and, if a sample has several texts, short texts.
    pub(in crate::data) fn locate(&mut self) -> Result<Option<Located>, DataError> {
        let Some(group) = self.group()? else { return Ok(None) };
        let located = group.locate(&mut self.members)?;
        self.members.last_whole = Some(group.key);
        Ok(Some(located))
    }

    pub(super) fn next(
        &mut self,
        labels: &Labels,
        wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Option<Sample>, DataError> {
        while let Some(mut group) = self.group()? {
            group.key.insert_str(0, &self.prefix);
            let sample = if wanted(&group.key) {
                Some(group.read(&mut self.members, &self.endings, labels)?)
            } else {
                None
            };
            self.members.last_whole = Some(group.key);
            if sample.is_some() {
                return Ok(sample);
            }
        }
        Ok(None)
    }

    /// The members of the next sample, without reading its image. Members whose key has no usable
    /// member do not form a sample.
    fn group(&mut self) -> Result<Option<TarSample>, DataError> {
        while let Some(mut group) = self.adjacent()? {
            let others = group.settle(&mut self.members)?;
            if group.parts.is_empty() {
                others.iter().for_each(|part| self.members.pass_over_unused(&part.member));
                continue;
            }
            others.iter().for_each(|part| self.left.count(&part.ending));
            self.has_texts |= group.parts.iter().any(|part| part.role == Role::Text);
            return Ok(Some(group));
        }
        Ok(None)
    }

    /// The next run of members with the same key.
    fn adjacent(&mut self) -> Result<Option<TarSample>, DataError> {
        let first = match self.ahead.take() {
            Some(part) => part,
            None => match self.next_part()? {
                Some(part) => part,
                None => return Ok(None),
            },
        };
        let composed = key::composed(&first.key).into_owned();
        if !self.seen.insert(key::digest(&composed)) {
            let reason = format!(
                "{} belongs to {}, but other samples lie between; sort the members by name",
                first.member.name, first.key
            );
            return Err(DataError::KeysClash { path: self.members.path().to_owned(), reason });
        }
        let mut group = TarSample { key: first.key.clone(), parts: vec![] };
        let mut current = Some(first);
        while let Some(part) = current {
            if key::composed(&part.key) != composed {
                self.ahead = Some(part);
                break;
            }
            self.members.check(&part.member)?;
            group.parts.push(part);
            current = self.next_part()?;
        }
        Ok(Some(group))
    }

    /// The next member that has a key and an ending.
    fn next_part(&mut self) -> Result<Option<TarMember>, DataError> {
        while let Some(member) = self.members.next()? {
            let (folders, base) = key::split(&member.name);
            if let Some((stem, ending)) = base.split_once('.') {
                let (key, ending) = (format!("{folders}{stem}"), ending.to_ascii_lowercase());
                let (role, place) = self.endings.role(&ending);
                return Ok(Some(TarMember { key, role, place, ending, member }));
            }
            self.members.pass_over(&member);
        }
        Ok(None)
    }
}

/// The members with one key. After `settle`, only the usable ones: one for each role.
struct TarSample {
    key: String,
    parts: Vec<TarMember>,
}

impl TarSample {
    /// Keeps one member for each role and returns the others.
    fn settle(&mut self, members: &mut Members) -> Result<Vec<TarMember>, DataError> {
        self.pass_over_blank_texts(members)?;
        for role in [Role::Image, Role::Text, Role::Label, Role::Json] {
            let of_role = || self.parts.iter().filter(|part| part.role == role);
            let Some(first) = of_role().map(|part| part.place).min() else { continue };
            let mut firsts = of_role().filter(|part| part.place == first);
            let (one, another) = (firsts.next(), firsts.next());
            let unclear = first == TWO_PARTS && another.is_some();
            if let (Some(one), Some(another), false) = (one, another, unclear) {
                return Err(self.clash(one, another, members.path()));
            }
            for part in self.parts.iter_mut().filter(|part| part.role == role) {
                if unclear || part.place != first {
                    part.role = Role::Other;
                }
            }
        }
        Ok(self.parts.extract_if(.., |part| part.role == Role::Other).collect())
    }

    /// Drops captions without words if there is a caption with words.
    fn pass_over_blank_texts(&mut self, members: &mut Members) -> Result<(), DataError> {
        let texts: Vec<&mut TarMember> =
            self.parts.iter_mut().filter(|part| part.role == Role::Text).collect();
        if texts.len() < 2 {
            return Ok(());
        }
        let (mut blank, mut has_other) = (vec![], false);
        for part in texts {
            if is_blank(members, &part.member)? { blank.push(part) } else { has_other = true }
        }
        if has_other {
            blank.into_iter().for_each(|part| part.role = Role::Other);
        }
        Ok(())
    }

    fn clash(&self, one: &TarMember, another: &TarMember, tar: &Path) -> DataError {
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

    fn read(&self, members: &mut Members, endings: &Endings, labels: &Labels) -> Result<Sample, DataError> {
        let (key, altered) = (self.key.clone(), Altered::default());
        let mut sample =
            Sample { key, image: Err(no_image()), label: None, text: None, json: None, altered, tried: None };
        // The first problem of the sample.
        let named = self.parts.iter().all(|part| part.member.is_utf8);
        let mut fault = (!named).then(|| key::NOT_UTF8.to_owned());
        for TarMember { role, member, .. } in &self.parts {
            let taken = if *role == Role::Label {
                label(members, member)?.map(|label| sample.label = labels.number(Some(&label)))
            } else if member.size > MEMBER_LIMIT {
                Err(too_long())
            } else {
                take(&mut sample, *role, members.read(member)?)
            };
            fault = fault.or(taken.err());
        }
        captions::take_from_json(&mut sample, &endings.fields);
        if let Some(reason) = fault {
            sample.image = Err(reason);
        }
        Ok(sample)
    }
}

/// Stores a member's content in the sample.
fn take(sample: &mut Sample, role: Role, bytes: Vec<u8>) -> Result<(), String> {
    match role {
        Role::Image => sample.image = Ok(Encoded::Bytes(bytes)),
        Role::Text => sample.text = Some(caption(bytes)?),
        Role::Json => {
            let (json, non_finite) = object_in(&bytes)?;
            (sample.json, sample.altered.non_finite) = (Some(json), non_finite);
        }
        // Labels are read elsewhere, with a smaller limit; other members are not used.
        Role::Label | Role::Other => {}
    }
    Ok(())
}

/// Whether a text has no words.
fn is_blank(members: &mut Members, member: &Member) -> Result<bool, DataError> {
    let is_short = member.size <= BLANK_LIMIT;
    Ok(is_short && caption(members.read(member)?).is_ok_and(|text| !has_words(&text)))
}

/// A sample's label, or the reason why it cannot be used.
fn label(members: &mut Members, member: &Member) -> Result<Result<Raw, String>, DataError> {
    if member.size > LABEL_LIMIT {
        return Ok(Err(format!("the label has more bytes than the limit of {LABEL_LIMIT}")));
    }
    Ok(word(members.read(member)?))
}

/// The reason for skipping a sample without an image.
pub(in crate::data) fn no_image() -> String {
    format!("no image member; one ends in {}", EXTENSIONS.join(", "))
}

fn too_long() -> String {
    format!("a member has more bytes than the limit of {MEMBER_LIMIT}")
}
