//! What a user says of what is to be taken of an input.

use super::labels::Classes;
use super::{DataError, Found};

/// What is taken for what, where the input's own names do not say it, and how labels count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Of Parquet files of several splits.
    pub split: Option<String>,
    /// The column with the images; of a list the field with their paths, of tars the ending.
    pub image: Option<String>,
    /// `image` is said of the training images, and these are others: a folder of images has no
    /// column.
    pub image_of_train: bool,
    /// The column, field or ending with the labels.
    pub label: Option<String>,
    /// The column, field or ending with the captions.
    pub text: Option<String>,
    /// The names of the classes in their order.
    pub classes: Option<Classes>,
}

impl Selection {
    /// Whether what was asked for has a meaning with an input of that kind.
    ///
    /// # Errors
    /// When it has none.
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
