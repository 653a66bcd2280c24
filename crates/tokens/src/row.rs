//! One image's tokens.

use serde::{Deserialize, Serialize};

use pixtok_base::Carried;

/// Positions of a latent grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grid {
    /// Rows of positions.
    pub h: u32,
    /// Positions in a row.
    pub w: u32,
}

impl Grid {
    /// h·w.
    #[must_use]
    pub fn positions(self) -> usize {
        self.h as usize * self.w as usize
    }
}

impl From<Grid> for TokenShape {
    fn from(Grid { h, w }: Grid) -> Self {
        Self::Grid { h, w }
    }
}

/// How the tokens of an image lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenShape {
    /// Each for its part of the image.
    Grid {
        /// Rows of positions.
        h: u32,
        /// Positions in a row.
        w: u32,
    },
    /// One after the other, each for the whole image.
    Sequence {
        /// How many.
        n: u32,
    },
}

impl TokenShape {
    /// How many positions there are.
    #[must_use]
    pub fn positions(self) -> usize {
        self.stored().positions()
    }

    /// The grid, if it is one.
    #[must_use]
    pub fn grid(self) -> Option<Grid> {
        match self {
            Self::Grid { h, w } => Some(Grid { h, w }),
            Self::Sequence { .. } => None,
        }
    }

    /// As rows of files have it: a sequence is a grid of one row.
    #[must_use]
    pub fn stored(self) -> Grid {
        match self {
            Self::Grid { h, w } => Grid { h, w },
            Self::Sequence { n } => Grid { h: 1, w: n },
        }
    }
}

/// One image's tokens as they are stored, with what is known of the image.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name in the set; no dot after the last `/`.
    pub key: String,
    /// The latent grid; of a sequence, one row (see [`StatedGrid`](crate::StatedGrid)).
    pub grid: Grid,
    /// Width in pixels of the picture as it came.
    pub width: u32,
    /// Height in pixels of the picture as it came.
    pub height: u32,
    /// Ids, with framing if the set has any; below 2^31.
    pub ids: Vec<u32>,
    /// Its class.
    pub label: Option<i64>,
    /// Its caption.
    pub text: Option<String>,
    /// What else came with it.
    pub json: Option<Carried>,
}
