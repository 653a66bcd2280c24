//! webdataset: `tokens-000003.tar`, for webdataset and `datasets`.
//!
//! A USTAR archive of files with mode 0644 and without time or owner, so that its bytes depend only
//! on the rows. The members of a row are adjacent: `KEY.tokens.npy`, an array with the row's shape;
//! `KEY.json`, the fields of the image and an object `pixtok` with key, h, w, width and height (an
//! image's own field `pixtok` becomes `pixtok_original`); `KEY.txt`, the caption, and `KEY.cls`,
//! the label, if the image has them. Two blocks of zeros end the archive.
//!
//! Readers take the first dot of a key's last part as its end. Keys are names in the archive, so
//! they must not be absolute or lead out of the folder where it is unpacked.

mod reader;

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tar::{EntryType, Header};

use self::reader::{Reader, ReaderAt};
use super::files::{Input, Output};
use super::open_files::OpenFiles;
use super::{Format, Grid, Layout, Place, Row, Rows, RowsAt, Shard, ShardWriter, TokensError, npy, reading};
use pixtok_base::Carried;

/// A tar archive with a few small files per row: `tokens-000003.tar`.
pub struct Webdataset;

const BLOCK: usize = 512;

/// pixtok's field in the JSON of a row. All other fields are the image's own.
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
        Ok(reading::rows(Reader::new(input, layout), shard.rows, layout))
    }

    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError> {
        let reader = ReaderAt::open(folder.join(file(shard.place)), shard.rows, layout, files)?;
        Ok(reading::rows_at(reader, shard.rows, layout))
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

/// The zeros that follow content of this length.
fn padding(bytes: u64) -> u64 {
    let block = BLOCK as u64;
    (block - bytes % block) % block
}

/// The reason why readers would not find `key` again; `None` if they would.
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
