//! The Arrow schema of a table, as writers of Parquet keep it beside the columns.
//!
//! Parquet has lists, but none of a fixed length. Readers that build Arrow tables (pyarrow,
//! `datasets`, polars) take the length from the file's metadata `ARROW:schema`: an Arrow IPC message
//! with the schema, in base64. The message is a flatbuffer
//! (<https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc>,
//! <https://flatbuffers.dev/internals/>). The library that would write it is larger than all that
//! writes the tables, and this needs nine fields.

use super::Dtype;

/// The key of the metadata.
pub(super) const KEY: &str = "ARROW:schema";

/// Arrow's numbers for the types of columns.
const INT: i64 = 2;
const UTF8: i64 = 5;
const FIXED_SIZE_LIST: i64 = 16;
/// Arrow's numbers for the fifth version of its messages, and for a message with a schema.
const VERSION_5: i64 = 4;
const SCHEMA: i64 = 1;
/// The place of each field in a table: all have eight bytes, which suits every type of number.
const SLOT: usize = 8;

/// The schema of the tables of [`super::parquet`] with `length` ids a row, in base64. pyarrow takes
/// the metadata of a table from here alone, so it has those of the file again, by key and value.
pub(super) fn base64(dtype: Dtype, length: u32, metadata: &[(&str, &str)]) -> String {
    encoded(&message(dtype, length, metadata))
}

/// The message: a mark, the length, and the flatbuffer, filled up to a multiple of 8 bytes.
fn message(dtype: Dtype, length: u32, metadata: &[(&str, &str)]) -> Vec<u8> {
    let element = field("element", false, ids(dtype), vec![]);
    let list = (FIXED_SIZE_LIST, vec![(0, Slot::Number(length.into()))]);
    let columns = vec![
        field("key", false, text(), vec![]),
        field("tokens", false, list, vec![element]),
        field("h", false, integer(16, false), vec![]),
        field("w", false, integer(16, false), vec![]),
        field("width", false, integer(32, true), vec![]),
        field("height", false, integer(32, true), vec![]),
        field("label", true, integer(64, true), vec![]),
        field("text", true, text(), vec![]),
        field("json", true, text(), vec![]),
    ];
    let metadata = metadata.iter().map(|(key, value)| vec![(0, Slot::Text(key)), (1, Slot::Text(value))]);
    let schema = vec![(1, Slot::Tables(columns)), (2, Slot::Tables(metadata.collect()))];
    let root = vec![(0, Slot::Number(VERSION_5)), (1, Slot::Number(SCHEMA)), (2, Slot::Table(schema))];
    let mut buffer = Buffer(vec![0; 4]);
    let at = buffer.table(&root);
    buffer.point(0, at);
    buffer.align(8);
    let length = buffer.0.len() as u32;
    [&[0xFFu8; 4][..], &length.to_le_bytes()[..], &buffer.0[..]].concat()
}

/// A table of a flatbuffer: its fields by their numbers in Arrow's `Schema.fbs`.
type Table<'a> = Vec<(u16, Slot<'a>)>;

/// The value of a field.
enum Slot<'a> {
    Number(i64),
    Text(&'a str),
    Table(Table<'a>),
    Tables(Vec<Table<'a>>),
}

fn field<'a>(
    name: &'a str,
    nullable: bool,
    (number, of_type): (i64, Table<'a>),
    children: Vec<Table<'a>>,
) -> Table<'a> {
    vec![
        (0, Slot::Text(name)),
        (1, Slot::Number(nullable.into())),
        (2, Slot::Number(number)),
        (3, Slot::Table(of_type)),
        (5, Slot::Tables(children)),
    ]
}

fn ids(dtype: Dtype) -> (i64, Table<'static>) {
    match dtype {
        Dtype::U16 => integer(16, false),
        Dtype::I32 => integer(32, true),
    }
}

fn integer(bits: i64, signed: bool) -> (i64, Table<'static>) {
    (INT, vec![(0, Slot::Number(bits)), (1, Slot::Number(signed.into()))])
}

fn text() -> (i64, Table<'static>) {
    (UTF8, vec![])
}

/// A flatbuffer that is written from its start: what a table points at follows it.
struct Buffer(Vec<u8>);

impl Buffer {
    fn align(&mut self, bytes: usize) {
        self.0.resize(self.0.len().next_multiple_of(bytes), 0);
    }

    /// Makes the four bytes at `from` point at `to`, which lies behind them.
    fn point(&mut self, from: usize, to: usize) {
        self.0[from..from + 4].copy_from_slice(&((to - from) as u32).to_le_bytes());
    }

    /// Writes a table, with the list of its fields' places before it, and returns its place.
    fn table(&mut self, fields: &[(u16, Slot<'_>)]) -> usize {
        self.align(SLOT);
        let list = self.0.len();
        let count = fields.iter().map(|(number, _)| usize::from(*number) + 1).max().unwrap_or(0);
        let mut places = vec![0; count];
        for (at, (number, _)) in fields.iter().enumerate() {
            places[usize::from(*number)] = ((1 + at) * SLOT) as u16;
        }
        let sizes = [4 + 2 * count as u16, ((1 + fields.len()) * SLOT) as u16];
        self.0.extend(sizes.iter().chain(&places).flat_map(|size: &u16| size.to_le_bytes()));
        self.align(SLOT);
        let table = self.0.len();
        self.0.extend(((table - list) as i32).to_le_bytes());
        self.0.resize(table + (1 + fields.len()) * SLOT, 0);
        for (at, (_, slot)) in fields.iter().enumerate() {
            let place = table + (1 + at) * SLOT;
            let target = match slot {
                Slot::Number(number) => {
                    self.0[place..place + SLOT].copy_from_slice(&number.to_le_bytes());
                    continue;
                }
                Slot::Text(text) => self.text(text),
                Slot::Table(fields) => self.table(fields),
                Slot::Tables(tables) => self.tables(tables),
            };
            self.point(place, target);
        }
        table
    }

    fn text(&mut self, text: &str) -> usize {
        self.align(4);
        let place = self.0.len();
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
        self.0.push(0);
        place
    }

    fn tables(&mut self, tables: &[Table<'_>]) -> usize {
        self.align(4);
        let place = self.0.len();
        self.0.extend((tables.len() as u32).to_le_bytes());
        let first = self.0.len();
        self.0.resize(first + 4 * tables.len(), 0);
        for (at, fields) in tables.iter().enumerate() {
            let table = self.table(fields);
            self.point(first + 4 * at, table);
        }
        place
    }
}

/// Base64 with the usual alphabet, padded.
fn encoded(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0u32, |sum, at| (sum << 8) | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = (number >> (18 - 6 * at)) as usize % 64;
            text.push(if at <= chunk.len() { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_its_padding() {
        // RFC 4648, section 10.
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(encoded(bytes.as_bytes()), text);
        }
        assert_eq!(encoded(&[0xFB, 0xFF]), "+/8=");
    }

    /// The number of the given width at a place.
    fn number<const N: usize>(bytes: &[u8], at: usize) -> i64 {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&bytes[at..at + N]);
        i64::from_le_bytes(wide)
    }

    /// What a pointer points at.
    fn follow(bytes: &[u8], at: usize) -> usize {
        at + number::<4>(bytes, at) as usize
    }

    /// The place of a field of a table.
    fn place(bytes: &[u8], table: usize, field: usize) -> usize {
        let list = table - number::<4>(bytes, table) as usize;
        assert!(4 + 2 * field < number::<2>(bytes, list) as usize, "the table has no field {field}");
        table + number::<2>(bytes, list + 4 + 2 * field) as usize
    }

    fn string(bytes: &[u8], at: usize) -> &str {
        let length = number::<4>(bytes, at) as usize;
        assert_eq!(bytes[at + 4 + length], 0);
        str::from_utf8(&bytes[at + 4..at + 4 + length]).unwrap()
    }

    /// Read by the rules of flatbuffers. pyarrow reads it in `scripts/test_readers.py`.
    #[test]
    fn the_message_holds_the_columns_and_the_length() {
        for (dtype, bits, signed) in [(Dtype::U16, 16, 0), (Dtype::I32, 32, 1)] {
            let message = message(dtype, 105, &[("huggingface", "{}")]);
            assert_eq!(message[..4], [0xFF; 4]);
            let bytes = &message[8..];
            assert_eq!(number::<4>(&message, 4) as usize, bytes.len());
            assert_eq!(bytes.len() % 8, 0);
            let root = follow(bytes, 0);
            let header = [0, 1].map(|field| number::<2>(bytes, place(bytes, root, field)));
            assert_eq!(header, [VERSION_5, SCHEMA]);
            let schema = follow(bytes, place(bytes, root, 2));
            let fields = follow(bytes, place(bytes, schema, 1));
            let columns: Vec<usize> = (0..number::<4>(bytes, fields) as usize)
                .map(|at| follow(bytes, fields + 4 + 4 * at))
                .collect();
            let names: Vec<&str> =
                columns.iter().map(|&column| string(bytes, follow(bytes, place(bytes, column, 0)))).collect();
            assert_eq!(names, ["key", "tokens", "h", "w", "width", "height", "label", "text", "json"]);
            let tokens = columns[1];
            assert_eq!(number::<1>(bytes, place(bytes, tokens, 2)), FIXED_SIZE_LIST);
            let list = follow(bytes, place(bytes, tokens, 3));
            assert_eq!(number::<4>(bytes, place(bytes, list, 0)), 105);
            let children = follow(bytes, place(bytes, tokens, 5));
            assert_eq!(number::<4>(bytes, children), 1);
            let element = follow(bytes, children + 4);
            let integer = follow(bytes, place(bytes, element, 3));
            assert_eq!(number::<4>(bytes, place(bytes, integer, 0)), bits);
            assert_eq!(number::<1>(bytes, place(bytes, integer, 1)), signed);
            let metadata = follow(bytes, place(bytes, schema, 2));
            assert_eq!(number::<4>(bytes, metadata), 1);
            let pair = follow(bytes, metadata + 4);
            let texts = [0, 1].map(|field| string(bytes, follow(bytes, place(bytes, pair, field))));
            assert_eq!(texts, ["huggingface", "{}"]);
        }
    }
}
