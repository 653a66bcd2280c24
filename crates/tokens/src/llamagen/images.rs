//! The files of single images.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::super::files::Input;
use super::super::{Layout, Place, Row, TokensError, npy};
use super::folders;

/// The two folders, and how images are laid out in their files.
pub(super) struct Images {
    pub codes: PathBuf,
    pub labels: PathBuf,
    first: u64,
    pub views: u64,
    pub length: u64,
}

impl Images {
    /// The images of a shard.
    pub fn new(folder: &Path, place: Place, layout: &Layout) -> Result<Self, TokensError> {
        let views = u64::from(layout.views.max(1));
        if !place.first_row.is_multiple_of(views) {
            let first = place.first_row;
            return Err(TokensError::Unsuitable(format!(
                "a shard of llamagen begins with an image's first view, not at row {first} of {views} views an image"
            )));
        }
        let [codes, labels] = folders(layout).map(|name| folder.join(name));
        let length = layout.one_length("llamagen")?.into();
        Ok(Self { codes, labels, first: place.first_row / views, views, length })
    }

    /// Refuses a shard that ends within an image.
    pub fn check_rows(&self, rows: u64) -> Result<(), TokensError> {
        if rows.is_multiple_of(self.views) {
            return Ok(());
        }
        Err(self.damaged(0, format!("{rows} rows are not all views of images")))
    }

    /// The file of an image of the shard in one of the folders.
    pub fn file(&self, folder: &Path, image: u64) -> PathBuf {
        folder.join(format!("{}.npy", self.first.saturating_add(image)))
    }

    /// The ids of each view of an image, and its label.
    pub fn read(&self, image: u64) -> Result<(VecDeque<Vec<u32>>, Option<i64>), TokensError> {
        let Self { views, length, .. } = *self;
        let mut codes = Input::open(self.file(&self.codes, image))?;
        let wanted = npy::Header { descr: "<i8".into(), shape: vec![1, views, length] };
        npy::expect(&mut codes, &wanted, views.checked_mul(length).and_then(|ids| ids.checked_mul(8)))?;
        let mut read = VecDeque::new();
        for _ in 0..views {
            let bytes = codes.take(length * 8)?;
            let ids = bytes.as_chunks().0.iter().map(|&id| u32::try_from(i64::from_le_bytes(id)));
            let ids: Result<_, _> = ids.collect();
            read.push_back(ids.map_err(|_| codes.damaged("an id in it is out of range"))?);
        }
        let mut label = Input::open(self.file(&self.labels, image))?;
        npy::expect(&mut label, &npy::Header { descr: "<i8".into(), shape: vec![1] }, Some(8))?;
        Ok((read, Some(i64::from_le_bytes(label.array()?)).filter(|&label| label != -1)))
    }

    /// Row `number` with these ids and this label. If there is a companion, it must state the same
    /// label.
    pub fn row(
        &self,
        number: u64,
        row: Row,
        has_companion: bool,
        ids: Vec<u32>,
        label: Option<i64>,
    ) -> Result<Row, TokensError> {
        let told = row.label.filter(|&label| label != -1);
        if has_companion && told != label {
            let reason = format!(
                "row {number} ({}) has label {label:?} there and {:?} in its companion",
                row.key, row.label
            );
            return Err(self.damaged(number / self.views, reason));
        }
        Ok(Row { ids, label: row.label.or(label), ..row })
    }

    /// The error for damaged codes of an image.
    pub fn damaged(&self, image: u64, reason: String) -> TokensError {
        TokensError::Damaged { path: self.file(&self.codes, image), reason }
    }
}
