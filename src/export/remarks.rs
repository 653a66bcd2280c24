//! Counts what was changed in the images' data while they are encoded, for a report at the end.

use serde::{Deserialize, Serialize};

use super::feed::Meta;

/// How often something occurs, and one example.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noticed {
    count: u64,
    /// The key of the first such image.
    example: String,
}

impl Noticed {
    fn is_none(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, count: u64, example: &str) {
        if count > 0 && self.count == 0 {
            example.clone_into(&mut self.example);
        }
        self.count += count;
    }
}

/// The counts of a shard, or of all images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remarks {
    /// Non-finite numbers in JSON.
    #[serde(default, skip_serializing_if = "Noticed::is_none")]
    non_finite: Noticed,
    /// Captions in additional columns.
    #[serde(default, skip_serializing_if = "Noticed::is_none")]
    captions: Noticed,
    /// Images whose JSON had a field with a name that the format uses itself.
    #[serde(default, skip_serializing_if = "Noticed::is_none")]
    moved: Noticed,
}

impl Remarks {
    pub(super) fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds the counts of an image.
    pub(super) fn add(&mut self, meta: &Meta) {
        self.non_finite.add(meta.altered.non_finite, &meta.key);
        self.captions.add(meta.altered.captions, &meta.key);
        self.moved.add(meta.moved.into(), &meta.key);
    }

    /// Adds the counts of a later shard.
    pub(super) fn append(&mut self, other: &Remarks) {
        let pairs = [
            (&mut self.non_finite, &other.non_finite),
            (&mut self.captions, &other.captions),
            (&mut self.moved, &other.moved),
        ];
        pairs.into_iter().for_each(|(own, other)| own.add(other.count, &other.example));
    }

    pub(super) fn in_words(&self) -> Vec<String> {
        [
            ("NaN and infinite numbers in the JSON of images, written as null", &self.non_finite),
            (
                "captions of further columns, not used (--text-column takes only the column that it names)",
                &self.captions,
            ),
            ("images whose own field pixtok is called pixtok_original in this set", &self.moved),
        ]
        .into_iter()
        .filter(|(_, noticed)| !noticed.is_none())
        .map(|(what, Noticed { count, example })| format!("{what}: {count}, as in {example}"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_add_up_and_keep_the_first_example() {
        let of = |count, example: &str| Noticed { count, example: example.into() };
        let first = Remarks { non_finite: of(2, "a"), ..Remarks::default() };
        let second = Remarks { non_finite: of(1, "b"), moved: of(1, "c"), ..Remarks::default() };
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(text, r#"{"non_finite":{"count":2,"example":"a"}}"#);
        assert_eq!(serde_json::from_str::<Remarks>(&text).unwrap(), first);
        let mut all = Remarks::default();
        all.append(&Remarks { moved: of(0, "an image without one"), ..Remarks::default() });
        assert!(all.are_none());
        [first, second].iter().for_each(|remarks| all.append(remarks));
        let words = all.in_words();
        assert_eq!(words.len(), 2);
        assert!(
            words[0].ends_with("written as null: 3, as in a") && words[1].ends_with(": 1, as in c"),
            "{words:?}"
        );
    }
}
