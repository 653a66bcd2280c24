//! What a user asks to be taken from an input.

use super::labels::Classes;
use super::{DataError, Found};

/// Which columns or fields to use if the input's own names do not tell, and how labels count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// The split to take, of Parquet files of several splits.
    pub split: Option<String>,
    /// The column with the images; in a list the field with their paths, in tars their ending.
    pub image: Option<String>,
    /// Whether `image` was given for the training images while this input is another one. A folder
    /// of images is then accepted, although it has no columns.
    pub image_of_train: bool,
    /// The column, field or ending with the labels.
    pub label: Option<String>,
    /// The column, field or ending with the captions.
    pub text: Option<String>,
    /// The class names, in order.
    pub classes: Option<Classes>,
}

impl Selection {
    /// Checks that what was asked for makes sense for an input of this kind.
    ///
    /// # Errors
    /// When it does not.
    pub(in crate::data) fn check(&self, found: &Found) -> Result<(), DataError> {
        let parquet = matches!(found, Found::Parquets(_));
        let columns = self.image_of_train || !matches!(found, Found::Folder { .. });
        for (flag, key, asked, fits, what) in [
            ("--split", "data.split, data.val_split", &self.split, parquet, "Parquet files"),
            ("--image-column", "data.image_column", &self.image, columns, "Parquet files, tars and lists"),
        ] {
            if let Some(name) = asked
                && !fits
            {
                return Err(DataError::Unclear(format!(
                    "{flag} {name} ({key} in a config) is for {what}, which the input is not; leave it out"
                )));
            }
        }
        Ok(())
    }
}
