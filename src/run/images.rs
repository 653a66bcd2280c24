//! The training and validation images of a config, and notes about them.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Tell, TrainOptions};
use crate::config::{Config, known, overrides_set};
use pixtok_images::data::{self, DataError, Dataset, Overlap, Selection, Shared, Split};

/// Which images of Parquet files, tars or lists to use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pick {
    /// The split, if there are several.
    pub split: Option<String>,
    /// The column with the images.
    pub image_column: Option<String>,
}

impl Pick {
    /// The selection in the form that a data set takes.
    #[must_use]
    pub fn selection(&self) -> Selection {
        let (split, image) = (self.split.clone(), self.image_column.clone());
        Selection { split, image, ..Selection::default() }
    }
}

/// The training images of a config.
///
/// # Errors
/// When there are none or they cannot be listed.
pub fn training_set(config: &Config) -> Result<Dataset> {
    training_images(config, &|_| ())
}

/// The images of a config for training and for validation. Shows how many were found so far.
///
/// # Errors
/// The same as [`training_set`].
pub(super) fn both_sets(config: &Config, tell: Tell) -> Result<(Dataset, Dataset)> {
    let work = tell.work("looking for training images", None);
    let train_set = training_images(config, &|more| work.add(more))?;
    drop(work);
    if config.data.buckets.is_some() {
        let work = tell.work("reading the sizes of the training images", Some(train_set.len() as u64));
        train_set.read_picture_sizes(&config.data, &|more| work.add(more))?;
    }
    let work = tell.work("looking for validation images", None);
    Ok((train_set, validation_images(config, &|more| work.add(more))?))
}

fn training_images(config: &Config, found_more: &(dyn Fn(u64) + Sync)) -> Result<Dataset> {
    let data = &config.data;
    let split = match (&data.val, &data.val_split) {
        (None, None) => Split::Train { val_share: data.val_share },
        _ => Split::All,
    };
    Ok(Dataset::select_watched(Path::new(&data.train), split, &data.selection(), found_more)?)
}

/// The validation images of a config, and a description of their location.
///
/// # Errors
/// The same as [`training_set`].
pub fn validation_set(config: &Config) -> Result<(String, Dataset)> {
    Ok((words_of_validation(config), validation_images(config, &|_| ())?))
}

/// The validation images of a config. `found_more` is told how many more were found.
///
/// # Errors
/// The same as [`training_set`].
pub(crate) fn validation_images(config: &Config, found_more: &(dyn Fn(u64) + Sync)) -> Result<Dataset> {
    let data = &config.data;
    let open = |path: &str, split, selection| {
        Dataset::select_watched(Path::new(path), split, &selection, found_more)
    };
    Ok(match (&data.val, &data.val_split) {
        (Some(path), _) => open(path, Split::All, data.val_selection())?,
        (None, Some(_)) => open(&data.train, Split::All, data.val_selection())?,
        (None, None) => {
            let split = Split::Val { val_share: data.val_share };
            open(&data.train, split, data.selection())?
        }
    })
}

/// Describes the location of a config's validation images.
#[must_use]
pub fn words_of_validation(config: &Config) -> String {
    let data = &config.data;
    match (&data.val, &data.val_split) {
        (Some(path), _) => path.clone(),
        (None, Some(name)) => format!("the split {name} of {}", data.train),
        (None, None) => format!("a share of {} of {}", data.val_share, data.train),
    }
}

/// Checks the batch size before the first image is decoded.
///
/// # Errors
/// [`DataError::BatchTooLarge`].
pub fn check_batch(config: &Config, train_set: &Dataset) -> Result<()> {
    let (batch_size, total) = (config.train.batch_size, train_set.len());
    if batch_size > total {
        return Err(DataError::BatchTooLarge { batch_size, good: total, total, bad: vec![] }.into());
    }
    Ok(())
}

/// `buckets     40 images of 64x64 pixels, 12 of 48x80`; `None` without buckets.
/// [`both_sets`] reads the sizes.
pub(super) fn words_of_buckets(config: &Config, train_set: &Dataset) -> Option<String> {
    config.data.buckets.as_ref()?;
    let (counts, unknown) = train_set.bucket_counts(&config.data)?;
    let mut words = String::from("buckets     ");
    for (at, (size, count)) in counts.iter().enumerate() {
        let (images, pixels) = if at == 0 { (" images", " pixels") } else { ("", "") };
        let separator = if at == 0 { "" } else { ", " };
        let _ = write!(words, "{separator}{count}{images} of {}x{}{pixels}", size.height, size.width);
    }
    if unknown > 0 {
        let _ = write!(
            words,
            "; the header of {unknown} states no size, so they count as of data.image_size until they are read"
        );
    }
    let batch_size = config.train.batch_size;
    let small = counts.iter().filter(|(_, count)| (1..batch_size).contains(count)).count();
    if small > 0 {
        let sizes = if small == 1 { "size that has" } else { "sizes that have" };
        let _ = write!(
            words,
            "; a batch of {batch_size} repeats the images of the {small} {sizes} fewer, which batch norm and \
             restarts of codes take badly: leave such sizes out of data.buckets, and their images join the \
             nearest one"
        );
    }
    Some(words)
}

/// If `--data` names different training images, removes the settings that belong to the config's
/// images: the validation images and the columns. Settings from the command line, the `overrides`,
/// stay.
pub fn drop_those_of_config(overrides: &[String], data: &mut data::Config) {
    for (key, value) in [
        (known::DATA_VAL, &mut data.val),
        (known::DATA_VAL_SPLIT, &mut data.val_split),
        (known::DATA_SPLIT, &mut data.split),
        (known::DATA_IMAGE_COLUMN, &mut data.image_column),
    ] {
        if !overrides_set(overrides, key) {
            *value = None;
        }
    }
}

/// A note that says which images are used for validation, if the training images are not the
/// config's and the user did not choose validation images. It is shown only after the images were
/// found, so that an error about them comes first.
pub(super) fn validation_note(
    options: &TrainOptions,
    of_config: &data::Config,
    config: &Config,
) -> Option<String> {
    let sets = |key| overrides_set(&options.overrides, key);
    let chosen = options.val_data.is_some() || options.val_split.is_some();
    if chosen || sets(known::DATA_VAL) || sets(known::DATA_VAL_SPLIT) {
        return None;
    }
    let words = words_of_validation(config);
    if options.data.is_some() {
        let earlier = of_config.val.iter().chain(&of_config.val_split).next();
        let instead = earlier.map_or_else(String::new, |earlier| {
            format!(
                "; those of the config, {earlier}, are not used, since --data replaces its images (to \
                 use them, give --val-data)"
            )
        });
        Some(format!("validation images: {words}{instead}"))
    } else if sets(known::DATA_TRAIN) {
        let remedy = match (&config.data.val, &config.data.val_split) {
            (None, None) => "",
            _ => {
                ", as in the config; to choose others, use --val-data, or --data instead of --set data.train to take a \
                 share of the training images"
            }
        };
        Some(format!("validation images: {words}{remedy}"))
    } else {
        None
    }
}

/// Warns if validation images are also training images.
pub fn tell_shared(train_set: &Dataset, val_set: &Dataset, tell: Tell) {
    let comparing = tell.work("looking for copies of training images among those for validation", None);
    let overlap = val_set.overlap(train_set, None);
    drop(comparing);
    tell_overlap(&overlap, val_set.len(), tell);
}

/// Warns if some of the `total` validation images are also training images.
pub fn tell_overlap(overlap: &Overlap, total: usize, tell: Tell) {
    let Overlap { shared, copies } = overlap;
    if let Some(Shared { images, example }) = shared {
        tell.say(&format!(
            "{images} of the {total} validation images are training images too, for instance {example}, so \
             validation figures are of images that are trained on; give others with --val-data (data.val)"
        ));
    }
    if let Some(copies) = copies {
        tell.say(&format!(
            "{}, so validation figures are of images that are trained on; delete the copies, or give other \
             images with --val-data (data.val)",
            copies.words(total, "validation images")
        ));
    }
}

/// Tells which files of these data sets are skipped, once for each set.
pub fn tell_omitted<'a>(sets: impl IntoIterator<Item = &'a Dataset>, tell: Tell) {
    let mut said: Vec<&String> = vec![];
    for text in sets.into_iter().flat_map(Dataset::notes) {
        if !said.contains(&text) {
            tell.say(text);
            said.push(text);
        }
    }
}
