//! The description that a TorchScript pair needs before it can be used: a small TOML file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::Kind;

use pixtok_base::paths::absence;
use pixtok_base::{Class, Classified};
use pixtok_images::data::{self, ImageSize};

/// A foreign tokenizer's description. Paths are relative to the adapter's file.
///
/// ```toml
/// encoder = "encoder.jit"
/// decoder = "decoder.jit"
/// codebook_size = 64000
/// downsample = 16
/// image_size = 256
/// input_range = [-1.0, 1.0]
/// indices_output = 0
/// number = "bfloat16"
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// TorchScript file: images -> indices, or a tuple that contains the indices.
    pub encoder: PathBuf,
    /// TorchScript file: indices, in the encoder's own shape, -> images.
    pub decoder: PathBuf,
    /// K, the number of codes in each codebook.
    pub codebook_size: i64,
    /// The number of codebooks. With more than one, the last axis of the indices has one entry for
    /// each.
    #[serde(default = "one")]
    pub codebooks: i64,
    /// Pixels per token along each axis.
    pub downsample: i64,
    /// Side in pixels of the images it is evaluated on: the short side is resized to it, and the
    /// centre is cropped.
    pub image_size: u32,
    /// The encoder's input values for black and white.
    #[serde(default = "unit")]
    pub input_range: [f64; 2],
    /// The decoder's output values for black and white; absent: the same as `input_range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_range: Option<[f64; 2]>,
    /// The order of the axes of images.
    #[serde(default)]
    pub layout: Layout,
    /// The index of the encoder's output with the indices, from 0; a single tensor is output 0.
    #[serde(default)]
    pub indices_output: usize,
    /// The number format of the input images.
    #[serde(default)]
    pub number: Number,
}

/// The order of the axes of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[B, 3, H, W]`.
    #[default]
    Nchw,
    /// `[B, H, W, 3]`.
    Nhwc,
}

/// A number format of tensors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Number {
    /// IEEE single precision, 32 bits.
    #[default]
    Float32,
    /// bfloat16, 16 bits.
    Bfloat16,
    /// IEEE half precision, 16 bits.
    Float16,
}

impl Number {
    /// The libtorch type.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Float32 => Kind::Float,
            Self::Bfloat16 => Kind::BFloat16,
            Self::Float16 => Kind::Half,
        }
    }
}

/// An error of an adapter or its modules.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A value is out of its range.
    #[error("{}: {key} is {value}; it must be {allowed}", .path.display())]
    Setting {
        /// The adapter's file.
        path: PathBuf,
        /// The key of the setting.
        key: &'static str,
        /// The value.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },
    /// A file does not exist.
    #[error("{} {}; the adapter's paths are relative to its own folder", .0.display(), absence(.0))]
    Missing(PathBuf),
    /// A file is not TorchScript.
    #[error("{} is no TorchScript file that this libtorch reads ({reason}); save it with torch.jit.save", .path.display())]
    NotTorchScript {
        /// The file.
        path: PathBuf,
        /// The message of libtorch or the system.
        reason: String,
    },
    /// On the first images, the pair does not behave as the adapter states.
    #[error("{}: {disagreement}", .path.display())]
    Disagrees {
        /// The adapter's file.
        path: PathBuf,
        /// How they differ, and what to change.
        disagreement: String,
    },
}

impl Classified for AdapterError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl Adapter {
    /// Checks the values without opening any files. `path` is the adapter's file.
    ///
    /// # Errors
    /// [`AdapterError::Setting`].
    pub fn check(&self, path: &Path) -> Result<(), AdapterError> {
        let sides = [
            ("codebook_size", self.codebook_size, self.codebook_size >= 2, "2 or more"),
            ("codebooks", self.codebooks, self.codebooks >= 1, "1 or more"),
            ("downsample", self.downsample, self.downsample >= 1, "1 or more"),
            ("image_size", self.image_size.into(), self.fits_downsample(), "a multiple of downsample"),
        ];
        if let Some((key, value, _, allowed)) = sides.into_iter().find(|(_, _, holds, _)| !holds) {
            let value = value.to_string();
            return Err(AdapterError::Setting { path: path.to_owned(), key, value, allowed });
        }
        for (key, range) in [("input_range", Some(self.input_range)), ("output_range", self.output_range)] {
            let Some([black, white]) = range else { continue };
            if !(black.is_finite() && white.is_finite() && black != white) {
                return Err(AdapterError::Setting {
                    path: path.to_owned(),
                    key,
                    value: format!("[{black}, {white}]"),
                    allowed: "the values of black and white, for instance [-1.0, 1.0]",
                });
            }
        }
        Ok(())
    }

    /// The default settings that prepare its images.
    #[must_use]
    pub fn data(&self) -> data::Config {
        let side = self.image_size;
        data::Config { image_size: ImageSize { height: side, width: side }, ..data::Config::default() }
    }

    /// Height and width of the images must be multiples of this number of pixels.
    #[must_use]
    pub fn side_multiple(&self) -> i64 {
        self.downsample
    }

    /// The decoder's values for black and white, and the key that states them.
    pub(super) fn range(&self) -> (&'static str, [f64; 2]) {
        match self.output_range {
            Some(range) => ("output_range", range),
            None => ("input_range", self.input_range),
        }
    }

    fn fits_downsample(&self) -> bool {
        self.image_size > 0 && i64::from(self.image_size).checked_rem(self.downsample) == Some(0)
    }
}

fn one() -> i64 {
    1
}

fn unit() -> [f64; 2] {
    [-1.0, 1.0]
}
