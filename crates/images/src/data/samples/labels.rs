//! The rule for labels, the same for every kind of input.
//!
//! A label is used if it converts exactly: whole numbers of any type, true and false (1 and 0), and
//! strings that spell whole numbers. If any string is not a number, all labels are class names.
//! They are numbered from 0, in the sorted order of the names in the whole input, or in the order
//! of a given list. The name of a class folder is always a class name, even if it spells a number.
//! Null, NaN and empty strings mean "no label", and so does −1 if the classes have names. If a
//! single label cannot be converted, no label is used, and a note states which one and where: a set
//! with some of its labels could be mistaken for one with all of them.

mod raw;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::DataError;
use super::key::composed;
pub use raw::Classes;
pub(in crate::data) use raw::Raw;
pub(super) use raw::{caption, object_in, word};
use raw::{is_decimal, spelt};

/// The most class names; with more, the strings are probably captions or keys.
const MOST_NAMES: usize = 1 << 16;
/// The longest class name, in bytes; labels in tars have the same limit.
const LONGEST_NAME: usize = 256;
/// The number of classes that a message lists.
const SHOWN: usize = 8;
/// The reason why a number cannot be a label.
const NO_WHOLE: &str = "is not a 64-bit whole number";

/// Statistics of all labels of an input, collected before any of them is used.
#[derive(Debug, Default)]
pub(in crate::data) struct Survey {
    /// The number of samples with a label, and of all samples.
    labelled: u64,
    samples: u64,
    /// The number of samples whose label is NaN.
    nan: u64,
    /// The number of labels that are −1.
    minus: u64,
    /// The distinct strings, in composed form (NFC).
    words: BTreeSet<String>,
    too_many: bool,
    /// The first label of each sort, with its place: a string that is not a whole number, a string
    /// that is a decimal number, and a label that is not a string.
    name: Option<(String, String)>,
    decimal: Option<(String, String)>,
    typed: Option<(String, String)>,
    /// The first label that cannot be used, with the reason.
    odd: Option<String>,
    beyond: Option<(i64, String)>,
    below: Option<(i64, String)>,
}

impl Survey {
    /// Adds the label of a sample, which was found at `place`.
    pub(in crate::data) fn add(&mut self, label: Option<&Raw>, place: impl Fn() -> String) {
        self.samples += 1;
        let Some(label) = label else { return };
        if label.is_none() {
            self.nan += u64::from(matches!(label, Raw::Real(_)));
            return;
        }
        self.labelled += 1;
        let keep = |slot: &mut Option<(String, String)>| {
            slot.get_or_insert_with(|| (label.shown(), place()));
        };
        let odd = |reason: &str| Some(format!("{} ({}) {reason}", label.shown(), place()));
        let number = label.number();
        match (label, number) {
            (Raw::Word(word), _) if word.trim().len() > LONGEST_NAME => {
                let reason = format!("has more than {LONGEST_NAME} bytes, too many for a class name");
                self.odd = self.odd.take().or_else(|| odd(&reason));
            }
            (Raw::Word(word), number) => {
                if number.is_none() {
                    keep(&mut self.name);
                }
                if number.is_none() && is_decimal(word) {
                    keep(&mut self.decimal);
                }
                self.add_word(&composed(word.trim()));
            }
            (_, None) => self.odd = self.odd.take().or_else(|| odd(NO_WHOLE)),
            (_, Some(_)) => keep(&mut self.typed),
        }
        self.minus += u64::from(number == Some(-1));
        if let Some(number) = number {
            if self.beyond.as_ref().is_none_or(|(most, _)| number > *most) {
                self.beyond = Some((number, place()));
            }
            if self.below.as_ref().is_none_or(|(least, _)| number < *least) {
                self.below = Some((number, place()));
            }
        }
    }

    fn add_word(&mut self, word: &str) {
        if !self.words.contains(word) {
            if self.words.len() < MOST_NAMES {
                self.words.insert(word.to_owned());
            } else {
                self.too_many = true;
            }
        }
    }

    /// Merges in the statistics of the samples that follow.
    pub(in crate::data) fn and(mut self, other: Survey) -> Survey {
        self.labelled += other.labelled;
        self.samples += other.samples;
        self.nan += other.nan;
        self.minus += other.minus;
        self.too_many |= other.too_many;
        other.words.iter().for_each(|word| self.add_word(word));
        self.name = self.name.or(other.name);
        self.decimal = self.decimal.or(other.decimal);
        self.typed = self.typed.or(other.typed);
        self.odd = self.odd.or(other.odd);
        self.beyond = self.beyond.into_iter().chain(other.beyond).max_by_key(|(number, _)| *number);
        self.below = self.below.into_iter().chain(other.below).min_by_key(|(number, _)| *number);
        self
    }

    /// Whether no sample has a label.
    pub(super) fn is_empty(&self) -> bool {
        self.labelled == 0
    }

    /// Whether the use of these labels depends on those of the other files of the input, too: the
    /// numbers of classes by name, and whether labels that were `asked` for exist at all.
    pub(super) fn needs_others(&self, given: Option<&Classes>, asked: bool) -> bool {
        let unlisted = |given: &Classes| {
            let labels = Labels::named(given.names.iter().cloned());
            self.words.iter().any(|word| labels.place(word).is_none())
        };
        let lacking = (asked || given.is_some()) && self.labelled == self.minus;
        lacking || given.map_or(self.name.is_some(), unlisted)
    }

    /// Decides how the labels are used. Messages call them `what`; `declared` are the class names
    /// that the input itself states for its numbers. If the user requested labels (`asked`) or gave
    /// classes, the labels are either used or refused.
    ///
    /// # Errors
    /// If a label is not among the given classes, or if labels were requested and one cannot be
    /// converted.
    pub(in crate::data) fn settle(
        self,
        what: &str,
        declared: Option<Vec<String>>,
        given: Option<&Classes>,
        asked: bool,
        notes: &mut Vec<String>,
    ) -> Result<Labels, DataError> {
        let asked = asked || given.is_some();
        let named = declared.is_some() || given.is_some() || self.name.is_some();
        let labelled = self.labelled - if named { self.minus } else { 0 };
        if self.labelled == 0 || (labelled == 0 && asked) {
            return if asked {
                Err(DataError::Unclear(format!(
                    "{what}: no sample has one; name what has labels with --label-column, or leave --classes out"
                )))
            } else {
                // Class names are stated even if no image has a class.
                let classes = declared.unwrap_or_default();
                Ok(Labels { taken: !classes.is_empty(), classes, ..Labels::none() })
            };
        }
        let of = |(shown, place): &(String, String)| format!("{shown} ({place})");
        // A list of classes may contain a decimal number as a name.
        let decimal = self.decimal.as_ref().filter(|_| given.is_none());
        let odd = self.odd.clone().or_else(|| decimal.map(|decimal| format!("{} {NO_WHOLE}", of(decimal))));
        let reason = odd.or_else(|| match (&self.name, &self.typed) {
            (Some(name), Some(typed)) => {
                Some(format!("some are names, as {}, and some are numbers, as {}", of(name), of(typed)))
            }
            (Some(name), None) if self.too_many => Some(format!(
                "they have more than {MOST_NAMES} different values, as {}, too many for classes",
                of(name)
            )),
            _ => None,
        });
        let reason = reason.or_else(|| self.outside(declared.as_deref()?));
        if let Some(reason) = reason {
            return not_taken(what, &reason, asked, notes);
        }
        self.count_missing(what, named, notes);
        if let Some(given) = given {
            return self.given(what, declared, given);
        }
        if let Some(names) = declared {
            return Ok(Labels { taken: true, classes: names, places: None, renamed: None });
        }
        if self.name.is_none() {
            return Ok(Labels { taken: true, ..Labels::none() });
        }
        let words = self.words.into_iter().filter(|word| spelt(word) != Some(-1));
        let labels = Labels::named(words);
        notes.push(format!("{what}: {}", labels.in_words()));
        Ok(labels)
    }

    /// Describes a number outside the classes that the input declares. −1 is allowed, as a common
    /// mark for "no label".
    fn outside(&self, names: &[String]) -> Option<String> {
        if let Some(name) = &self.name {
            return Some(format!("{} ({}) is a name where the input declares numbers", name.0, name.1));
        }
        let (count, least) = (names.len() as i64, self.below.as_ref());
        let outside = self.beyond.as_ref().filter(|(most, _)| *most >= count);
        outside.or(least.filter(|(least, _)| *least < -1)).map(|(number, place)| {
            format!("{number} ({place}) is not one of the {count} classes that it declares")
        })
    }

    fn count_missing(&self, what: &str, named: bool, notes: &mut Vec<String>) {
        let minus = if named { self.minus } else { 0 };
        let none = self.samples - self.labelled + minus;
        if none > 0 {
            let kinds = [(self.nan, "NaN"), (minus, "−1")].into_iter().filter(|(count, _)| *count > 0);
            let kinds: Vec<String> = kinds.map(|(count, kind)| format!("{count} of them {kind}")).collect();
            let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
            notes.push(format!("{what}: samples without one: {none} of {}{kinds}", self.samples));
        }
    }

    /// The labels, numbered by a list from the user.
    fn given(&self, what: &str, declared: Option<Vec<String>>, given: &Classes) -> Result<Labels, DataError> {
        let labels = Labels::named(given.names.iter().cloned());
        let unknown = |shown: &str| {
            DataError::Unclear(format!(
                "{what}: {shown} is not one of the {} classes in {}; add it there, or correct the label",
                given.names.len(),
                given.path.display()
            ))
        };
        if let Some(declared) = declared {
            let renamed: Vec<Option<i64>> = declared.iter().map(|name| labels.place(name)).collect();
            return match declared.iter().zip(&renamed).find(|(_, place)| place.is_none()) {
                Some((name, _)) => Err(unknown(&format!("{name:?}"))),
                None => Ok(Labels { renamed: Some(renamed), ..labels }),
            };
        }
        let mut words = self.words.iter().filter(|word| spelt(word) != Some(-1));
        if let Some(word) = words.find(|word| labels.place(word).is_none()) {
            // Strings that spell numbers may be class numbers.
            let in_range = spelt(word).is_some_and(|number| (0..given.names.len() as i64).contains(&number));
            if !in_range || self.words.iter().any(|word| labels.place(word).is_some()) {
                return Err(unknown(&format!("{word:?}")));
            }
        }
        let outside = self.beyond.as_ref().filter(|(most, _)| *most >= given.names.len() as i64);
        let outside = outside.or(self.below.as_ref().filter(|(least, _)| *least < -1));
        match outside {
            Some((number, place)) if self.typed.is_some() => Err(unknown(&format!("{number} ({place})"))),
            _ => Ok(labels),
        }
    }
}

/// Handles labels that cannot be converted: an error if they were requested, otherwise a note.
pub(super) fn not_taken(
    what: &str,
    reason: &str,
    asked: bool,
    notes: &mut Vec<String>,
) -> Result<Labels, DataError> {
    if asked {
        return Err(DataError::Unclear(format!("{what} cannot be taken: {reason}; name another")));
    }
    notes.push(format!("labels of {what} are not used: {reason}"));
    Ok(Labels::none())
}

/// Converts the labels of an input to numbers.
#[derive(Debug, Clone)]
pub(in crate::data) struct Labels {
    taken: bool,
    classes: Vec<String>,
    /// Maps class names to numbers; `None` if the labels are numbers.
    places: Option<Arc<HashMap<String, i64>>>,
    /// Maps the numbers that the input declares to those of the given classes.
    renamed: Option<Vec<Option<i64>>>,
}

impl Labels {
    /// Labels of an input whose labels are not used.
    pub(in crate::data) fn none() -> Labels {
        Labels { taken: false, classes: vec![], places: None, renamed: None }
    }

    /// Class names that are numbered from 0 in this order. Two Unicode spellings of a name are one
    /// class.
    fn named(names: impl IntoIterator<Item = String>) -> Labels {
        let (mut classes, mut places) = (vec![], HashMap::new());
        for name in names {
            let name = composed(&name).into_owned();
            if !places.contains_key(&name) {
                places.insert(name.clone(), classes.len() as i64);
                classes.push(name);
            }
        }
        Labels { taken: true, classes, places: Some(Arc::new(places)), renamed: None }
    }

    /// Whether labels are used.
    pub(super) fn are_taken(&self) -> bool {
        self.taken
    }

    /// Labels from class folders, which are always names, even if they spell numbers.
    ///
    /// # Errors
    /// If a folder is not among the given classes.
    pub(super) fn of_folders(folders: &[String], given: Option<&Classes>) -> Result<Labels, DataError> {
        let Some(given) = given else { return Ok(Labels::named(folders.iter().cloned())) };
        let labels = Labels::named(given.names.iter().cloned());
        match folders.iter().find(|folder| labels.place(folder).is_none()) {
            Some(folder) => Err(DataError::Unclear(format!(
                "the folder {folder:?} is not one of the {} classes in {}; add it there, or rename it",
                given.names.len(),
                given.path.display()
            ))),
            None => Ok(labels),
        }
    }

    /// The class names; empty if labels are the input's own numbers.
    pub(in crate::data) fn classes(&self) -> &[String] {
        &self.classes
    }

    fn place(&self, name: &str) -> Option<i64> {
        self.places.as_ref()?.get(composed(name.trim()).as_ref()).copied()
    }

    /// The number of a label; `None` if it is missing or means "no label".
    pub(in crate::data) fn number(&self, label: Option<&Raw>) -> Option<i64> {
        let label = label.filter(|label| self.taken && !label.is_none())?;
        if let Raw::Word(word) = label
            && let Some(place) = self.place(word)
        {
            return Some(place);
        }
        let number = label.number()?;
        match &self.renamed {
            Some(renamed) => usize::try_from(number).ok().and_then(|at| *renamed.get(at)?),
            // If the classes have names, −1 means "no label".
            None => Some(number).filter(|&number| number != -1 || self.classes.is_empty()),
        }
    }

    fn in_words(&self) -> String {
        let shown: Vec<&str> = self.classes.iter().take(SHOWN).map(String::as_str).collect();
        let more = if self.classes.len() > SHOWN { ", …" } else { "" };
        format!("{} classes by name, counted from 0: {}{more}", self.classes.len(), shown.join(", "))
    }
}

#[cfg(test)]
mod tests;
