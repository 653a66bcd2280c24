//! Which grid a generated row has.

use super::GeneratedForm;
use crate::{Arrangement, Grid};

impl GeneratedForm {
    /// The grid of rows that state none; `None` if the grids differ.
    pub(super) fn usual_grid(&self) -> Option<Grid> {
        self.fixed.or(self.default)
    }

    /// The grid of a row. `stated` is the one that the file states.
    pub(super) fn grid_of(&self, ids: &[u32], stated: Option<Grid>) -> Result<Grid, String> {
        if let Some(fixed) = self.fixed {
            return match stated.filter(|&grid| grid != fixed) {
                None => Ok(fixed),
                Some(Grid { h, w }) => Err(format!(
                    "its tokens are {h}×{w}, and those of every image are {}×{}",
                    fixed.h, fixed.w
                )),
            };
        }
        let found = stated.or_else(|| self.size_in(ids)).or_else(|| self.grid_by_ends(ids)).or(self.default);
        let Some(grid) = found else {
            return Err(
                "nothing states the size of its image: it has no ids of the size and no ends of rows; add h and w \
                 to its line in a .jsonl"
                    .into(),
            );
        };
        let Grid { h, w } = grid;
        if !self.is_plausible(grid) {
            return Err(format!("it has {} ids, and it is for {h}×{w} tokens", ids.len()));
        }
        Ok(grid)
    }

    /// The size that the ids at the start state.
    fn size_in(&self, ids: &[u32]) -> Option<Grid> {
        let mut rest = ids;
        for id in [self.framing.bos, self.framing.boi].into_iter().flatten() {
            rest = rest.strip_prefix(&[id]).unwrap_or(rest);
        }
        let is_code = |id: &u32| self.vocabulary.code(*id).is_some();
        let codes = rest.iter().position(is_code)?;
        self.framing.size.read(&rest[..codes])
    }

    /// The grid by the ends of its rows.
    fn grid_by_ends(&self, ids: &[u32]) -> Option<Grid> {
        let eol = self.framing.eol?;
        let begin = ids.iter().position(|&id| self.vocabulary.code(id).is_some())?;
        let length = ids[begin..].iter().position(|&id| id == eol)? as u32;
        let count = ids.iter().filter(|&&id| id == eol).count() as u32;
        let (h, w) = match self.arrangement {
            Arrangement::Interleaved => (count, length / self.numbers.max(1)),
            Arrangement::Stacked => (count / self.numbers.max(1), length),
        };
        Some(Grid { h, w })
    }

    /// The grid of an array of codes with these axes; `None` if they are not those of an image.
    pub(super) fn grid_of_axes(&self, axes: &[u64]) -> Option<Grid> {
        let n = u64::from(self.numbers);
        let sides = match (self.numbers, self.arrangement, axes) {
            (1, _, sides) => sides,
            (_, Arrangement::Interleaved, [sides @ .., last]) if *last == n => sides,
            (_, Arrangement::Stacked, [first, sides @ ..]) if *first == n => sides,
            _ => return None,
        };
        let side = |side: u64| u32::try_from(side).ok();
        let grid = match (self.sequence, sides) {
            (true, &[w]) => Grid { h: 1, w: side(w)? },
            (false, &[h, w]) => Grid { h: side(h)?, w: side(w)? },
            _ => return None,
        };
        self.fixed.is_none_or(|fixed| fixed == grid).then_some(grid)
    }

    /// The axes of an array of codes, in words.
    pub(super) fn axes_in_words(&self) -> String {
        let sides = match (self.usual_grid(), self.sequence) {
            (Some(Grid { w, .. }), true) => w.to_string(),
            (Some(Grid { h, w }), false) if self.fixed.is_some() => format!("{h}, {w}"),
            _ => "h, w".to_owned(),
        };
        match (self.numbers, self.arrangement) {
            (1, _) => format!("[N, {sides}]"),
            (n, Arrangement::Interleaved) => format!("[N, {sides}, {n}]"),
            (n, Arrangement::Stacked) => format!("[N, {n}, {sides}]"),
        }
    }
}
