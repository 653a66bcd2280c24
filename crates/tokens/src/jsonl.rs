//! jsonl: `tokens.jsonl`, with one JSON object per line. Its fields are key, h, w, width, height,
//! tokens, then label, text and json if the image has them.
//!
//! Tokens are an array of ids, or, with [`super::TokenNames`], one string of their names. Then
//! `added_tokens.json` maps every name to its id, for a Hugging Face tokenizer. `features.json`
//! states the types of all fields for `datasets`, which would otherwise guess them from the first
//! rows.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::companion::{Line, Tokens, parse_line, read_line};
use super::files::{Input, Output, name};
use super::line_index::LineIndex;
use super::open_files::OpenFiles;
use super::reading::{self, Source, SourceAt};
use super::{
    Format, Layout, Place, Row, Rows, RowsAt, Shard, ShardWriter, TokenNames, TokensError, features,
};

/// One JSON object per row: `tokens.jsonl`.
pub struct Jsonl;

impl Format for Jsonl {
    fn takes_names(&self) -> bool {
        true
    }

    fn merges_into_one(&self) -> bool {
        true
    }

    fn check(&self, layout: &Layout) -> Result<(), TokensError> {
        // Names may come from a file. Formatting no ids checks whether they are valid.
        layout.names.as_ref().map_or(Ok(()), |names| names.format(&[]).map(drop))
    }

    fn files(&self, place: Place, _layout: &Layout) -> Vec<String> {
        vec![name("tokens", "jsonl", place)]
    }

    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError> {
        self.check(layout)?;
        let out = Output::create(folder.join(name("tokens", "jsonl", place)))?;
        Ok(Box::new(Writer { out, layout: layout.clone() }))
    }

    fn index(
        &self,
        _folder: &Path,
        _shards: &[Shard],
        layout: &Layout,
    ) -> Result<Vec<(String, Vec<u8>)>, TokensError> {
        let names = layout.names.iter();
        let added = names.map(|names| Ok(("added_tokens.json".into(), names.added_tokens()?)));
        added.chain([Ok(("features.json".into(), stated(layout)))]).collect()
    }

    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError> {
        let input = Input::open(folder.join(name("tokens", "jsonl", shard.place)))?;
        Ok(reading::rows(Reader { input, names: layout.names.clone() }, shard.rows, layout))
    }

    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError> {
        let lines = LineIndex::open(folder.join(name("tokens", "jsonl", shard.place)), shard.rows, files)?;
        let reader = ReaderAt { lines, names: layout.names.clone() };
        Ok(reading::rows_at(reader, shard.rows, layout))
    }
}

/// The fields of a line in the form that `datasets.Features.from_dict` takes.
fn stated(layout: &Layout) -> Vec<u8> {
    let value = features::value;
    let tokens = if layout.names.is_none() { features::ids(layout) } else { value("string") };
    let fields = json!({
        "key": value("string"),
        "h": value("int32"),
        "w": value("int32"),
        "width": value("int32"),
        "height": value("int32"),
        "tokens": tokens,
        "label": features::label(layout),
        "text": value("string"),
        "json": { "_type": "Json" },
    });
    format!("{fields:#}\n").into_bytes()
}

struct Writer {
    out: Output,
    layout: Layout,
}

impl ShardWriter for Writer {
    fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.layout.admit(row)?;
        let tokens = match &self.layout.names {
            None => Tokens::Ids((&row.ids).into()),
            Some(names) => {
                let text = names.format(&row.ids);
                let named = |error| TokensError::Unsuitable(format!("{}: {error}", row.key));
                Tokens::Names(text.map_err(named)?.into())
            }
        };
        self.out.json_line(&Line::new(row, Some(tokens)))
    }

    fn finish(self: Box<Self>) -> Result<(), TokensError> {
        self.out.finish()
    }
}

/// Converts the line of row `number` to a row.
fn row(mut line: Line<'_>, names: Option<&TokenNames>, number: u64) -> Result<Row, String> {
    let ids = match (line.tokens.take(), names) {
        (Some(Tokens::Ids(ids)), None) => Ok(ids.into_owned()),
        (Some(Tokens::Names(text)), Some(names)) => names.parse(&text).map_err(|error| error.to_string()),
        (None, _) => Err("it has no tokens".into()),
        (Some(_), None) => Err("its tokens are not an array of ids".into()),
        (Some(_), Some(_)) => Err("its tokens are not a string of names".into()),
    };
    ids.map(|ids| line.row(ids)).map_err(|reason| format!("line {}: {reason}", number + 1))
}

struct Reader {
    input: Input,
    names: Option<TokenNames>,
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        let line = read_line(&mut self.input, number)?;
        row(line, self.names.as_ref(), number).map_err(|reason| self.damaged(reason))
    }

    fn end(&mut self) -> Result<(), TokensError> {
        self.input.end()
    }

    fn damaged(&self, reason: String) -> TokensError {
        self.input.damaged(reason)
    }
}

struct ReaderAt {
    lines: LineIndex,
    names: Option<TokenNames>,
}

impl SourceAt for ReaderAt {
    fn row(&self, number: u64) -> Result<Row, TokensError> {
        let line = self.lines.line(number)?;
        parse_line(&line, number)
            .and_then(|line| row(line, self.names.as_ref(), number))
            .map_err(|reason| self.damaged(number, reason))
    }

    fn damaged(&self, _number: u64, reason: String) -> TokensError {
        self.lines.damaged(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn named() -> Layout {
        let names = TokenNames::new("<|visual token {:06}|>", 0, 65_536).unwrap();
        Layout { names: Some(names), ..fixture::layouts()[0].clone() }
    }

    #[test]
    fn rows_come_back() {
        fixture::round_trips(&Jsonl);
        fixture::ragged_layouts().iter().for_each(|layout| fixture::round_trip(&Jsonl, layout));
        fixture::damage_is_noticed(&Jsonl);
        fixture::round_trip(&Jsonl, &named());
        fixture::damage_to(&Jsonl, &named());
    }

    #[test]
    fn lines_are_compact_json() {
        let folder = tempfile::tempdir().unwrap();
        let mut layout = fixture::layouts()[0].clone();
        let mut rows = fixture::rows(&layout, 2);
        fixture::write(&Jsonl, folder.path(), &layout, &rows, 2);
        let text = std::fs::read_to_string(folder.path().join("tokens.jsonl")).unwrap();
        let start = r#"{"key":"a","h":5,"w":7,"width":70,"height":50,"tokens":[0,65535,"#;
        assert!(text.starts_with(start), "{text}");
        assert!(text.lines().nth(1).unwrap().contains(r#"],"label":-7,"text":"two\n\"lines\"","json":{"#));
        let features = |layout: &Layout| {
            let index = Jsonl.index(folder.path(), &[], layout).unwrap();
            let (name, text) = index.last().unwrap();
            assert_eq!(name, "features.json");
            serde_json::from_slice::<serde_json::Value>(text).unwrap()
        };
        assert_eq!(features(&layout)["tokens"]["feature"]["dtype"], "uint16");
        assert_eq!(features(&named())["tokens"]["dtype"], "string");
        // Each field of a line has its declared type.
        let line: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        let names =
            |object: &serde_json::Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&features(&layout)), names(&line));

        layout = named();
        let shards = fixture::write(&Jsonl, folder.path(), &layout, &rows, 2);
        let text = std::fs::read_to_string(folder.path().join("tokens.jsonl")).unwrap();
        assert!(text.contains(r#""tokens":"<|visual token 000000|><|visual token 065535|>"#), "{text}");
        let index = Jsonl.index(folder.path(), &shards, &layout).unwrap();
        assert_eq!(index[0].0, "added_tokens.json");

        // An id that is not that of a code is refused, with the key of the image.
        layout.names = Some(TokenNames::new("i{} ", 1, 65_535).unwrap());
        rows.truncate(1);
        let place = shards[0].place;
        let mut writer = Jsonl.writer(folder.path(), place, &layout).unwrap();
        assert_eq!(
            writer.push(&rows[0]).unwrap_err().to_string(),
            "a: id 0 has no name: those of codes are 1 to 65535"
        );
    }
}
