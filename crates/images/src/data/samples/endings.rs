//! The role of a tar's member in its sample, determined by the member's ending, in any case.
//!
//! The last part of the ending identifies an image, a caption (`txt`, `text`, `caption`) or a label
//! (`cls`, `label`, `class`), as in `input.jpg` and `outputs.cls`; `json` is an object. An ending
//! of one part takes precedence over one of two parts. If two members have endings of two parts,
//! such as `en.txt` and `de.txt`, neither is used. Members that are not used are counted by ending.

use std::collections::BTreeMap;

use super::{Selection, captions};
use crate::data::EXTENSIONS;

/// The largest number of endings that are counted separately.
const MOST_ENDINGS: usize = 100;
/// Endings of captions, in order of precedence.
pub(super) const TEXTS: [&str; 3] = ["txt", "text", "caption"];
/// The rank of an ending of two parts.
pub(super) const TWO_PARTS: usize = 3;

/// The role of a member in its sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Role {
    Image,
    Text,
    Label,
    Json,
    Other,
}

/// The endings that the user requested.
#[derive(Debug, Default)]
pub(in crate::data) struct Endings {
    image: Option<String>,
    label: Option<String>,
    text: Option<String>,
    /// The fields of a sample's JSON that may hold its caption; empty if an ending was requested.
    pub(super) fields: Vec<String>,
}

impl Endings {
    pub(in crate::data) fn of(selection: &Selection) -> Endings {
        let lower = |name: &Option<String>| {
            name.as_ref().map(|name| name.trim_start_matches('.').to_ascii_lowercase())
        };
        Endings {
            image: lower(&selection.image),
            label: lower(&selection.label),
            text: lower(&selection.text),
            fields: match selection.text {
                Some(_) => vec![],
                None => captions::NAMES.map(str::to_owned).to_vec(),
            },
        }
    }

    /// The labels, as messages name them.
    pub(in crate::data) fn labels(&self) -> String {
        match &self.label {
            Some(label) => format!("the members .{label}"),
            None => "the members that end in cls, label or class".to_owned(),
        }
    }

    /// The role of a member with this ending (in lower case), and its rank among members with the
    /// same role. The lowest rank is used.
    pub(super) fn role(&self, ending: &str) -> (Role, usize) {
        let last = ending.rsplit('.').next().unwrap_or_default();
        for (role, asked, usual) in
            [(Role::Text, &self.text, TEXTS), (Role::Label, &self.label, ["cls", "label", "class"])]
        {
            match asked {
                Some(asked) if asked == ending => return (role, 0),
                Some(_) => {}
                None => {
                    let place = usual.iter().position(|usual| *usual == ending);
                    if let Some(place) = place.or(usual.contains(&last).then_some(TWO_PARTS)) {
                        return (role, place);
                    }
                }
            }
        }
        let image = self.image.as_ref().map_or_else(|| EXTENSIONS.contains(&last), |image| image == ending);
        match ending {
            _ if image => (Role::Image, 0),
            "json" => (Role::Json, 0),
            _ => (Role::Other, 0),
        }
    }
}

/// The number of unused members, by ending.
#[derive(Debug, Default)]
pub(super) struct Left {
    counts: BTreeMap<String, u64>,
}

impl Left {
    pub(super) fn count(&mut self, ending: &str) {
        let known = self.counts.len() < MOST_ENDINGS || self.counts.contains_key(ending);
        *self.counts.entry(if known { ending } else { "others" }.to_owned()).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: Left) {
        for (ending, count) in other.counts {
            *self.counts.entry(ending).or_default() += count;
        }
    }

    pub(super) fn in_words(&self) -> Option<String> {
        let counts: Vec<String> =
            self.counts.iter().map(|(ending, count)| format!("{count} .{ending}")).collect();
        (!counts.is_empty()).then(|| {
            format!(
                "members that are not used: {} (--label-column and --text-column take endings)",
                counts.join(", ")
            )
        })
    }
}
