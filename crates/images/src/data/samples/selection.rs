//! The user's selection from an input.

use super::labels::Classes;
use super::{DataError, Found};

/// The columns or fields to use if their names differ from the usual ones, and how labels are
/// numbered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// The split to use, if the Parquet files have several.
    pub split: Option<String>,
    /// The column with the images; in a list the field with their paths, in tars their ending.
    pub image: Option<String>,
    /// Whether `image` was given for the training images and this input is a different one. Then a
    /// folder of images is accepted, although it has no columns.
    pub image_of_train: bool,
    /// The column, field or ending with the labels.
    pub label: Option<String>,
    /// The column, field or ending with the captions.
    pub text: Option<String>,
    /// The class names, in order.
    pub classes: Option<Classes>,
}

impl Selection {
    /// Checks that the selection makes sense for an input of this kind.
    ///
    /// # Errors
    /// If it does not.
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
