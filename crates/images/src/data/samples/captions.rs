//! The rule for captions in columns of Parquet, in lists and in `metadata.jsonl` or `metadata.csv`.
//!
//! For each row, the caption comes from the first column or field that has one: a string, or a list
//! of strings, of which the first is the caption. A string without words counts only if there is
//! nothing else. The whole list is kept as `captions` with the image's other fields.
//!
//! In a WebDataset and beside the images of a folder, captions have their own files (`.txt`,
//! `.text`, `.caption`, in order of precedence). The fields of the JSON, `KEY.json`, are kept
//! unchanged. But if no such file has words, one of these fields gives the caption by the same
//! rule.

use serde_json::Value;
use serde_json::value::RawValue;

use super::Sample;
use pixtok_base::Carried;

/// Columns and fields that hold captions, in order of precedence.
pub(super) const NAMES: [&str; 4] = ["text", "caption", "txt", "captions"];
/// The field for a list of captions.
const LIST: &str = "captions";

/// The caption of an image in a column or field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Caption {
    /// The caption itself.
    pub(super) text: String,
    /// The whole list, if it has several.
    pub(super) list: Option<Vec<Option<String>>>,
}

impl Caption {
    pub(super) fn one(text: String) -> Caption {
        Caption { text, list: None }
    }

    /// The caption of a list, if the list has a string.
    pub(super) fn of_list(list: Vec<Option<String>>) -> Option<Caption> {
        let texts = || list.iter().flatten();
        let text = texts().find(|text| has_words(text)).or(texts().next())?.clone();
        Some(Caption { text, list: Some(list).filter(|list| list.len() > 1) })
    }

    /// The caption in a JSON value, if it is one.
    fn of_json(value: &RawValue) -> Option<Caption> {
        match value.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(value.get()).ok().map(Caption::one),
            Some(b'[') => serde_json::from_str(value.get()).ok().and_then(Caption::of_list),
            _ => None,
        }
    }

    /// The list as a field of the image's JSON.
    pub(super) fn carried(&self) -> Option<Carried> {
        let mut carried = Carried::default();
        carried.insert(LIST, &Value::from(self.list.clone()?));
        Some(carried)
    }
}

/// Whether there is more than white space.
pub(super) fn has_words(text: &str) -> bool {
    !text.trim().is_empty()
}

/// Chooses the caption from those of the columns, in their order; returns it with its tag and the
/// number of others that have words too.
pub(super) fn choose<T>(found: Vec<(T, Caption)>) -> Option<(T, Caption, u64)> {
    let wordy = |(_, caption): &(T, Caption)| has_words(&caption.text);
    let others = found.iter().filter(|&found| wordy(found)).count().saturating_sub(1);
    let at = found.iter().position(wordy).unwrap_or(0);
    found.into_iter().nth(at).map(|(from, caption)| (from, caption, others as u64))
}

/// The caption in an object's fields.
fn find<'a>(object: &Carried, names: &'a [String]) -> Option<(&'a str, Caption)> {
    let caption = |name: &'a String| Some((name.as_str(), Caption::of_json(object.get(name)?)?));
    choose(names.iter().filter_map(caption).collect()).map(|(name, caption, _)| (name, caption))
}

/// Removes the caption from an image's JSON. A list of several captions stays there.
pub(super) fn take(object: &mut Carried, names: &[String]) -> Option<String> {
    let (name, caption) = find(object, names)?;
    if caption.list.is_none() {
        object.remove(name);
    } else if object.get(LIST).is_none() {
        object.rename(name, LIST);
    }
    Some(caption.text)
}

/// If a sample has no caption with words, uses the one in its JSON.
pub(super) fn take_from_json(sample: &mut Sample, names: &[String]) {
    if sample.text.as_deref().is_some_and(has_words) {
        return;
    }
    let Some(json) = &mut sample.json else { return };
    let Some(text) = take(json, names) else { return };
    if json.is_empty() {
        sample.json = None;
    }
    sample.text = Some(text);
}

/// The kind of caption in an object's fields, determined before the work starts.
pub(super) enum Told<'a> {
    /// A caption with words.
    Words,
    /// An empty one.
    Blank,
    /// Neither a string nor a list of strings.
    Odd(&'a RawValue),
    Nothing,
}

pub(super) fn look<'a>(object: &'a Carried, names: &[String]) -> Told<'a> {
    match find(object, names) {
        Some((_, caption)) if has_words(&caption.text) => Told::Words,
        Some(_) => Told::Blank,
        None => {
            let mut there = names.iter().filter_map(|name| object.get(name));
            there.find(|value| !["null", "[]"].contains(&value.get())).map_or(Told::Nothing, Told::Odd)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> (Option<String>, String) {
        let mut object = Carried::parse(text.as_bytes()).unwrap();
        let text = take(&mut object, &NAMES.map(str::to_owned));
        (text, object.to_string())
    }

    #[test]
    fn the_first_field_with_words_counts_and_lists_stay_whole() {
        for (object, text, rest) in [
            (r#"{"caption":"b","text":"a"}"#, Some("a"), r#"{"caption":"b"}"#),
            (r#"{"caption":"b","text":null}"#, Some("b"), r#"{"text":null}"#),
            (r#"{"caption":"b","text":" "}"#, Some("b"), r#"{"text":" "}"#),
            (r#"{"caption":"b","text":7}"#, Some("b"), r#"{"text":7}"#),
            (r#"{"text":""}"#, Some(""), "{}"),
            (r#"{"text":["a"]}"#, Some("a"), "{}"),
            (r#"{"text":[null,"","a"],"w":1}"#, Some("a"), r#"{"captions":[null,"","a"],"w":1}"#),
            (r#"{"captions":["a","b"],"text":[]}"#, Some("a"), r#"{"captions":["a","b"],"text":[]}"#),
            // Nothing is overwritten.
            (r#"{"captions":3,"text":["a","b"]}"#, Some("a"), r#"{"captions":3,"text":["a","b"]}"#),
            (r#"{"text":["a",7]}"#, None, r#"{"text":["a",7]}"#),
            (r#"{"txt":{"a":1}}"#, None, r#"{"txt":{"a":1}}"#),
        ] {
            let (found, left) = taken(object);
            assert_eq!((found.as_deref(), left.as_str()), (text, rest), "{object}");
        }
    }
}
