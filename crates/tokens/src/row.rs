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

/// The tokens of an image as they are stored, with the metadata of the image.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The name of the image in the set. It has no dot after the last `/`.
    pub key: String,
    /// The latent grid.
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
