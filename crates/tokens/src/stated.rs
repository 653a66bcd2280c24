//! The parts of a sidecar.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{Display, EnumString};

use super::{Grid, Lines, TokenShape, TokensError};
use pixtok_base::MAX_SIDE;

/// The properties of a tokenizer that its tokens depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatedTokenizer {
    /// The kind of the quantizer.
    pub kind: String,
    /// Hash of the weights as `model.safetensors`, or of the files of encoder and decoder.
    pub weights_blake3: String,
    /// If only the decoder was trained further: the same hash of the tokenizer whose encoder and
    /// quantizer these still are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps_tokens_of: Option<String>,
    /// The number of codebooks. All have the same number of codes.
    pub codebooks: u32,
    /// K, the number of codes of each codebook.
    pub codebook_size: u64,
    /// Whether the numbers are the digits of indices instead of indices.
    pub digits: bool,
    /// The number of digits of each dimension, if indices consist of digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Vec<i64>>,
    /// The order of the digits, `first-fastest` or `last-fastest`: which digit counts in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digit_order: Option<String>,
    /// The number of numbers at each position of the grid: codebooks, times digits if digits are
    /// stored.
    pub numbers: u32,
    /// The order of the numbers, if there are several.
    pub arrangement: Arrangement,
    /// All settings of the quantizer, including constants that cannot be set.
    pub quantizer: Value,
}

impl StatedTokenizer {
    /// The hash that tokenizers with the same tokens share.
    #[must_use]
    pub fn tokens_blake3(&self) -> &str {
        self.keeps_tokens_of.as_ref().unwrap_or(&self.weights_blake3)
    }

    /// Whether the tokens of the other tokenizer have the same meaning and the same order.
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

/// The checkpoint of a run that made a set's codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// The name of the run's folder.
    pub run: String,
    /// The optimizer step at which it was saved.
    pub step: u64,
    /// Which of its weights.
    pub weights: StatedWeights,
}

/// Which weights of a checkpoint made a set's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatedWeights {
    /// The weights that the optimizer trained.
    Raw,
    /// Their moving average.
    Ema,
}

/// What was done with the positions of a network at sizes beyond the trained one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum StatedPositions {
    /// Nothing: they count on.
    None,
    /// They were interpolated.
    Interpolate,
    /// The base of their rotation was raised (NTK).
    Ntk,
}

/// The order of several numbers at each position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = no_order)]
pub enum Arrangement {
    /// All numbers of a position together.
    #[default]
    Interleaved,
    /// One grid after the other.
    Stacked,
}

impl Arrangement {
    /// How the numbers of `grid` are divided into rows, with `numbers` numbers at each position.
    #[must_use]
    pub fn lines(self, grid: Grid, numbers: u32) -> Lines {
        let (h, w, n) = (grid.h as usize, grid.w as usize, numbers as usize);
        match self {
            Self::Interleaved => Lines { count: h, length: w * n },
            Self::Stacked => Lines { count: h * n, length: w },
        }
    }
}

fn no_order(text: &str) -> String {
    format!("\"{text}\" is not an order; use interleaved or stacked")
}

/// The shape of a set's tokens: a latent grid, or a sequence, which files hold as a grid of one
/// row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedGrid {
    /// The number of rows; `None` if the grids of the images differ.
    pub h: Option<u32>,
    /// The number of positions in a row.
    pub w: Option<u32>,
    /// Pixels to a position along each axis; none of a sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downsample: Option<u32>,
    /// Absent: a grid.
    #[serde(default, skip_serializing_if = "StatedShape::is_grid")]
    pub shape: StatedShape,
}

/// Whether tokens are a grid or a sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatedShape {
    /// [`TokenShape::Grid`].
    #[default]
    Grid,
    /// [`TokenShape::Sequence`].
    Sequence,
}

impl StatedShape {
    fn is_grid(&self) -> bool {
        *self == Self::Grid
    }
}

/// How pictures were prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The short side in pixels to which a picture is resized before the crop; `None` means the
    /// smallest size that covers the image.
    pub resize: Option<u32>,
    /// The resampling filter, antialiased.
    pub filter: String,
    /// `centre`: cropped at the centre to the image size; `whole`: the whole picture with its own
    /// shape, with sides that are multiples of the downsampling factor.
    pub crop: String,
    /// How EXIF orientation is handled: pictures are turned upright.
    pub exif: String,
    /// The colour behind transparent pixels.
    pub background: [u8; 3],
    /// Whether truncated JPEGs are used as far as they can be decoded.
    pub lenient_jpeg: bool,
    /// How bytes are converted to the encoder's input.
    pub normalisation: String,
}

/// How an input is divided into parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Division {
    /// Image by image: a hash of its key decides.
    #[default]
    Keys,
    /// By whole tars or Parquet files: file i, in the order of their names, is in part i modulo the
    /// number of parts.
    Files,
}

impl Division {
    fn is_by_keys(&self) -> bool {
        *self == Self::Keys
    }
}

/// The origin of the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// `folder`, `webdataset`, `parquet` or `list`; `sets` for merged sets.
    pub kind: String,
    /// The path as given; for merged sets, all their paths.
    pub path: String,
    /// Hash of the list of files; for merged sets, of all their hashes.
    pub blake3: String,
    /// The part of the images, as `i/n`; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// How the images were divided into parts; absent: by their keys.
    #[serde(default, skip_serializing_if = "Division::is_by_keys")]
    pub division: Division,
    /// In a division by files, whether the labels of this part are used; absent if none of its
    /// images has a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels_used: Option<bool>,
    /// The parts that were merged although others of their division are missing, each as `i/n`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// The prefix of the keys: `shard` for the name of their tar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
    /// Which of the two sets of `--val-share` this is; absent without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<StatedSplit>,
    /// The class names, by label number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Notes on skipped input, and on how labels and captions were used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One of the two sets into which `--val-share` divides an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatedSplit {
    /// `train` or `val`.
    pub name: String,
    /// The share of the images in `val`.
    pub val_share: f64,
}

/// The ids that a set can hold, worked out from its vocabulary and its framing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedIds {
    /// The number of ids in the vocabulary: `vocab_size` if it is stated, otherwise the largest id
    /// plus one.
    pub vocabulary: u64,
    /// The smallest and the largest id of a code.
    pub codes: [u32; 2],
    /// The smallest and the largest id of the framing, sizes included; absent without framing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specials: Option<[u32; 2]>,
}

impl Source {
    /// Describes what is missing, if not all parts of a division were merged.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let of = self.parts.first()?.split_once('/').map_or("?", |(_, of)| of);
        let (given, parts) = (self.parts.len(), self.parts.join(", "));
        Some(format!("{given} of {of} parts were joined ({parts}), and the images of the others are missing"))
    }
}

/// The numbers of images, rows and tokens in a set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// The number of encoded images.
    pub images: u64,
    /// The number of rows: images times views.
    pub rows: u64,
    /// The number of ids in all rows, including framing.
    pub tokens: u64,
    /// The number of images that could not be used, by reason; `skipped.jsonl` lists them.
    pub skipped: BTreeMap<String, u64>,
}

impl StatedGrid {
    /// The grid of all rows, if they share one.
    #[must_use]
    pub fn constant(&self) -> Option<Grid> {
        Some(Grid { h: self.h?, w: self.w? })
    }

    /// Of a set whose images all have these height and width, in pixels, and this shape.
    ///
    /// # Errors
    /// If a position of a grid has another height than width, which a sidecar cannot state.
    pub fn of(shape: TokenShape, [height, width]: [u32; 2]) -> Result<Self, TokensError> {
        let Grid { h, w } = shape.stored();
        let [pixels_of_h, pixels_of_w] = [(height, h), (width, w)].map(|(pixels, side)| pixels / side.max(1));
        let (shape, downsample) = match shape {
            TokenShape::Sequence { .. } => (StatedShape::Sequence, None),
            TokenShape::Grid { .. } if pixels_of_h == pixels_of_w => (StatedShape::Grid, Some(pixels_of_h)),
            TokenShape::Grid { .. } => {
                return Err(TokensError::Unsuitable(format!(
                    "the tokens of images of {height}×{width} pixels are a grid of {h}×{w}, so one token is for \
                     {pixels_of_h}×{pixels_of_w} pixels; token files are for tokens of square pieces of an image"
                )));
            }
        };
        Ok(Self { h: Some(h), w: Some(w), downsample, shape })
    }

    /// Whether the tokens are a sequence.
    #[must_use]
    pub fn is_sequence(&self) -> bool {
        self.shape == StatedShape::Sequence
    }

    /// The shape of tokens that files hold as this grid.
    #[must_use]
    pub fn shape(&self, Grid { h, w }: Grid) -> TokenShape {
        if self.is_sequence() { TokenShape::Sequence { n: w } } else { TokenShape::Grid { h, w } }
    }

    /// The shape of the tokens of an image of this size in pixels; none of a sequence whose length
    /// is not stated.
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

    /// The same for images of any size; a sequence stays as it is.
    #[must_use]
    pub fn of_any_size(self) -> Self {
        if self.is_sequence() { self } else { Self { h: None, w: None, ..self } }
    }

    /// Height and width in pixels of the image of a row with this grid.
    #[must_use]
    pub fn pixels(&self, grid: Grid) -> [u32; 2] {
        let pixels = self.downsample.unwrap_or(1);
        [grid.h.saturating_mul(pixels), grid.w.saturating_mul(pixels)]
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
        let grid = StatedGrid::of(TokenShape::Grid { h: 5, w: 7 }, [40, 56]).unwrap();
        let shape = StatedShape::Grid;
        assert_eq!(grid, StatedGrid { h: Some(5), w: Some(7), downsample: Some(8), shape });
        assert_eq!(grid.shape_of_image(40, 56), Some(TokenShape::Grid { h: 5, w: 7 }));
        let own = StatedGrid { h: None, w: None, ..grid };
        assert_eq!(own.shape_of_image(24, 32), Some(TokenShape::Grid { h: 3, w: 4 }));

        let sequence = StatedGrid::of(TokenShape::Sequence { n: 6 }, [40, 56]).unwrap();
        assert_eq!(sequence.constant(), Some(Grid { h: 1, w: 6 }));
        assert_eq!(sequence.shape_of_image(40, 56), Some(TokenShape::Sequence { n: 6 }));
        assert_eq!(sequence.shape(Grid { h: 1, w: 6 }).positions(), 6);
        assert_eq!(StatedGrid { h: None, w: None, ..sequence }.shape_of_image(40, 56), None);
    }

    #[test]
    fn a_grid_is_written_as_before_there_were_sequences() {
        let written = |shape| serde_json::to_string(&StatedGrid::of(shape, [64, 96]).unwrap()).unwrap();
        assert_eq!(written(TokenShape::Grid { h: 4, w: 6 }), "{\"h\":4,\"w\":6,\"downsample\":16}");
        assert_eq!(written(TokenShape::Sequence { n: 6 }), "{\"h\":1,\"w\":6,\"shape\":\"sequence\"}");
        let read: StatedGrid = serde_json::from_str("{\"h\":null,\"w\":null,\"downsample\":16}").unwrap();
        assert!(!read.is_sequence() && read.longest_side() == MAX_SIDE / 16);
    }

    #[test]
    fn a_source_is_written_as_before_there_were_divisions_by_files() {
        let text = "{\"kind\":\"webdataset\",\"path\":\"tars\",\"blake3\":\"x\",\"part\":\"1/3\"}";
        let source: Source = serde_json::from_str(text).unwrap();
        assert_eq!((source.division, source.labels_used), (Division::Keys, None));
        assert_eq!(serde_json::to_string(&source).unwrap(), text);
        let by_files = Source { division: Division::Files, labels_used: Some(false), ..source };
        let written = serde_json::to_string(&by_files).unwrap();
        assert!(
            written.ends_with("\"part\":\"1/3\",\"division\":\"files\",\"labels_used\":false}"),
            "{written}"
        );
        assert_eq!(serde_json::from_str::<Source>(&written).unwrap(), by_files);
    }

    #[test]
    fn tokens_of_pieces_that_are_not_square_are_refused() {
        let words = StatedGrid::of(TokenShape::Grid { h: 4, w: 12 }, [64, 96]).unwrap_err().to_string();
        assert!(words.contains("a grid of 4×12, so one token is for 16×8 pixels"), "{words}");
    }
}
