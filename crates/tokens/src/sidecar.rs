//! `tokens.json` (`tokens.pixtok` in mds sets): what the numbers in a set's files mean. It is
//! written last, so a set that has one is whole.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names::TokenNames;
use super::{
    Axes, Counts, Dtype, FormatKind, Framing, Grid, Layout, Place, Preprocessing, Shard, SideFiles,
    SizeTokens, Source, StatedGrid, StatedTokenizer, StatedVocabulary, TokensError, Vocabulary, io_error,
};
use pixtok_base::Action;

/// Its usual name in a set's folder: see [`SideFiles`].
pub const SIDECAR: &str = "tokens.json";
/// Most numbers at one position that are believed.
const MAX_NUMBERS: u32 = 4096;
/// The one version there is.
const VERSION: u32 = 1;

/// What the numbers of a set are, and where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Of this file.
    pub format_version: u32,
    /// The version of pixtok that wrote the set.
    pub pixtok: String,
    /// Of the files.
    pub format: FormatKind,
    /// Whose codes they are.
    pub tokenizer: StatedTokenizer,
    /// Of ids.
    pub dtype: Dtype,
    /// Of the positions of a grid: `row-major`, the top left first.
    pub order: String,
    /// The latent grid, or the sequence.
    pub grid: StatedGrid,
    /// Height and width in pixels of the images that were encoded; none when each has its own.
    pub image_size: Option<[u32; 2]>,
    /// How pictures became images.
    pub preprocessing: Preprocessing,
    /// From codes to ids.
    pub vocabulary: StatedVocabulary,
    /// Ids around and between the codes.
    pub specials: Framing,
    /// Ids in the vocabulary of the model that reads the set, if the user gave that number; all ids
    /// are below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<u64>,
    /// Of one row's ids.
    pub axes: Axes,
    /// Ids of a row, when all have as many.
    pub length: Option<u32>,
    /// Rows in succession that are views of one image; the second is the mirror image.
    pub views: u32,
    /// Names in place of ids (JSONL alone).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<TokenNames>,
    /// Whether there is an index of where each document ends (raw alone).
    #[serde(default)]
    pub document_index: bool,
    /// The images.
    pub source: Source,
    /// The sources of each set, if whole sets were joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// Rows of each shard, in order.
    pub shard_rows: Vec<u64>,
    /// What the set holds.
    pub counts: Counts,
}

impl Sidecar {
    /// The path of the sidecar of the set in `folder`.
    #[must_use]
    pub fn path_in(folder: &Path) -> PathBuf {
        folder.join(SideFiles::of_finished(folder).map_or(SIDECAR, |names| names.sidecar))
    }

    /// The version that this program writes.
    #[must_use]
    pub fn version() -> u32 {
        VERSION
    }

    /// What the files need of it.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout {
            dtype: self.dtype,
            grid: self.grid.constant(),
            axes: self.axes,
            length: self.length,
            views: self.views,
            image_side: self.image_size.map_or(0, |[h, w]| h.min(w)),
            names: self.names.clone(),
            document_index: self.document_index,
        }
    }

    /// Height and width in pixels of the image of a row with this grid, as it was encoded.
    #[must_use]
    pub fn image_size_of(&self, grid: Grid) -> [u32; 2] {
        let pixels = self.grid.downsample.unwrap_or(1);
        self.image_size.unwrap_or([grid.h.saturating_mul(pixels), grid.w.saturating_mul(pixels)])
    }

    /// The set's shards, in order.
    #[must_use]
    pub fn shards(&self) -> Vec<Shard> {
        let mut first_row = 0;
        let total = self.shard_rows.len() as u32;
        let shard = |(number, &rows): (u32, &u64)| {
            let place = Place { number, first_row, total: Some(total) };
            first_row += rows;
            Shard { place, rows }
        };
        (0..).zip(&self.shard_rows).map(shard).collect()
    }

    /// The vocabulary's map in `folder`, if there is one.
    ///
    /// # Errors
    /// When it is not there or not the one that the set was written with.
    pub fn map(&self, folder: &Path) -> Result<Option<Vec<u8>>, TokensError> {
        let StatedVocabulary::Map { map, map_blake3 } = &self.vocabulary else { return Ok(None) };
        let path = folder.join(map);
        let json = fs::read(&path).map_err(io_error(Action::Read, &path))?;
        if blake3::hash(&json).to_hex().as_str() == map_blake3 {
            return Ok(Some(json));
        }
        Err(TokensError::Damaged { path, reason: "its hash is not the one in the sidecar".into() })
    }

    /// From codes to ids; a map is read from `folder`.
    ///
    /// # Errors
    /// As [`Sidecar::map`].
    pub fn vocabulary(&self, folder: &Path) -> Result<Vocabulary, TokensError> {
        let levels = self.tokenizer.levels.as_deref().filter(|_| self.tokenizer.digits);
        let codes = levels.map_or(self.tokenizer.codebook_size, |levels| {
            levels.iter().copied().max().map_or(1, |level| level as u64)
        });
        let codes = u32::try_from(codes).map_err(|_| {
            let reason = format!("it states {codes} codes");
            TokensError::Damaged { path: Self::path_in(folder), reason }
        })?;
        match &self.vocabulary {
            StatedVocabulary::Offset { offset } => Vocabulary::offset(*offset, codes),
            StatedVocabulary::Map { map, .. } => {
                Vocabulary::map(&self.map(folder)?.unwrap_or_default(), codes, map)
            }
        }
    }

    /// The number of ids in the vocabulary of the model that reads the set: the one given, else the
    /// largest id that can occur, plus one. `vocabulary` is the set's own.
    #[must_use]
    pub fn ids_of_reader(&self, vocabulary: &Vocabulary) -> u64 {
        let largest = vocabulary.largest().max(self.specials.largest(self.grid.longest_side()));
        self.vocab_size.unwrap_or(u64::from(largest) + 1)
    }

    /// As the file's text.
    ///
    /// # Errors
    /// Never for what this program makes.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Of the set in `folder`.
    ///
    /// # Errors
    /// When there is none, or it is none that this program reads.
    pub fn read(folder: &Path) -> Result<Self, TokensError> {
        let path = Self::path_in(folder);
        let damaged = |reason: String| TokensError::Damaged { path: path.clone(), reason };
        let text = fs::read(&path).map_err(io_error(Action::Read, &path))?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        match value["format_version"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            Some(found) => {
                return Err(TokensError::Unsuitable(format!(
                    "{} has format_version {found}, and this pixtok reads {VERSION}; use the pixtok that wrote it",
                    path.display()
                )));
            }
            None => return Err(damaged("it has no format_version".into())),
        }
        let sidecar: Self = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        match sidecar.fault() {
            Some(fault) => Err(damaged(fault.into())),
            None => Ok(sidecar),
        }
    }

    /// What in it cannot be.
    fn fault(&self) -> Option<&'static str> {
        let rows = self.shard_rows.iter().try_fold(0u64, |sum, &rows| sum.checked_add(rows));
        let levels = self.tokenizer.levels.iter().flatten();
        let map_is_elsewhere = match &self.vocabulary {
            StatedVocabulary::Map { map, .. } => !SideFiles::is_map(map),
            StatedVocabulary::Offset { .. } => false,
        };
        let numbers = 1..=MAX_NUMBERS;
        if rows != Some(self.counts.rows) || self.shard_rows.contains(&0) {
            Some("its shards and its counts do not agree")
        } else if !(1..=2).contains(&self.views) || !numbers.contains(&self.tokenizer.numbers) {
            Some("its views or numbers at a position are out of range")
        } else if !numbers.contains(&self.tokenizer.codebooks) || self.tokenizer.codebook_size == 0 {
            Some("its codebooks are out of range")
        } else if levels.clone().count() > MAX_NUMBERS as usize || levels.copied().any(|level| level < 1) {
            Some("its levels are out of range")
        } else if self.grid.is_sequence() && (self.grid.h != Some(1) || self.image_size.is_none()) {
            Some("its grid has no downsample, and it is no sequence of one length either")
        } else if self.grid.is_sequence() && (self.specials.needs_grid() || self.axes != Axes::Sequence) {
            Some("its tokens are a sequence, and its framing or its axes are for a grid")
        } else if matches!(self.specials.size, SizeTokens::Grid { div: 0, .. }) {
            Some("its size tokens divide by 0")
        } else if map_is_elsewhere {
            Some("its vocabulary map is not beside it")
        } else {
            None
        }
    }
}
