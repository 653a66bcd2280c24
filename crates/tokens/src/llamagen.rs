//! llamagen: `imagenet{S}_codes/{i}.npy` and `imagenet{S}_labels/{i}.npy`, as LlamaGen's trainers
//! read them, and the companion `keys.jsonl`.
//!
//! Files are named by the number of the image in the whole set; S is the side in pixels. Codes are
//! `<i8` `[1, views, ids of a view]`. The label is `<i8` `[1]`, and -1 for an image without a
//! label.

mod images;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use self::images::Images;
use super::companion::{self, Keys, KeysAt, KeysWriter};
use super::files::Output;
use super::npy;
use super::open_files::OpenFiles;
use super::reading::{self, Source, SourceAt};
use super::{Dtype, Format, Layout, Place, Row, Rows, RowsAt, Shard, ShardWriter, TokensError, io_error};
use pixtok_base::Action;

/// Two arrays per image: `imagenet256_codes/0.npy`.
pub struct Llamagen;

/// The word that LlamaGen's loader looks for in a path.
const FLIP: &str = "flip";

fn folders(layout: &Layout) -> [String; 2] {
    ["codes", "labels"].map(|what| format!("imagenet{}_{what}/", layout.image_side))
}

/// The layout as it is written: ids are always i64 here.
fn as_written(layout: &Layout) -> Layout {
    Layout { dtype: Dtype::I32, ..layout.clone() }
}

impl Format for Llamagen {
    fn takes_any_sizes(&self) -> bool {
        false
    }

    fn check(&self, layout: &Layout) -> Result<(), TokensError> {
        layout.one_length("llamagen").map(drop)
    }

    fn advice(&self, folder: &Path, layout: &Layout, _vocab_size: u64) -> Option<String> {
        let known = layout.views < 2 || folder.to_string_lossy().contains(FLIP);
        (!known).then(|| {
            format!(
                "LlamaGen's loader draws one of an image's {} views only where the path of the folder contains \"{FLIP}\", and \
                 takes them for one sequence elsewhere; {} does not contain it, so rename the folder before training",
                layout.views,
                folder.display()
            )
        })
    }

    fn files(&self, place: Place, layout: &Layout) -> Vec<String> {
        let mut files = folders(layout).to_vec();
        files.push(companion::file(place));
        files
    }

    fn writer(
        &self,
        folder: &Path,
        place: Place,
        layout: &Layout,
    ) -> Result<Box<dyn ShardWriter>, TokensError> {
        let images = Images::new(folder, place, layout)?;
        for folder in [&images.codes, &images.labels] {
            fs::create_dir_all(folder).map_err(io_error(Action::Create, folder))?;
        }
        let keys = KeysWriter::create(folder, place)?;
        Ok(Box::new(Writer { images, keys, layout: as_written(layout), views: vec![], image: 0 }))
    }

    fn rows(&self, folder: &Path, shard: Shard, layout: &Layout) -> Result<Rows, TokensError> {
        let images = Images::new(folder, shard.place, layout)?;
        let keys = Keys::open(folder, shard, layout)?;
        images.check_rows(shard.rows)?;
        let reader = Reader { images, keys, views: VecDeque::new(), label: None, image: 0 };
        Ok(reading::rows(reader, shard.rows, &as_written(layout)))
    }

    fn rows_at(
        &self,
        folder: &Path,
        shard: Shard,
        layout: &Layout,
        files: &Arc<OpenFiles>,
    ) -> Result<RowsAt, TokensError> {
        let images = Images::new(folder, shard.place, layout)?;
        images.check_rows(shard.rows)?;
        let keys = KeysAt::open(folder, shard, layout, files)?;
        Ok(reading::rows_at(ReaderAt { images, keys }, shard.rows, &as_written(layout)))
    }
}

struct Writer {
    images: Images,
    keys: KeysWriter,
    layout: Layout,
    /// The views of the image that is not yet complete.
    views: Vec<Vec<u32>>,
    image: u64,
}

impl ShardWriter for Writer {
    fn push(&mut self, row: &Row) -> Result<(), TokensError> {
        self.layout.admit(row)?;
        self.views.push(row.ids.clone());
        if self.views.len() as u64 == self.images.views {
            let Images { views, length, .. } = self.images;
            let mut codes = Output::create(self.images.file(&self.images.codes, self.image))?;
            codes.write(&npy::header("<i8", &[1, views, length]))?;
            for id in self.views.drain(..).flatten() {
                codes.write(&i64::from(id).to_le_bytes())?;
            }
            codes.finish()?;
            let mut label = Output::create(self.images.file(&self.images.labels, self.image))?;
            label.write(&npy::header("<i8", &[1]))?;
            label.write(&row.label.unwrap_or(-1).to_le_bytes())?;
            label.finish()?;
            self.image += 1;
        }
        self.keys.push(row)
    }

    fn finish(self: Box<Self>) -> Result<(), TokensError> {
        if !self.views.is_empty() {
            let (has, needs) = (self.views.len(), self.images.views);
            return Err(TokensError::Unsuitable(format!(
                "the shard's last image has {has} of its {needs} views; end shards after the last view of an image"
            )));
        }
        self.keys.finish()
    }
}

struct Reader {
    images: Images,
    keys: Keys,
    /// The remaining views of an image.
    views: VecDeque<Vec<u32>>,
    label: Option<i64>,
    image: u64,
}

impl Source for Reader {
    fn next(&mut self, number: u64) -> Result<Row, TokensError> {
        if self.views.is_empty() {
            (self.views, self.label) = self.images.read(self.image)?;
            self.image += 1;
        }
        let ids = self.views.pop_front().unwrap_or_default();
        let row = self.keys.next(number)?;
        let has_companion = matches!(self.keys, Keys::There { .. });
        self.images.row(number, row, has_companion, ids, self.label)
    }

    fn end(&mut self) -> Result<(), TokensError> {
        self.keys.end()
    }

    fn damaged(&self, reason: String) -> TokensError {
        self.images.damaged(self.image.saturating_sub(1), reason)
    }
}

/// Opens the two files of an image for each row: they are too many to stay open.
struct ReaderAt {
    images: Images,
    keys: KeysAt,
}

impl SourceAt for ReaderAt {
    fn row(&self, number: u64) -> Result<Row, TokensError> {
        let (image, view) = (number / self.images.views, number % self.images.views);
        let (views, label) = self.images.read(image)?;
        let ids = views.into_iter().nth(view as usize).unwrap_or_default();
        let has_companion = matches!(self.keys, KeysAt::There(_));
        self.images.row(number, self.keys.row(number)?, has_companion, ids, label)
    }

    fn damaged(&self, number: u64, reason: String) -> TokensError {
        self.images.damaged(number / self.images.views, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn rows_come_back() {
        fixture::round_trips(&Llamagen);
        fixture::comes_back_without_companion(&Llamagen);
        fixture::damage_is_noticed(&Llamagen);
        assert!(Llamagen.check(&fixture::ragged_layouts()[0]).is_err());
    }

    #[test]
    fn two_views_need_a_path_that_says_so() {
        let layout = Layout { views: 2, ..fixture::layouts()[1].clone() };
        let advice = |folder: &str, layout: &Layout| Llamagen.advice(Path::new(folder), layout, 1000);
        assert!(advice("a/codes", &layout).unwrap().contains("a/codes does not contain it"));
        assert_eq!(advice("a-flip/codes", &layout), None);
        assert_eq!(advice("a/codes", &fixture::layouts()[1]), None);
    }

    #[test]
    fn an_image_is_two_arrays_with_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout { views: 2, image_side: 384, ..fixture::layouts()[1].clone() };
        let mut rows = fixture::rows(&layout, 6);
        for (at, row) in rows.iter_mut().enumerate() {
            row.label = Some(at as i64 / 2);
        }
        let shards = fixture::write(&Llamagen, folder.path(), &layout, &rows, 4);
        assert_eq!(fixture::read(&Llamagen, folder.path(), &shards, &layout).unwrap(), rows);
        let codes = fs::read(folder.path().join("imagenet384_codes/2.npy")).unwrap();
        let (header, data) = npy::split(&codes).unwrap();
        assert_eq!((header.descr.as_str(), &header.shape[..]), ("<i8", &[1, 2, 35][..]));
        assert_eq!(data[35 * 8..36 * 8], i64::from(rows[5].ids[0]).to_le_bytes());
        let label = fs::read(folder.path().join("imagenet384_labels/2.npy")).unwrap();
        assert_eq!(npy::split(&label).unwrap().1, 2_i64.to_le_bytes());
        assert!(folder.path().join("keys-00001-of-00002.jsonl").exists());

        // An incomplete image is refused at the end of a shard and at its start.
        let place = Place { number: 0, first_row: 0, total: None };
        let mut writer = Llamagen.writer(folder.path(), place, &layout).unwrap();
        writer.push(&rows[0]).unwrap();
        assert!(writer.finish().unwrap_err().to_string().contains("1 of its 2 views"));
        assert!(Llamagen.writer(folder.path(), Place { first_row: 1, ..place }, &layout).is_err());

        // A label that contradicts the companion is refused.
        fs::write(folder.path().join("imagenet384_labels/0.npy"), label).unwrap();
        let error = fixture::read(&Llamagen, folder.path(), &shards, &layout).unwrap_err();
        assert!(error.to_string().contains("in its companion"), "{error}");
    }
}
