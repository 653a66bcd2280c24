//! A line of JSON for each image: a list of ids, or an object with them in `tokens`, as in a set of
//! the jsonl format.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use super::{Found, FoundRows, GeneratedForm, no_id};
use crate::{Grid, MAX_ID, TokenNames, TokensError, io_error};
use pixtok_base::Action;

/// The characters of a wrong value that are shown.
const SHOWN: usize = 40;

/// The rows of a .jsonl.
pub(super) fn rows(path: &Path, form: &GeneratedForm) -> Result<FoundRows, TokensError> {
    let path = path.to_owned();
    let mut reader = BufReader::new(File::open(&path).map_err(io_error(Action::Open, &path))?);
    let names = form.names.clone();
    let (mut number, mut over) = (0, false);
    Ok(Box::new(std::iter::from_fn(move || {
        while !over {
            let mut line = vec![];
            number += 1;
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => over = true,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => return Some(Ok(Found { line: Some(number), ..parsed(&line, names.as_ref()) })),
                Err(error) => {
                    over = true;
                    return Some(Err(io_error(Action::Read, &path)(error)));
                }
            }
        }
        None
    })))
}

/// The row of a line.
fn parsed(line: &[u8], names: Option<&TokenNames>) -> Found {
    let mut object = match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => object,
        Ok(list) => return Found::bare(ids(&list, names)),
        Err(error) => return Found::bare(Err(format!("it is not JSON ({error})"))),
    };
    let ids = match object.remove("tokens") {
        Some(tokens) => ids(&tokens, names),
        None => Err("it has no list \"tokens\"".into()),
    };
    match grid(&object).and_then(|grid| Ok((grid, key(&object)?))) {
        Ok((grid, key)) => Found { ids, grid, key, line: None },
        Err(reason) => Found::bare(Err(reason)),
    }
}

/// The grid that an object states.
fn grid(object: &Map<String, Value>) -> Result<Option<Grid>, String> {
    let side = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|side| u32::try_from(side).ok()) {
            Some(side) => Ok(Some(side)),
            None => Err(format!("its {name} is {}, not a whole number", shown(value))),
        },
    };
    match (side("h")?, side("w")?) {
        (Some(h), Some(w)) => Ok(Some(Grid { h, w })),
        (None, None) => Ok(None),
        _ => Err("it has one of h and w; give both".into()),
    }
}

/// The key that an object states.
fn key(object: &Map<String, Value>) -> Result<Option<String>, String> {
    match object.get("key") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(key)) => Ok(Some(key.clone())),
        Some(other) => Err(format!("its key is {}, not a string", shown(other))),
    }
}

fn ids(value: &Value, names: Option<&TokenNames>) -> Result<Vec<u32>, String> {
    match (value, names) {
        (Value::Array(items), _) => items.iter().enumerate().map(|(place, item)| id(place, item)).collect(),
        (Value::String(text), Some(names)) => names.parse(text).map_err(|error| error.to_string()),
        _ => Err(format!("it is {}, not a list of ids", shown(value))),
    }
}

fn id(place: usize, item: &Value) -> Result<u32, String> {
    if item.is_array() {
        return Err("its ids are in lists within the list; write them as one list".into());
    }
    let id = item.as_u64().filter(|&id| id <= MAX_ID).and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| no_id(place, &shown(item)))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
