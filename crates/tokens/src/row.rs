//! The tokens of an image.

use serde::{Deserialize, Serialize};

use pixtok_base::Carried;

/// The size of a latent grid, in positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grid {
    /// The number of rows.
    pub h: u32,
    /// The number of positions in a row.
    pub w: u32,
}

impl Grid {
    /// The number of positions, h·w.
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
    /// The name of the image in the set. It has no dot after the last `/`.
    pub key: String,
    /// The latent grid; of a sequence, one row (see [`StatedGrid`](crate::StatedGrid)).
    pub grid: Grid,
    /// The width in pixels of the original picture.
    pub width: u32,
    /// The height in pixels of the original picture.
    pub height: u32,
    /// The ids, below 2^31, including framing if the set has any.
    pub ids: Vec<u32>,
    /// The class of the image.
    pub label: Option<i64>,
    /// The caption of the image.
    pub text: Option<String>,
    /// Other metadata of the image.
    pub json: Option<Carried>,
}
