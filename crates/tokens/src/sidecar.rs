//! `tokens.json` (`tokens.pixtok` in mds sets): the meaning of the numbers in a set's files. It is
//! written last, so a set that has one is complete.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names::TokenNames;
use super::{
    Axes, Counts, Dtype, FormatKind, Framing, Grid, Layout, MadeBy, Place, PrefixAxis, Preprocessing, Shard,
    SideFiles, SizeTokens, Source, StatedGrid, StatedIds, StatedPositions, StatedPrefix, StatedTokenizer,
    StatedVocabulary, TokensError, Vocabulary, io_error,
};
use pixtok_base::Action;

/// The usual name in a set's folder; see [`SideFiles`].
pub const SIDECAR: &str = "tokens.json";
/// The largest plausible number of numbers at one position.
const MAX_NUMBERS: u32 = 4096;
/// The only version so far.
const VERSION: u32 = 1;

/// The meaning and the origin of the numbers in a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// The version of this file's format.
    pub format_version: u32,
    /// The version of pixtok that wrote the set.
    pub pixtok: String,
    /// The format of the token files.
    pub format: FormatKind,
    /// The tokenizer that made the codes.
    pub tokenizer: StatedTokenizer,
    /// The checkpoint that made the codes, to find it again; the hash in `tokenizer` decides
    /// whether it is the right one. Absent in sets of older versions, and where no run made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<MadeBy>,
    /// What was done with positions at sizes beyond the trained one; absent in sets of tokenizers
    /// without positions that extend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<StatedPositions>,
    /// The number type of ids.
    pub dtype: Dtype,
    /// The order of the positions of a grid: `row-major`, from the top left.
    pub order: String,
    /// The latent grid, or the sequence.
    pub grid: StatedGrid,
    /// States that only the first tokens or codebooks are stored; absent if all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<StatedPrefix>,
    /// Height and width in pixels of the encoded images; `None` if they differ.
    pub image_size: Option<[u32; 2]>,
    /// How pictures were prepared.
    pub preprocessing: Preprocessing,
    /// The mapping from codes to ids.
    pub vocabulary: StatedVocabulary,
    /// The ids around and between the codes.
    pub specials: Framing,
    /// The number of ids in the vocabulary of the model that reads the set, if the user stated it.
    /// All ids are below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<u64>,
    /// The range of the ids, which follows from the keys above; absent in sets of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<StatedIds>,
    /// The axes of one row's ids.
    pub axes: Axes,
    /// The number of ids in a row, if it is the same for all rows.
    pub length: Option<u32>,
    /// The number of successive rows that are views of one image. The second is the mirror image.
    pub views: u32,
    /// Names instead of ids (only in JSONL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<TokenNames>,
    /// Whether there is an index of where each document ends (only in raw).
    #[serde(default)]
    pub document_index: bool,
    /// The origin of the images.
    pub source: Source,
    /// The origin of the images of each set, for merged sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The number of rows of each shard, in order.
    pub shard_rows: Vec<u64>,
    /// The numbers of images, rows and tokens.
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

    /// The properties that the token files depend on.
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
            classes: self.source.classes.clone(),
        }
    }

    /// How many tokens or codebooks the set holds of those that its prefix is of, and the prefix.
    #[must_use]
    pub fn kept(&self) -> Option<(u32, StatedPrefix)> {
        let prefix = self.prefix?;
        let kept = match prefix.axis {
            PrefixAxis::Tokens => self.grid.constant().filter(|_| self.grid.is_sequence())?.w,
            PrefixAxis::Codebooks => self.tokenizer.codebooks,
        };
        Some((kept, prefix))
    }

    /// Height and width in pixels of the image of a row with this grid, as it was encoded.
    #[must_use]
    pub fn image_size_of(&self, grid: Grid) -> [u32; 2] {
        self.image_size.unwrap_or_else(|| self.grid.pixels(grid))
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

    /// The bytes of the vocabulary map in `folder`, if the set uses one.
    ///
    /// # Errors
    /// If the map is missing or differs from the one that the set was written with.
    pub fn map(&self, folder: &Path) -> Result<Option<Vec<u8>>, TokensError> {
        let StatedVocabulary::Map { map, map_blake3 } = &self.vocabulary else { return Ok(None) };
        let path = folder.join(map);
        let json = fs::read(&path).map_err(io_error(Action::Read, &path))?;
        if blake3::hash(&json).to_hex().as_str() == map_blake3 {
            return Ok(Some(json));
        }
        Err(TokensError::Damaged { path, reason: "its hash is not the one in the sidecar".into() })
    }

    /// The mapping from codes to ids. A map is read from `folder`.
    ///
    /// # Errors
    /// The same as [`Sidecar::map`].
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

    /// The number of ids in the vocabulary of the model that reads the set: the stated number,
    /// otherwise the largest possible id plus one. `vocabulary` is that of the set.
    #[must_use]
    pub fn ids_of_reader(&self, vocabulary: &Vocabulary) -> u64 {
        let largest = vocabulary.largest().max(self.specials.largest(self.grid.longest_side()));
        self.vocab_size.unwrap_or(u64::from(largest) + 1)
    }

    /// The range of the set's ids. `vocabulary` is that of the set.
    #[must_use]
    pub fn ids(&self, vocabulary: &Vocabulary) -> StatedIds {
        StatedIds {
            vocabulary: self.ids_of_reader(vocabulary),
            codes: [vocabulary.smallest(), vocabulary.largest()],
            specials: self.specials.range(self.grid.longest_side()),
        }
    }

    /// The text of the file.
    ///
    /// # Errors
    /// Never for sidecars that this program makes.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the sidecar of the set in `folder`.
    ///
    /// # Errors
    /// If there is none, or this program cannot read it.
    pub fn read(folder: &Path) -> Result<Self, TokensError> {
        let path = Self::path_in(folder);
        let damaged = |reason: String| TokensError::Damaged { path: path.clone(), reason };
        let text = fs::read(&path).map_err(io_error(Action::Read, &path))?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        match value["format_version"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            Some(found) => {
                return Err(TokensError::Unsuitable(format!(
                    "{} has format_version {found}, but this pixtok reads {VERSION}; use the pixtok that wrote it",
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

    /// The first impossible statement in it, if there is one.
    fn fault(&self) -> Option<&'static str> {
        let rows = self.shard_rows.iter().try_fold(0u64, |sum, &rows| sum.checked_add(rows));
        let levels = self.tokenizer.levels.iter().flatten();
        let map_is_elsewhere = match &self.vocabulary {
            StatedVocabulary::Map { map, .. } => !SideFiles::is_map(map),
            StatedVocabulary::Offset { .. } => false,
        };
        let has_one_row = self.grid.constant().is_some_and(|grid| grid.h == 1);
        let numbers = 1..=MAX_NUMBERS;
        let is_prefix = self.kept().is_some_and(|(kept, prefix)| (1..prefix.of).contains(&kept));
        if rows != Some(self.counts.rows) || self.shard_rows.contains(&0) {
            Some("its shards and its counts do not agree")
        } else if !(1..=2).contains(&self.views) || !numbers.contains(&self.tokenizer.numbers) {
            Some("its views or numbers at a position are out of range")
        } else if !numbers.contains(&self.tokenizer.codebooks) || self.tokenizer.codebook_size == 0 {
            Some("its codebooks are out of range")
        } else if levels.clone().count() > MAX_NUMBERS as usize || levels.copied().any(|level| level < 1) {
            Some("its levels are out of range")
        } else if !self.grid.is_sequence() && self.grid.downsample.is_none() {
            Some("its grid has no downsample")
        } else if self.grid.is_sequence() && (!has_one_row || self.image_size.is_none()) {
            Some("its tokens are a sequence, and not of one length")
        } else if self.grid.is_sequence() && self.grid.downsample.is_some() {
            Some("its tokens are a sequence, and its grid has a downsample")
        } else if self.grid.is_sequence() && (self.specials.needs_grid() || self.axes != Axes::Sequence) {
            Some("its tokens are a sequence, and its framing or its axes are for a grid")
        } else if self.prefix.is_some() && !is_prefix {
            Some("its prefix is not a part of what it is of")
        } else if matches!(self.specials.size, SizeTokens::Grid { div: 0, .. }) {
            Some("its size tokens divide by 0")
        } else if map_is_elsewhere {
            Some("its vocabulary map is not beside it")
        } else {
            None
        }
    }
}
