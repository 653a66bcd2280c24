//! The properties that all rows of a set share.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::EnumString;

use super::{FormatKind, Grid, Row, TokenNames, TokensError};

/// The number type of ids, little endian in every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(parse_err_ty = String, parse_err_fn = no_dtype)]
pub enum Dtype {
    /// 16 bits, unsigned.
    #[strum(serialize = "u16", serialize = "uint16")]
    U16,
    /// 32 bits, signed. Ids are below 2^31, so they read the same as unsigned.
    #[strum(serialize = "i32", serialize = "int32")]
    I32,
}

/// The name in flags, sidecars and messages.
impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U16 => "u16",
            Self::I32 => "i32",
        })
    }
}

impl Dtype {
    /// The type for ids below `ids`, by Megatron's rule, which has no unsigned 32 bits.
    #[must_use]
    pub fn for_ids(ids: u64) -> Self {
        if ids < 65_500 { Self::U16 } else { Self::I32 }
    }

    /// The type for a vocabulary of `size` ids, as in OLMo-core, but never 8 bits.
    #[must_use]
    pub fn for_vocabulary(size: u64) -> Self {
        if size <= 1 << 16 { Self::U16 } else { Self::I32 }
    }

    /// The number of bytes of one id.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::I32 => 4,
        }
    }

    /// The name in numpy, for files that numpy and `datasets` read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::U16 => "uint16",
            Self::I32 => "int32",
        }
    }

    /// The largest id that fits.
    #[must_use]
    pub fn largest(self) -> u32 {
        match self {
            Self::U16 => u16::MAX.into(),
            Self::I32 => i32::MAX as u32,
        }
    }

    /// The bytes of `ids`, which must fit.
    #[must_use]
    pub fn to_bytes(self, ids: &[u32]) -> Vec<u8> {
        match self {
            Self::U16 => ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect(),
            Self::I32 => ids.iter().flat_map(|&id| id.to_le_bytes()).collect(),
        }
    }

    /// Inverse of [`Dtype::to_bytes`]. Ignores an incomplete number at the end.
    #[must_use]
    pub fn ids_from_bytes(self, bytes: &[u8]) -> Vec<u32> {
        match self {
            Self::U16 => bytes.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair).into()).collect(),
            Self::I32 => bytes.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four)).collect(),
        }
    }
}

fn no_dtype(text: &str) -> String {
    format!("\"{text}\" is not a number type for ids; use u16, or i32, which reads the same as uint32")
}

/// The axes of one row's ids, row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Axes {
    /// `[h, w]`.
    Grid,
    /// `[h, w, n]`: the n numbers of a position together.
    Interleaved {
        /// The number of codebooks or digits.
        n: u32,
    },
    /// `[n, h, w]`: one grid after the other.
    Stacked {
        /// The number of codebooks or digits.
        n: u32,
    },
    /// `[length]`: a sequence, or a grid with framing ids around and in it.
    Sequence,
}

/// The properties that all rows of a set share, as far as files need them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The number type of ids.
    pub dtype: Dtype,
    /// The latent grid, if all rows have the same.
    pub grid: Option<Grid>,
    /// The axes of one row's ids.
    pub axes: Axes,
    /// The number of ids in a row, if it is the same for all rows.
    pub length: Option<u32>,
    /// The number of successive rows that are views of one image: 1, or 2 with the mirror image.
    pub views: u32,
    /// The short side in pixels of the encoded images, for names of folders.
    pub image_side: u32,
    /// Names instead of ids, in formats that take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<TokenNames>,
    /// Whether to write an index of where each document ends, in formats that take it.
    #[serde(default)]
    pub document_index: bool,
    /// The class names, by label number; empty if labels are plain numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

impl Layout {
    /// The shape of a row's ids as an array.
    #[must_use]
    pub fn shape(&self, row: &Row) -> Vec<usize> {
        let Grid { h, w } = row.grid;
        let (h, w) = (h as usize, w as usize);
        match self.axes {
            Axes::Grid => vec![h, w],
            Axes::Interleaved { n } => vec![h, w, n as usize],
            Axes::Stacked { n } => vec![n as usize, h, w],
            Axes::Sequence => vec![row.ids.len()],
        }
    }

    /// The shape of every row's ids, if all rows have the same.
    #[must_use]
    pub fn constant_shape(&self) -> Option<Vec<u64>> {
        let length = self.length?;
        if self.axes == Axes::Sequence {
            return Some(vec![length.into()]);
        }
        let Grid { h, w } = self.grid?;
        let (h, w) = (h.into(), w.into());
        Some(match self.axes {
            Axes::Interleaved { n } => vec![h, w, n.into()],
            Axes::Stacked { n } => vec![n.into(), h, w],
            Axes::Grid | Axes::Sequence => vec![h, w],
        })
    }

    /// The number of ids in a row with this grid, if the grid determines it.
    #[must_use]
    pub fn length_of(&self, grid: Grid) -> Option<u64> {
        let positions = u64::from(grid.h) * u64::from(grid.w);
        match self.axes {
            Axes::Grid => Some(positions),
            Axes::Interleaved { n } | Axes::Stacked { n } => positions.checked_mul(n.into()),
            Axes::Sequence => self.length.map(u64::from),
        }
    }

    /// How `row` deviates from the layout, for writers and readers; `None` if it does not.
    #[must_use]
    pub fn mismatch(&self, row: &Row) -> Option<String> {
        let Grid { h, w } = row.grid;
        let ids = row.ids.len() as u64;
        if ids == 0 {
            return Some("it has no ids".into());
        }
        if let Some(grid) = self.grid.filter(|&grid| grid != row.grid) {
            return Some(format!("its grid is {h} × {w} where all have {} × {}", grid.h, grid.w));
        }
        if self.axes != Axes::Sequence && self.length_of(row.grid) != Some(ids) {
            return Some(format!("it has {ids} ids, which do not fill its grid of {h} × {w}"));
        }
        if let Some(length) = self.length.filter(|&length| u64::from(length) != ids) {
            return Some(format!("it has {ids} ids where all have {length}"));
        }
        let large = row.ids.iter().find(|&&id| id > self.dtype.largest())?;
        Some(format!("its id {large} does not fit {}", self.dtype))
    }

    /// Refuses to write a row that deviates from the layout.
    pub(super) fn admit(&self, row: &Row) -> Result<(), TokensError> {
        match self.mismatch(row) {
            Some(reason) => Err(TokensError::Unsuitable(format!("{}: {reason}", row.key))),
            None => Ok(()),
        }
    }

    /// Refuses rows of different lengths, for `format`.
    pub(super) fn one_length(&self, format: &str) -> Result<u32, TokensError> {
        self.length.ok_or_else(|| ragged(format))
    }

    /// Refuses rows of different shapes, for `format`.
    pub(super) fn one_shape(&self, format: &str) -> Result<Vec<u64>, TokensError> {
        self.constant_shape().ok_or_else(|| ragged(format))
    }
}

fn ragged(format: &str) -> TokensError {
    let others = FormatKind::list(|format| format.takes_any_sizes(), "or");
    TokensError::Unsuitable(format!(
        "{format} needs as many tokens in each image, and these images have different sizes; make them the same \
         size, or take {others}"
    ))
}
