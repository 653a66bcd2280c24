//! The settings under `[data]`.

use std::fmt;
use std::slice;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DataError, Selection, buckets};
use crate::picture::DecodeOptions;
use pixtok_base::MAX_SIDE;

/// Settings of the image data: which images, and how they are prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The training images: a folder of images, a WebDataset .tar file, a Hugging Face .parquet
    /// file, or a folder of such files.
    pub train: String,
    /// The split to train on, if Parquet files have several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The validation images, in the same form as `train`. Absent: `val_share` of the training
    /// images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<String>,
    /// The split to validate on, if the Parquet files of `val`, or else of `train`, have several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_split: Option<String>,
    /// The column of Parquet files with the images, or the ending of image members in tars, if
    /// there are several candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_column: Option<String>,
    /// The share of the training images that is kept for validation when `val` and `val_split` are
    /// absent, in (0, 1). The images are chosen by a hash of their relative path, of the names of
    /// tar and member, or of the row's key.
    pub val_share: f64,
    /// The number of images that are shuffled together when they come from tars. The order of the
    /// tars is drawn again in each epoch, and they are read one after another. With a smaller
    /// window, fewer images must be kept in memory, which helps on a disk that is fast only at
    /// sequential reads; on a disk with fast random access, a window of the size of the data set
    /// shuffles best. It has no effect on a folder, which is always shuffled as a whole. For
    /// Parquet files, the order of the pages is shuffled as a whole, and at most as many images are
    /// shuffled together as fit in 512 MiB.
    pub shuffle_window: usize,
    /// The size in pixels of the model's images.
    pub image_size: ImageSize,
    /// The sizes of training images; `image_size` must be one of them. Each image is resized and
    /// cropped to the size whose aspect is nearest to its picture's, and each batch is of one size.
    /// What does not fill a batch at the end of an epoch waits for the next one. An evaluation uses
    /// only `image_size`. Absent: all images have `image_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<ImageSize>>,
    /// The length in pixels to which the short side of a picture is resized before the crop.
    /// Absent: the smallest size that covers the crop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<u32>,
    /// The resampling filter.
    pub filter: Filter,
    /// How a training image is cropped. Evaluation always uses the centre.
    pub crop: Crop,
    /// Whether half of the training images are mirrored.
    pub flip: bool,
    /// The colour under transparent pixels.
    pub background: [u8; 3],
    /// Whether JPEGs that are cut short or damaged are accepted, with what can be decoded of them.
    pub lenient_jpeg: bool,
    /// The run stops when more than this fraction of the images is bad, in [0, 1].
    pub max_bad_fraction: f64,
    /// The size in GiB of a cache of decoded training images for later epochs; 0 turns it off. With
    /// the crops `random` and `centre` the images are resized before they are kept. The cache is a
    /// file without a name in the folder of temporary files (TMPDIR, or else /tmp). The folder must
    /// have the space when a run starts; the file disappears with the process. Images that do not
    /// fit are decoded each time. So are pictures whose long side is more than 8 times the short
    /// one, unless the crop is `random-resized`: they would be too large when resized as a whole.
    /// To be kept, a picture is resized as a whole rather than only the cropped part, which changes
    /// some values by 1 or 2 of 255 (with the `box` filter by more, where its edge falls on the
    /// centre of a pixel). The values do not depend on whether an image was kept or did not fit.
    pub cache_gib: f64,
    /// The memory in GiB that all threads of a process together may use to decode pictures. A thread
    /// waits until its picture fits; a picture that would not fit even by itself is bad. The memory
    /// is computed from the number of pixels and the needs of the format: 3 bytes per pixel in most
    /// JPEGs, up to 11 in PNGs of 16 bits.
    pub decode_gib: f64,
    /// The number of decoding threads of each process; 0 for one per core, which the processes of a
    /// host share.
    pub workers: usize,
    /// The number of batches that are kept ready ahead of the consumer.
    pub queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            train: "data/photos96/train".to_owned(),
            // Not the sample's own validation folder, because it would silently stay in force when
            // the user sets only `train`.
            val: None,
            split: None,
            val_split: None,
            image_column: None,
            val_share: 0.05,
            shuffle_window: 10_000,
            image_size: ImageSize { height: 64, width: 64 },
            buckets: None,
            resize: None,
            filter: Filter::Lanczos,
            crop: Crop::Random {},
            flip: true,
            background: [255; 3],
            lenient_jpeg: false,
            max_bad_fraction: 0.01,
            cache_gib: 0.0,
            decode_gib: 2.0,
            workers: 0,
            queue: 4,
        }
    }
}

impl Config {
    /// Checks that all values are in their ranges and fit together.
    ///
    /// # Errors
    /// [`DataError::Setting`] names the first setting that is not, and its range.
    pub fn check(&self) -> Result<(), DataError> {
        let ImageSize { height, width } = self.image_size;
        require(
            height.min(width) >= 1 && height.max(width) <= MAX_SIDE,
            "data.image_size",
            self.image_size,
            || format!("from 1 to {MAX_SIDE} pixels a side"),
        )?;
        if self.val.is_none() && self.val_split.is_none() {
            let share = self.val_share;
            require(share > 0.0 && share < 1.0, "data.val_share", share, || {
                "above 0 and below 1".to_owned()
            })?;
        }
        if let Some(resize) = self.resize {
            let least = height.max(width);
            require((least..=MAX_SIDE).contains(&resize), "data.resize", resize, || {
                format!("from {least} (the larger side of data.image_size) to {MAX_SIDE}")
            })?;
        }
        require(self.shuffle_window >= 1, "data.shuffle_window", self.shuffle_window, || {
            "at least 1".to_owned()
        })?;
        let fraction = self.max_bad_fraction;
        require((0.0..=1.0).contains(&fraction), "data.max_bad_fraction", fraction, || {
            "from 0 to 1".to_owned()
        })?;
        let gib = self.cache_gib;
        require((0.0..=1e6).contains(&gib), "data.cache_gib", gib, || "from 0 to 1000000".to_owned())?;
        let gib = self.decode_gib;
        require(gib > 0.0 && gib <= 1e6, "data.decode_gib", gib, || "above 0, to 1000000".to_owned())?;
        require((1..=1024).contains(&self.queue), "data.queue", self.queue, || "from 1 to 1024".to_owned())?;
        require(self.workers <= 1024, "data.workers", self.workers, || "from 0 to 1024".to_owned())?;
        buckets::check(self)?;
        self.check_crop()
    }

    /// The sizes of training images.
    #[must_use]
    pub fn sizes(&self) -> &[ImageSize] {
        self.buckets.as_deref().unwrap_or(slice::from_ref(&self.image_size))
    }

    /// The size of training images with the most pixels.
    #[must_use]
    pub fn largest_size(&self) -> ImageSize {
        let largest = self.sizes().iter().max_by_key(|size| size.pixels());
        largest.copied().unwrap_or(self.image_size)
    }

    fn check_crop(&self) -> Result<(), DataError> {
        let Crop::RandomResized { scale, ratio } = self.crop else { return Ok(()) };
        let in_order = |[low, high]: [f64; 2]| low > 0.0 && low <= high && high.is_finite();
        require(in_order(scale) && scale[1] <= 1.0, "data.crop.scale", format!("{scale:?}"), || {
            "[low, high] with 0 < low <= high <= 1".to_owned()
        })?;
        require(in_order(ratio), "data.crop.ratio", format!("{ratio:?}"), || {
            "[low, high] with 0 < low <= high".to_owned()
        })?;
        match self.resize {
            Some(resize) => require(false, "data.resize", resize, || {
                "absent with crop.kind = \"random-resized\", which cuts from the picture at its own size"
                    .to_owned()
            }),
            None => Ok(()),
        }
    }

    /// The selection from the training images.
    #[must_use]
    pub fn selection(&self) -> Selection {
        let (split, image) = (self.split.clone(), self.image_column.clone());
        Selection { split, image, ..Selection::default() }
    }

    /// The selection from the validation images.
    #[must_use]
    pub fn val_selection(&self) -> Selection {
        Selection { split: self.val_split.clone(), image_of_train: true, ..self.selection() }
    }

    /// How pictures are decoded.
    #[must_use]
    pub fn decode_options(&self) -> DecodeOptions {
        DecodeOptions {
            background: self.background,
            lenient_jpeg: self.lenient_jpeg,
            max_bytes: (self.decode_gib * f64::from(1 << 30)) as u64,
            ..DecodeOptions::default()
        }
    }
}

/// Checks a setting.
///
/// # Errors
/// [`DataError::Setting`], which says what is allowed.
pub(super) fn require(
    holds: bool,
    key: &'static str,
    value: impl fmt::Display,
    allowed: impl FnOnce() -> String,
) -> Result<(), DataError> {
    if holds { Ok(()) } else { Err(DataError::Setting { key, value: value.to_string(), allowed: allowed() }) }
}

/// Height and width in pixels. Written as one integer (a square) or as `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSize {
    /// Height in pixels.
    pub height: u32,
    /// Width in pixels.
    pub width: u32,
}

impl ImageSize {
    /// The number of pixels.
    #[must_use]
    pub fn pixels(self) -> u64 {
        u64::from(self.height) * u64::from(self.width)
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.height == self.width {
            write!(f, "{}", self.height)
        } else {
            write!(f, "[{}, {}]", self.height, self.width)
        }
    }
}

impl Serialize for ImageSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.height == self.width {
            serializer.serialize_u32(self.height)
        } else {
            [self.height, self.width].serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ImageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ImageSizeVisitor)
    }
}

struct ImageSizeVisitor;

impl<'de> Visitor<'de> for ImageSizeVisitor {
    type Value = ImageSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of pixels or [height, width]")
    }

    fn visit_i64<E: de::Error>(self, side: i64) -> Result<ImageSize, E> {
        let side = u32::try_from(side).map_err(|_| E::invalid_value(de::Unexpected::Signed(side), &self))?;
        Ok(ImageSize { height: side, width: side })
    }

    fn visit_u64<E: de::Error>(self, side: u64) -> Result<ImageSize, E> {
        let side =
            u32::try_from(side).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(side), &self))?;
        Ok(ImageSize { height: side, width: side })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<ImageSize, A::Error> {
        let mut side =
            |at| sides.next_element()?.ok_or_else(|| de::Error::invalid_length(at, &"[height, width]"));
        let size = ImageSize { height: side(0)?, width: side(1)? };
        match sides.next_element::<de::IgnoredAny>()? {
            None => Ok(size),
            Some(_) => Err(de::Error::invalid_length(3, &"[height, width]")),
        }
    }
}

/// A resampling filter, widened with the scale when it shrinks (antialiased).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Lanczos with three lobes.
    Lanczos,
    /// Catmull-Rom (a = -0.5).
    Bicubic,
    /// Triangle.
    Bilinear,
    /// The mean over the covered area.
    Box,
}

/// How a training image is cropped, for instance `crop = { kind = "random" }`.
// The variants without fields have braces because serde lets unknown keys pass for unit variants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Crop {
    /// Resize, then crop at a random place.
    Random {},
    /// Resize, then crop the centre.
    #[serde(alias = "center")]
    Centre {},
    /// Crop a random part of the picture at its own scale, then resize it (Szegedy et al. 2015,
    /// arXiv 1409.4842).
    RandomResized {
        /// The range of the part's area, as a share of the picture's.
        scale: [f64; 2],
        /// The range of the part's width divided by its height.
        ratio: [f64; 2],
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_toml() {
        let configs = [
            Config::default(),
            Config {
                val: Some("elsewhere".to_owned()),
                image_size: ImageSize { height: 48, width: 80 },
                resize: Some(96),
                crop: Crop::Centre {},
                ..Config::default()
            },
            Config {
                buckets: Some(
                    [(64, 64), (48, 80)].map(|(height, width)| ImageSize { height, width }).to_vec(),
                ),
                ..Config::default()
            },
            Config {
                crop: Crop::RandomResized { scale: [0.25, 1.0], ratio: [0.75, 1.5] },
                ..Config::default()
            },
        ];
        for config in configs {
            config.check().unwrap();
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
        }
    }

    #[test]
    fn toml_reads_well() {
        let text = "image_size = [48, 80]\nfilter = \"box\"\ncrop = { kind = \"center\" }\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.image_size, ImageSize { height: 48, width: 80 });
        assert_eq!((config.sizes(), config.largest_size()), (&[config.image_size][..], config.image_size));
        let buckets: Config = toml::from_str("buckets = [64, [80, 64], [48, 80]]").unwrap();
        let sizes = [(64, 64), (80, 64), (48, 80)].map(|(height, width)| ImageSize { height, width });
        assert_eq!((buckets.sizes(), buckets.largest_size()), (&sizes[..], sizes[1]));
        assert_eq!((config.filter, config.crop), (Filter::Box, Crop::Centre {}));
    }

    #[test]
    fn wrong_toml_is_refused() {
        let cases = [
            ("image_size = \"64\"", "a number of pixels or [height, width]"),
            ("image_size = -64", "a number of pixels or [height, width]"),
            ("image_size = [64]", "[height, width]"),
            ("image_size = [64, 64, 3]", "[height, width]"),
            ("buckets = 64", "a sequence"),
            ("buckets = [[64]]", "[height, width]"),
            ("imagesize = 64", "unknown field `imagesize`"),
            ("crop = { kind = \"random\", scale = [0.5, 1.0] }", "unknown field `scale`"),
            ("crop = { kind = \"corner\" }", "random-resized"),
            ("filter = \"nearest\"", "lanczos"),
        ];
        for (text, part) in cases {
            let message = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        let resized = |scale, ratio| Crop::RandomResized { scale, ratio };
        let cases = [
            (Config { resize: Some(63), ..Config::default() }, "data.resize = 63: must be from 64"),
            (Config { val_share: 1.0, ..Config::default() }, "data.val_share = 1: must be above 0"),
            (Config { image_size: ImageSize { height: 0, width: 8 }, ..Config::default() }, "[0, 8]"),
            (Config { max_bad_fraction: f64::NAN, ..Config::default() }, "data.max_bad_fraction = NaN"),
            (Config { queue: 0, ..Config::default() }, "data.queue = 0"),
            (Config { cache_gib: -1.0, ..Config::default() }, "data.cache_gib = -1: must be from 0"),
            (Config { decode_gib: 0.0, ..Config::default() }, "data.decode_gib = 0: must be above 0"),
            (Config { shuffle_window: 0, ..Config::default() }, "data.shuffle_window = 0"),
            (Config { crop: resized([0.0, 1.0], [1.0, 1.0]), ..Config::default() }, "data.crop.scale"),
            (Config { crop: resized([0.5, 1.0], [2.0, 1.0]), ..Config::default() }, "data.crop.ratio"),
            (
                Config { crop: resized([0.5, 1.0], [1.0, 1.0]), resize: Some(96), ..Config::default() },
                "data.resize = 96: must be absent",
            ),
        ];
        for (config, part) in cases {
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
