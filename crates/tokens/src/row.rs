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

/// One image's tokens as they are stored, with what is known of the image.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name in the set; no dot after the last `/`.
    pub key: String,
    /// The latent grid.
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
