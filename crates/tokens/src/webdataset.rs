//! webdataset: `tokens-000003.tar`, for webdataset and `datasets`.
//!
//! A USTAR archive of files with mode 0644 and no time or owner, so that its bytes depend on the
//! rows alone. A row's members follow each other: `KEY.tokens.npy`, an array of the row's shape;
//! `KEY.json`, what came with the image, with key, h, w, width and height in an object `pixtok` of
//! its own (an image's own `pixtok` is `pixtok_original` there); `KEY.txt`, the caption; `KEY.cls`,
//! the label; the last two if the image has them. Two blocks of zeros end the archive.
//!
//! A key ends at the first dot of its last part, as readers see it. Keys are names in the archive, so they cannot be absolute
//! or lead out of where it is unpacked.

use std::path::Path;

use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::files::{Input, Output};
use super::reading::{self, Source};
use super::{Format, Grid, Layout, Place, Row, Rows, Shard, ShardWriter, TokensError, npy};
use pixtok_base::Carried;

/// A tar archive of a few small files a row: `tokens-000003.tar`.
pub struct Webdataset;

const BLOCK: usize = 512;

/// Our field of a row's JSON; all others are the image's own.
const OURS: &str = "pixtok";
/// Added to the name of an image's own field `pixtok`, repeatedly if the new name is taken.
const ORIGINAL: &str = "_original";

fn file(place: Place) -> String {
    format!("tokens-{:06}.tar", place.number)
}

impl Format for Webdataset {
    fn files(&self, place: Place, _layout: &Layout) -> Vec<String> {
        vec![file(place)]
    }

    fn check_key(&self, key: &str) -> Result<(), String> {
        if let Some(reason) = unsuitable(key) {
            return Err(format!("its key cannot go into webdataset: {reason}"));
        }
        Header::new_ustar().set_path(format!("{key}.tokens.npy")).map_err(|_| {
            "its key is too long for a tar archive, whose names have 100 bytes after the last / and 155 before it".to_owned()
        })
    }

    fn make_room(&self, json: &mut Carried) -> bool {
        let mut name = OURS.to_owned();
        while json.get(&name).is_some() {
            name += ORIGINAL;
        }
        json.rename(OURS, &name);
        name != OURS
    }

    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError> {
        let out = Output::create(folder.join(file(place)))?;
        Ok(Box::new(Writer { out, layout: layout.clone(), last: None }))
    }

    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError> {
        let input = Input::open(folder.join(file(shard.place)))?;
        let reader = Reader { input, layout: layout.clone(), next: None, over: false };
        Ok(reading::rows(reader, shard.rows, layout))
    }
}

struct Writer {
    out: Output,
    layout: Layout,
    last: Option<String>,
}

impl Writer {
    fn member(&mut self, key: &str, extension: &str, content: &[u8]) -> Result<(), TokensError> {
        let name = format!("{key}.{extension}");
        let mut header = Header::new_ustar();
        header.set_path(&name).map_err(|_| {
            TokensError::Unsuitable(format!(
                "{key}: a tar archive cannot hold the name {name:?}; its last part may have 100 bytes, what is before \
                 it 155"
            ))
        })?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.out.write(header.as_bytes())?;
        self.out.write(content)?;
        self.out.write(&[0; BLOCK][..padding(content.len() as u64) as usize])
    }
}

/// Zeros after content of so many bytes.
fn padding(bytes: u64) -> u64 {
    let block = BLOCK as u64;
    (block - bytes % block) % block
}

/// Why readers would not find `key` again.
fn unsuitable(key: &str) -> Option<&'static str> {
    let last = key.rsplit('/').next().unwrap_or_default();
    if key.split('/').any(|part| ["", ".", ".."].contains(&part)) || key.contains('\0') {
        Some("it is not a relative path without . and ..")
    } else if last.contains('.') {
        Some("readers take the key to end at a dot")
    } else if key.split('/').next().is_some_and(|first| first.starts_with("__") && first.ends_with("__")) {
        Some("readers skip names in double underscores")
    } else {
        None
    }
}

impl ShardWriter for Writer {
    fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.layout.admit(row)?;
        let key = &row.key;
        if let Some(reason) = unsuitable(key) {
            return Err(TokensError::Unsuitable(format!(
                "the key {key:?} cannot go into webdataset: {reason}"
            )));
        }
        if self.last.as_ref() == Some(key) {
            return Err(TokensError::Unsuitable(format!(
                "two rows in succession have the key {key:?}, which webdataset takes for one; keys must differ"
            )));
        }
        let shape: Vec<u64> = self.layout.shape(row).iter().map(|&axis| axis as u64).collect();
        let mut array = npy::header(npy::descr(self.layout.dtype), &shape);
        array.extend(self.layout.dtype.to_bytes(&row.ids));
        self.member(key, "tokens.npy", &array)?;
        let mut json = row.json.clone().unwrap_or_default();
        let Grid { h, w } = row.grid;
        let ours = json!({ "key": key, "h": h, "w": w, "width": row.width, "height": row.height });
        Webdataset.make_room(&mut json);
        json.insert(OURS, &ours);
        self.member(key, "json", json.to_string().as_bytes())?;
        if let Some(text) = &row.text {
            self.member(key, "txt", text.as_bytes())?;
        }
        if let Some(label) = row.label {
            self.member(key, "cls", label.to_string().as_bytes())?;
        }
        self.last = Some(key.clone());
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), TokensError> {
        self.out.write(&[0; 2 * BLOCK])?;
        self.out.finish()
    }
}

/// A file of the archive.
struct Member {
    name: String,
    content: Vec<u8>,
}

struct Reader {
    input: Input,
    layout: Layout,
    /// A member that was read and is not yet part of a row.
    next: Option<Member>,
    /// Whether the first block of zeros was read.
    over: bool,
}

impl Reader {
    /// The next member; none at the archive's end.
    fn read_member(&mut self) -> Result<Option<Member>, TokensError> {
        if let Some(member) = self.next.take() {
            return Ok(Some(member));
        }
        if self.over {
            return Ok(None);
        }
        let block: [u8; BLOCK] = self.input.array()?;
        if block == [0; BLOCK] {
            self.over = true;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        // The sum is taken with spaces in place of itself.
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        let field: u32 = block[148..156].iter().map(|&byte| u32::from(byte)).sum();
        let wanted = sum - field + 8 * u32::from(b' ');
        let regular = header.as_ustar().is_some() && header.entry_type() == EntryType::Regular;
        if header.cksum().ok() != Some(wanted) || !regular {
            let at = format!("{} bytes before its end", self.input.left() + BLOCK as u64);
            return Err(self.input.damaged(format!("there is no header of a USTAR file {at}")));
        }
        let name = String::from_utf8(header.path_bytes().into_owned());
        let name = name.map_err(|_| self.input.damaged("a name in it is not UTF-8"))?;
        let size = header.entry_size().map_err(|error| self.input.damaged(format!("{name}: {error}")))?;
        let content = self.input.take(size)?;
        self.input.take(padding(size))?;
        Ok(Some(Member { name, content }))
    }

    /// The content of the next member if it has this name.
    fn read_if(&mut self, name: &str) -> Result<Option<Vec<u8>>, TokensError> {
        match self.read_member()? {
            Some(member) if member.name == name => Ok(Some(member.content)),
            other => {
                self.next = other;
                Ok(None)
            }
        }
    }

    fn row(&self, key: &str, array: &[u8], json: &[u8]) -> Result<Row, String> {
        let mut json = Carried::parse(json).map_err(|error| error.to_string())?;
        let ours = json.remove(OURS).and_then(|ours| serde_json::from_str::<Value>(ours.get()).ok());
        let ours = ours.unwrap_or_default();
        if ours["key"].as_str() != Some(key) {
            return Err("its json has another key".into());
        }
        let [h, w, width, height] = ["h", "w", "width", "height"].map(|field| {
            let number = ours[field].as_u64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| format!("its json has no valid {field}"))
        });
        let grid = Grid { h: h?, w: w? };
        let (width, height) = (width?, height?);
        let (header, data) = npy::split(array).ok_or("its tokens are not an npy array")?;
        let dtype = self.layout.dtype;
        if header.descr != npy::descr(dtype) || data.len() % dtype.bytes() != 0 {
            return Err(format!("its tokens are not an array of {}", dtype.name()));
        }
        let ids = dtype.ids_from_bytes(data);
        let json = (!json.is_empty()).then_some(json);
        let row = Row { key: key.to_owned(), grid, width, height, ids, label: None, text: None, json };
        let shape = self.layout.shape(&row);
        if !shape.iter().map(|&axis| axis as u64).eq(header.shape.iter().copied()) {
            return Err(format!("its array has shape {:?}, its grid makes it {shape:?}", header.shape));
        }
        Ok(row)
    }
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        let Some(Member { name, content: array }) = self.read_member()? else {
            return Err(self.damaged(format!("it ends after {number} rows")));
        };
        let Some(key) = name.strip_suffix(".tokens.npy") else {
            return Err(self.damaged(format!("row {number} begins with {name}, not with its tokens")));
        };
        let Some(json) = self.read_if(&format!("{key}.json"))? else {
            return Err(self.damaged(format!("row {number} ({key}) has no {key}.json after its tokens")));
        };
        let row = self.row(key, &array, &json);
        let mut row = row.map_err(|reason| self.damaged(format!("row {number} ({key}): {reason}")))?;
        if let Some(text) = self.read_if(&format!("{key}.txt"))? {
            let text = String::from_utf8(text);
            row.text = Some(text.map_err(|_| self.damaged(format!("{key}.txt is not UTF-8")))?);
        }
        if let Some(label) = self.read_if(&format!("{key}.cls"))? {
            let label = std::str::from_utf8(&label).ok().and_then(|label| label.parse().ok());
            row.label = Some(label.ok_or_else(|| self.damaged(format!("{key}.cls is not a number")))?);
        }
        Ok(row)
    }

    fn end(&mut self) -> Result<(), TokensError> {
        if let Some(member) = self.read_member()? {
            return Err(self.damaged(format!("{} comes after its last row", member.name)));
        }
        let second: [u8; BLOCK] = self.input.array()?;
        if second != [0; BLOCK] {
            return Err(self.input.damaged("something comes after its end"));
        }
        self.input.end()
    }

    fn damaged(&self, reason: String) -> TokensError {
        self.input.damaged(reason)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::fixture;
    use super::*;

    #[test]
    fn rows_come_back() {
        fixture::round_trips(&Webdataset);
        fixture::ragged_layouts().iter().for_each(|layout| fixture::round_trip(&Webdataset, layout));
        fixture::damage_is_noticed(&Webdataset);
    }

    #[test]
    fn members_are_as_webdataset_wants_them() {
        let folder = tempfile::tempdir().unwrap();
        let layout = fixture::layouts()[0].clone();
        let mut rows = fixture::rows(&layout, 2);
        rows[0].key = format!("{}/{}", "d".repeat(90), "n".repeat(60));
        let shards = fixture::write(&Webdataset, folder.path(), &layout, &rows, 2);
        assert_eq!(fixture::read(&Webdataset, folder.path(), &shards, &layout).unwrap(), rows);
        let bytes = std::fs::read(folder.path().join("tokens-000000.tar")).unwrap();
        assert_eq!(bytes[bytes.len() - 1024..], [0; 1024]);
        assert_ne!(bytes[bytes.len() - 1536..bytes.len() - 1024], [0; 512]);
        assert_eq!(&bytes[100..108], b"0000644\0");
        assert_eq!(&bytes[257..265], b"ustar\x0000");
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut members = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = vec![];
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        });
        let mut next = || members.next().unwrap();
        let (name, array) = next();
        assert_eq!(name, format!("{}.tokens.npy", rows[0].key));
        assert_eq!(npy::split(&array).unwrap().0.shape, [5, 7]);
        assert_eq!(next().0, format!("{}.json", rows[0].key));
        assert_eq!(next().0, "ünï/日本 1.tokens.npy");
        let json = r#"{"a":[1,null,123456789012345678901234567890],"pixtok":{"h":5,"height":50,"key":"ünï/日本 1","w":7,"width":71},"z":{"é":1.50,"b":-0}}"#;
        assert_eq!(next(), ("ünï/日本 1.json".into(), json.as_bytes().to_vec()));
        assert_eq!(next(), ("ünï/日本 1.txt".into(), b"two\n\"lines\"".to_vec()));
        assert_eq!(next(), ("ünï/日本 1.cls".into(), b"-7".to_vec()));
        assert!(members.next().is_none());
    }

    #[test]
    fn fields_of_our_name_make_room() {
        for (own, moved) in [
            (r#"{"a":1}"#, None),
            (r#"{"pixtok":1.50}"#, Some(r#"{"pixtok_original":1.50}"#)),
            (r#"{"pixtok_original":1}"#, None),
            (
                r#"{"pixtok":[],"pixtok_original":1}"#,
                Some(r#"{"pixtok_original":1,"pixtok_original_original":[]}"#),
            ),
        ] {
            let mut json = Carried::parse(own.as_bytes()).unwrap();
            assert_eq!(Webdataset.make_room(&mut json), moved.is_some());
            assert_eq!(json.to_string(), moved.unwrap_or(own));
        }
        let folder = tempfile::tempdir().unwrap();
        let layout = fixture::layouts()[0].clone();
        let mut rows = fixture::rows(&layout, 1);
        rows[0].json = Some(Carried::parse(br#"{"pixtok":7}"#).unwrap());
        let shards = fixture::write(&Webdataset, folder.path(), &layout, &rows, 1);
        let read = fixture::read(&Webdataset, folder.path(), &shards, &layout).unwrap();
        assert_eq!(read[0].json.as_ref().unwrap().to_string(), r#"{"pixtok_original":7}"#);
    }

    #[test]
    fn keys_that_readers_would_lose_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let layout = fixture::layouts()[0].clone();
        let place = Place { number: 0, first_row: 0, total: None };
        let row = fixture::rows(&layout, 1).remove(0);
        let long = "n".repeat(120);
        for key in
            ["../x", "/etc/x", "a//b", "a/./b", "a/", "", "a.b", "a/b.c", "__meta__/x", "a\0b", long.as_str()]
        {
            let mut writer = Webdataset.writer(folder.path(), place, &layout).unwrap();
            let error = writer.push(&Row { key: key.into(), ..row.clone() }).unwrap_err();
            assert!(matches!(error, TokensError::Unsuitable(_)), "{key}: {error}");
            assert!(error.to_string().contains(key.trim_end_matches("\0b")), "{error}");
        }
        let mut writer = Webdataset.writer(folder.path(), place, &layout).unwrap();
        writer.push(&Row { key: "v1.5/x".into(), ..row.clone() }).unwrap();
        assert!(
            writer
                .push(&Row { key: "v1.5/x".into(), ..row })
                .unwrap_err()
                .to_string()
                .contains("must differ")
        );
    }
}
