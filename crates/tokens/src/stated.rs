//! The parts of a sidecar.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::EnumString;

use super::{Grid, TokenShape};
use pixtok_base::MAX_SIDE;

/// A tokenizer as far as its tokens need it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatedTokenizer {
    /// Of the quantizer.
    pub kind: String,
    /// Of the weights as `model.safetensors` (or of the encoder's and decoder's files).
    pub weights_blake3: String,
    /// The same of the tokenizer whose encoder and quantizer these still are, where the decoder alone was trained further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps_tokens_of: Option<String>,
    /// Codebooks, each with the same number of codes.
    pub codebooks: u32,
    /// K, codes in each.
    pub codebook_size: u64,
    /// Whether the numbers are the digits of indices rather than indices.
    pub digits: bool,
    /// Digits of each dimension, where indices are made of digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Vec<i64>>,
    /// Which digit counts in ones: `first-fastest` or `last-fastest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digit_order: Option<String>,
    /// Numbers at one position of the grid: codebooks, times digits if these are stored.
    pub numbers: u32,
    /// Their order, where there are several.
    pub arrangement: Arrangement,
    /// The quantizer's settings, all written out; constants that are no settings too.
    pub quantizer: Value,
}

impl StatedTokenizer {
    /// What tokenizers whose tokens are the same have in common.
    #[must_use]
    pub fn tokens_blake3(&self) -> &str {
        self.keeps_tokens_of.as_ref().unwrap_or(&self.weights_blake3)
    }

    /// Whether the other's tokens mean the same, and are written the same way.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let plain = |of: &Self| Self {
            weights_blake3: of.tokens_blake3().to_owned(),
            keeps_tokens_of: None,
            ..of.clone()
        };
        plain(self) == plain(other)
    }
}

/// The order of several numbers at each position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = no_order)]
pub enum Arrangement {
    /// Those of a position side by side.
    #[default]
    Interleaved,
    /// One grid after the other.
    Stacked,
}

fn no_order(text: &str) -> String {
    format!("\"{text}\" is no order; use interleaved or stacked")
}

/// The shape of a set's tokens: a latent grid, or a sequence, which files hold as a grid of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedGrid {
    /// Rows of positions; none when each image has its own.
    pub h: Option<u32>,
    /// Positions in a row.
    pub w: Option<u32>,
    /// Pixels to a position along each axis; none of a sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downsample: Option<u32>,
}

/// How pictures became images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The short side in pixels that a picture is resized to before anything is cut; none: as small as covers the image.
    pub resize: Option<u32>,
    /// The resampling filter, antialiased.
    pub filter: String,
    /// `centre`: cut to the size of images; `whole`: each at its own shape, sides at multiples of the downsampling.
    pub crop: String,
    /// Pictures are turned upright as their EXIF says.
    pub exif: String,
    /// The colour under transparent pixels.
    pub background: [u8; 3],
    /// Whether JPEGs that are cut short are taken with what there is of them.
    pub lenient_jpeg: bool,
    /// From bytes to what the encoder gets.
    pub normalisation: String,
}

/// Where the images came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// `folder`, `webdataset`, `parquet` or `list`; `sets` if whole sets were joined.
    pub kind: String,
    /// As it was given; for joined sets, all their paths.
    pub path: String,
    /// Hash of the list of files; for joined sets, of all their hashes.
    pub blake3: String,
    /// Which part of it, as `i/n`; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The parts that were joined although others of their division are missing, each as `i/n`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// What the keys begin with in front of the input's own: `shard` for the name of their tar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
    /// Names of the classes that labels count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// What was passed over in the input, and what became of its labels and captions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Source {
    /// What is missing, in words, if not all parts of a division were joined.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let of = self.parts.first()?.split_once('/').map_or("?", |(_, of)| of);
        let (given, parts) = (self.parts.len(), self.parts.join(", "));
        Some(format!("{given} of {of} parts were joined ({parts}), and the images of the others are missing"))
    }
}

/// What a set holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Images that were encoded.
    pub images: u64,
    /// Rows: images times views.
    pub rows: u64,
    /// Ids in all rows, framing included.
    pub tokens: u64,
    /// Images that could not be used, by reason; `skipped.jsonl` lists them.
    pub skipped: BTreeMap<String, u64>,
}

impl StatedGrid {
    /// The grid of all rows, when they have the same.
    #[must_use]
    pub fn constant(&self) -> Option<Grid> {
        Some(Grid { h: self.h?, w: self.w? })
    }

    /// Of a set whose images all have this shape. `height` is that of the images, in pixels.
    #[must_use]
    pub fn of(shape: TokenShape, height: u32) -> Self {
        let Grid { h, w } = shape.stored();
        let downsample = shape.grid().map(|grid| height / grid.h.max(1));
        Self { h: Some(h), w: Some(w), downsample }
    }

    /// Whether the tokens are a sequence.
    #[must_use]
    pub fn is_sequence(&self) -> bool {
        self.downsample.is_none()
    }

    /// The shape of tokens that files hold as this grid.
    #[must_use]
    pub fn shape(&self, Grid { h, w }: Grid) -> TokenShape {
        if self.is_sequence() { TokenShape::Sequence { n: w } } else { TokenShape::Grid { h, w } }
    }

    /// The shape of the tokens of an image of this size in pixels; none of a sequence whose length is
    /// not stated.
    #[must_use]
    pub fn shape_of_image(&self, height: u32, width: u32) -> Option<TokenShape> {
        match (self.constant(), self.downsample) {
            (Some(grid), _) => Some(self.shape(grid)),
            (None, Some(pixels)) => {
                let pixels = pixels.max(1);
                Some(TokenShape::Grid { h: height / pixels, w: width / pixels })
            }
            (None, None) => None,
        }
    }

    /// The longest side that a row's grid can have, in positions.
    #[must_use]
    pub fn longest_side(&self) -> u32 {
        let pixels = self.downsample.unwrap_or(1).max(1);
        self.constant().map_or(MAX_SIDE / pixels, |grid| grid.h.max(grid.w))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_pixels_and_a_sequence_none() {
        let grid = StatedGrid::of(TokenShape::Grid { h: 5, w: 7 }, 40);
        assert_eq!(grid, StatedGrid { h: Some(5), w: Some(7), downsample: Some(8) });
        assert_eq!(grid.shape_of_image(40, 56), Some(TokenShape::Grid { h: 5, w: 7 }));
        let own = StatedGrid { h: None, w: None, ..grid };
        assert_eq!(own.shape_of_image(24, 32), Some(TokenShape::Grid { h: 3, w: 4 }));

        let sequence = StatedGrid::of(TokenShape::Sequence { n: 6 }, 40);
        assert_eq!(sequence.constant(), Some(Grid { h: 1, w: 6 }));
        assert_eq!(sequence.shape_of_image(40, 56), Some(TokenShape::Sequence { n: 6 }));
        assert_eq!(sequence.shape(Grid { h: 1, w: 6 }).positions(), 6);
        assert_eq!(StatedGrid { h: None, w: None, ..sequence }.shape_of_image(40, 56), None);
    }

    #[test]
    fn a_grid_is_written_as_before_there_were_sequences() {
        let written = |shape| serde_json::to_string(&StatedGrid::of(shape, 64)).unwrap();
        assert_eq!(written(TokenShape::Grid { h: 4, w: 6 }), "{\"h\":4,\"w\":6,\"downsample\":16}");
        assert_eq!(written(TokenShape::Sequence { n: 6 }), "{\"h\":1,\"w\":6}");
        let read: StatedGrid = serde_json::from_str("{\"h\":null,\"w\":null,\"downsample\":16}").unwrap();
        assert!(!read.is_sequence() && read.longest_side() == MAX_SIDE / 16);
    }
}
