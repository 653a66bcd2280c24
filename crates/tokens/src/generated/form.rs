//! What a row of generated ids may look like, and the row of a set that it stands for.
//!
//! With B for the ids before the codes (bos, boi, the size, img), L for the end of a row and A for
//! the ids after the codes (eof, eoi, eos, eod), a set's row is `B… (codes L)… A…`. A generated one
//! may lack the first ids of B, which were the prompt, the last ids of A, at which the model was
//! stopped, and every L. All other ids must be as they are in the set.

use crate::{
    Arrangement, Dtype, Framing, Grid, Lines, TokenNames, TokenSet, TokenShape, TokensError, Vocabulary,
};

/// More numbers than any image has.
const MOST_NUMBERS: u64 = 1 << 28;

/// The form of generated rows.
#[derive(Debug, Clone)]
pub struct GeneratedForm {
    /// The number type of a file that doesn't state it.
    pub(super) dtype: Option<Dtype>,
    /// Names instead of ids.
    pub(super) names: Option<TokenNames>,
    /// Numbers at each position.
    pub(super) numbers: u32,
    pub(super) arrangement: Arrangement,
    /// Whether tokens are a sequence.
    pub(super) sequence: bool,
    /// The grid that all rows have.
    pub(super) fixed: Option<Grid>,
    /// The grid of rows that don't state their own.
    pub(super) default: Option<Grid>,
    /// The values of each digit, if the numbers are digits.
    levels: Vec<i64>,
    pub(super) vocabulary: Vocabulary,
    pub(super) framing: Framing,
}

impl GeneratedForm {
    /// The form of the rows of a set.
    ///
    /// # Errors
    /// If the set's vocabulary map cannot be read, or its grid is too large to be one.
    pub fn like(set: &TokenSet) -> Result<Self, TokensError> {
        let sidecar = &set.sidecar;
        let tokenizer = &sidecar.tokenizer;
        let form = Self {
            dtype: Some(sidecar.dtype),
            names: sidecar.names.clone(),
            numbers: tokenizer.numbers,
            arrangement: tokenizer.arrangement,
            sequence: sidecar.grid.is_sequence(),
            fixed: sidecar.grid.constant(),
            default: None,
            levels: tokenizer.levels.clone().filter(|_| tokenizer.digits).unwrap_or_default(),
            vocabulary: sidecar.vocabulary(&set.folder)?,
            framing: sidecar.specials.clone(),
        };
        if let Some(Grid { h, w }) = form.fixed.filter(|&grid| !form.is_plausible(grid)) {
            return Err(TokensError::Unsuitable(format!(
                "{} states a grid of {h}×{w}, which no image has; give another set with --like",
                set.folder.display()
            )));
        }
        Ok(form)
    }

    /// The form of codes and nothing else: those of a tokenizer with `codes` codes in each of
    /// `codebooks` codebooks. `shape` is that of its usual images; other grids are taken too if the
    /// file states them.
    ///
    /// # Errors
    /// If there are too many codes.
    pub fn codes(shape: TokenShape, codebooks: u32, codes: u32) -> Result<Self, TokensError> {
        let grid = Some(shape.stored());
        let sequence = shape.grid().is_none();
        Ok(Self {
            dtype: None,
            names: None,
            numbers: codebooks,
            arrangement: Arrangement::Interleaved,
            sequence,
            fixed: grid.filter(|_| sequence),
            default: grid.filter(|_| !sequence),
            levels: vec![],
            vocabulary: Vocabulary::offset(0, codes)?,
            framing: Framing::default(),
        })
    }

    /// Whether an image can have this grid.
    pub(super) fn is_plausible(&self, grid: Grid) -> bool {
        let positions = u64::from(grid.h) * u64::from(grid.w);
        positions > 0 && positions.saturating_mul(self.numbers.into()) <= MOST_NUMBERS
    }

    /// The number of ids in a set's row with this grid.
    pub(super) fn whole_length(&self, grid: Grid) -> Result<usize, TokensError> {
        self.framing.length(grid, self.arrangement.lines(grid, self.numbers))
    }

    /// The number of ids of each row in a stream of `total` ids that begins with `start`, as many
    /// ids as a set's row has, if there are so many. The first row decides, unless only rows of
    /// that length fill the stream.
    pub(super) fn length_in_stream(
        &self,
        start: &[u32],
        total: u64,
        grid: Grid,
    ) -> Result<usize, TokensError> {
        let whole = self.whole_length(grid)?;
        let lines = self.arrangement.lines(grid, self.numbers);
        let (before, after) = (self.framing.before(grid)?, self.framing.after());
        let head = head(start, &before);
        if start.get(head).is_none_or(|&id| self.vocabulary.code(id).is_none()) {
            return Ok(whole);
        }
        let eol = self.framing.eol.filter(|eol| start.get(head + lines.length) == Some(eol));
        let end = head + body_length(lines, eol);
        let rest = start.get(end..).unwrap_or_default();
        let tail = rest.iter().zip(&after).take_while(|(found, meant)| found == meant).count();
        let found = end + tail;
        let fills = |length: usize| total.is_multiple_of(length as u64);
        Ok(if !fills(found) && fills(whole) { whole } else { found })
    }

    /// The grid and the ids of the set's row that `ids` stand for. `stated` is the grid that the
    /// file states.
    ///
    /// # Errors
    /// What is wrong, with the place in the row, counted from 0.
    pub(super) fn complete(&self, ids: &[u32], stated: Option<Grid>) -> Result<(Grid, Vec<u32>), String> {
        let grid = self.grid_of(ids, stated)?;
        let lines = self.arrangement.lines(grid, self.numbers);
        let words = |error: TokensError| error.to_string();
        let (before, after) = (self.framing.before(grid).map_err(words)?, self.framing.after());
        let whole = self.whole_length(grid).map_err(words)?;
        let (head, eol) = if ids.len() == whole {
            (before.len(), self.framing.eol)
        } else {
            let head = head(ids, &before);
            (head, self.framing.eol.filter(|eol| ids[head..].contains(eol)))
        };
        let end = head + body_length(lines, eol);
        if ids.len() < end || ids.len() > end + after.len() {
            return Err(self.wrong_length(ids, grid, whole));
        }
        let (body, tail) = (&ids[head..end], &ids[end..]);
        for (place, (&found, &meant)) in ids.iter().zip(&before[before.len() - head..]).enumerate() {
            same(place, found, meant, "where the framing has")?;
        }
        let mut codes = Vec::with_capacity(lines.count * lines.length);
        let step = lines.length + usize::from(eol.is_some());
        for (at, &id) in body.iter().enumerate() {
            let place = head + at;
            match eol.filter(|_| at % step == lines.length) {
                Some(eol) => same(place, id, eol, "where a row of the image ends with")?,
                None => {
                    self.check_code(place, id, grid, self.number_at(grid, at / step, at % step))?;
                    codes.push(id);
                }
            }
        }
        for (at, (&found, &meant)) in tail.iter().zip(&after).enumerate() {
            same(end + at, found, meant, "where the framing has")?;
        }
        Ok((grid, self.framing.frame(grid, lines, &codes).map_err(words)?))
    }

    /// Which of the numbers of its position the number at this place of a line is.
    fn number_at(&self, grid: Grid, line: usize, column: usize) -> usize {
        match self.arrangement {
            Arrangement::Interleaved => column % self.numbers.max(1) as usize,
            Arrangement::Stacked => line / grid.h.max(1) as usize,
        }
    }

    fn check_code(&self, place: usize, id: u32, grid: Grid, number: usize) -> Result<(), String> {
        let Some(code) = self.vocabulary.code(id) else {
            if let Some(name) = self.framing.name_of(id, grid.h.max(grid.w)) {
                return Err(format!(
                    "place {place} has the id {id}, which is {name}, where a code belongs: mask special ids while sampling"
                ));
            }
            let codes = self.vocabulary.codes();
            let last = self.vocabulary.largest();
            let range = self.vocabulary.first_id().map_or_else(
                || "of the vocabulary map".to_owned(),
                |first| format!("with the ids {first} to {last}"),
            );
            return Err(format!("place {place} has the id {id}, which is none of the {codes} codes {range}"));
        };
        let dimension = number % self.levels.len().max(1);
        match self.levels.get(dimension) {
            Some(&levels) if i64::from(code) >= levels => Err(format!(
                "place {place} has the id {id}, digit {code} of dimension {dimension}, which has {levels} levels"
            )),
            _ => Ok(()),
        }
    }

    /// What is wrong with a row of too many or too few ids. Special ids among them are counted by
    /// themselves, since a row with some of them may be as long as one with none.
    fn wrong_length(&self, ids: &[u32], Grid { h, w }: Grid, whole: usize) -> String {
        let codes = u64::from(h) * u64::from(w) * u64::from(self.numbers);
        let image =
            if self.sequence { format!("a sequence of {w}") } else { format!("an image of {h}×{w} tokens") };
        let name =
            |&id: &u32| self.framing.name_of(id, h.max(w)).filter(|_| self.vocabulary.code(id).is_none());
        let mut first: Vec<&str> = ids.iter().map_while(name).collect();
        let special = ids.iter().filter_map(name).count();
        if special == 0 {
            let framed = if self.framing.is_bare() {
                String::new()
            } else {
                format!(", or {whole} with all ids of the framing")
            };
            return format!("it has {} ids, and {image} has {codes}{framed}", ids.len());
        }
        let (own, others) = (ids.len() - special, special - first.len());
        first.dedup();
        let (begins, other) = if first.is_empty() {
            (String::new(), "")
        } else {
            (format!("begins with {} and ", first.join(", ")), "other ")
        };
        let others = match others {
            0 => String::new(),
            1 => format!(" and 1 {other}special id"),
            _ => format!(" and {others} {other}special ids"),
        };
        let framed = if own as u64 == codes {
            format!(" in a row of {whole} with all ids of the framing")
        } else {
            String::new()
        };
        format!("it {begins}has {own} codes{others}; {image} has {codes}{framed}")
    }
}

/// The number of ids at the start of a row that are the last ones of `before`.
fn head(ids: &[u32], before: &[u32]) -> usize {
    let fits = |&count: &usize| ids.starts_with(&before[before.len() - count..]);
    (0..=before.len()).rev().find(fits).unwrap_or(0)
}

fn body_length(lines: Lines, eol: Option<u32>) -> usize {
    lines.count * (lines.length + usize::from(eol.is_some()))
}

fn same(place: usize, found: u32, meant: u32, what: &str) -> Result<(), String> {
    if found == meant { Ok(()) } else { Err(format!("place {place} has the id {found} {what} {meant}")) }
}
