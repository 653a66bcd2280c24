//! Ids around and between the codes of an image, as language models expect them.

use serde::{Deserialize, Serialize};

use super::{Grid, SizeTokens, TokensError, Vocabulary};

/// Ids around and between the codes; absent ids are omitted. The order is: `bos`, `boi`, the size,
/// `img`, the rows of the grid, each followed by `eol`, `eof`, `eoi`, `eos`, `eod`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Framing {
    /// Beginning of the sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// Beginning of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boi: Option<u32>,
    /// The id before the first code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub img: Option<u32>,
    /// The id after every row of the grid, including the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eol: Option<u32>,
    /// The id after the last row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eof: Option<u32>,
    /// End of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eoi: Option<u32>,
    /// End of the sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos: Option<u32>,
    /// End of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eod: Option<u32>,
    /// How the size of the grid is stated.
    #[serde(default)]
    pub size: SizeTokens,
}

/// How the numbers of a grid are divided into rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// The number of rows: h, or h for each of several grids.
    pub count: usize,
    /// The number of ids in a row.
    pub length: usize,
}

impl Framing {
    /// Whether there are only codes.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it tells the rows of a grid or its size, which a sequence doesn't have.
    #[must_use]
    pub fn needs_grid(&self) -> bool {
        self.eol.is_some() || self.size != SizeTokens::None
    }

    /// The ids by the names of their flags.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = [
            ("bos", self.bos),
            ("boi", self.boi),
            ("img", self.img),
            ("eol", self.eol),
            ("eof", self.eof),
            ("eoi", self.eoi),
            ("eos", self.eos),
            ("append-eod", self.eod),
        ];
        all.into_iter().filter_map(|(name, id)| Some((name, id?)))
    }

    /// What an id of the framing of grids with sides up to `side` is for, by the name of its flag;
    /// `None` if it is no id of the framing.
    #[must_use]
    pub fn name_of(&self, id: u32, side: u32) -> Option<&'static str> {
        if let Some((name, _)) = self.named().find(|(_, own)| *own == id) {
            return Some(name);
        }
        let is_size = match &self.size {
            SizeTokens::None => false,
            SizeTokens::Grid { base, div } => (1..=side / (*div).max(1)).contains(&id.wrapping_sub(*base)),
            SizeTokens::Text { ids } => ids.contains(&id),
        };
        is_size.then_some("size")
    }

    /// The number of ids of an image whose grid has these lines, including framing.
    ///
    /// # Errors
    /// If the size cannot be stated.
    pub fn length(&self, grid: Grid, lines: Lines) -> Result<usize, TokensError> {
        let (before, after) = (self.before(grid)?.len(), self.after().len());
        Ok(before + lines.count * (lines.length + usize::from(self.eol.is_some())) + after)
    }

    /// Refuses ids with two meanings: two in the framing, or one in the framing and a code. If
    /// `vocab_size` is given, ids that are not below it are refused too.
    ///
    /// # Errors
    /// The error names both meanings, or the id and the size.
    pub fn check(&self, vocabulary: &Vocabulary, vocab_size: Option<u64>) -> Result<(), TokensError> {
        let fail = |words: String| Err(TokensError::Unsuitable(words));
        let mut seen: Vec<(&str, u32)> = vec![];
        let size = match &self.size {
            SizeTokens::Text { ids } => ids.to_vec(),
            SizeTokens::Grid { div: 0, .. } => {
                return fail("--size-tokens divides by 0; give 1 or more".into());
            }
            _ => vec![],
        };
        for (name, id) in self.named().chain(size.into_iter().map(|id| ("size-tokens", id))) {
            match seen.iter().find(|(_, known)| *known == id) {
                Some((other, _)) if *other == name => {
                    return fail(format!("--{name} has the id {id} twice; give each sign an id of its own"));
                }
                Some((other, _)) => {
                    return fail(format!(
                        "id {id} is both --{other} and --{name}; give each an id of its own"
                    ));
                }
                None => {}
            }
            self.check_id(name, id, vocabulary, vocab_size)?;
            seen.push((name, id));
        }
        let largest = vocabulary.largest();
        match vocab_size {
            Some(vocab) if u64::from(largest) >= vocab => fail(format!(
                "the largest id of a code is {largest}, and --vocab-size is {vocab}; choose a smaller offset or a larger vocabulary"
            )),
            _ => Ok(()),
        }
    }

    fn check_id(
        &self,
        name: &str,
        id: u32,
        vocabulary: &Vocabulary,
        vocab_size: Option<u64>,
    ) -> Result<(), TokensError> {
        let fail = |words: String| Err(TokensError::Unsuitable(words));
        if let Some(code) = vocabulary.code(id) {
            return fail(format!(
                "id {id} is both --{name} and that of code {code}; move the codes with --vocab-offset, or choose another id"
            ));
        }
        if u64::from(id) > super::vocabulary::MAX_ID {
            return fail(format!("--{name} is {id}, which is not below 2^31"));
        }
        match vocab_size {
            Some(vocab) if u64::from(id) >= vocab => {
                fail(format!("--{name} is {id}, and --vocab-size is {vocab}; ids must be below it"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses grid sizes, from 1 to `side` positions, whose ids would be those of a code or of
    /// other framing.
    ///
    /// # Errors
    /// The error names the id.
    pub fn check_sizes(
        &self,
        side: u32,
        vocabulary: &Vocabulary,
        vocab_size: Option<u64>,
    ) -> Result<(), TokensError> {
        let SizeTokens::Grid { base, div } = self.size else { return Ok(()) };
        for steps in 1..=side / div {
            let id = base.saturating_add(steps);
            self.check_id("size-tokens", id, vocabulary, vocab_size)?;
            if let Some((name, _)) = self.named().find(|(_, known)| *known == id) {
                return Err(TokensError::Unsuitable(format!(
                    "id {id} is both --{name} and the size of {} positions; choose another base for --size-tokens",
                    steps * div
                )));
            }
        }
        Ok(())
    }

    /// The ids before the first code.
    pub(super) fn before(&self, grid: Grid) -> Result<Vec<u32>, TokensError> {
        let start = self.bos.into_iter().chain(self.boi);
        Ok(start.chain(self.size.ids(grid)?).chain(self.img).collect())
    }

    /// The ids after the last row.
    pub(super) fn after(&self) -> Vec<u32> {
        self.eof.into_iter().chain(self.eoi).chain(self.eos).chain(self.eod).collect()
    }

    /// The largest id that the framing of grids with sides up to `side` can have; 0 without
    /// framing.
    #[must_use]
    pub fn largest(&self, side: u32) -> u32 {
        self.range(side).map_or(0, |[_, largest]| largest)
    }

    /// The smallest and the largest id that the framing of grids with sides up to `side` can have;
    /// `None` without framing.
    #[must_use]
    pub fn range(&self, side: u32) -> Option<[u32; 2]> {
        let sizes = match &self.size {
            SizeTokens::None => vec![],
            SizeTokens::Grid { base, div } => {
                let steps = side / (*div).max(1);
                vec![base.saturating_add(steps.min(1)), base.saturating_add(steps)]
            }
            SizeTokens::Text { ids } => ids.to_vec(),
        };
        let ids = || self.named().map(|(_, id)| id).chain(sizes.iter().copied());
        Some([ids().min()?, ids().max()?])
    }

    /// Adds the framing to the ids of codes.
    ///
    /// # Errors
    /// If the size cannot be stated.
    pub fn frame(&self, grid: Grid, lines: Lines, ids: &[u32]) -> Result<Vec<u32>, TokensError> {
        let mut framed = self.before(grid)?;
        for line in ids.chunks(lines.length) {
            framed.extend(line);
            framed.extend(self.eol);
        }
        framed.extend(self.after());
        Ok(framed)
    }

    /// Inverse of [`Framing::frame`]. Checks every id of the framing.
    ///
    /// # Errors
    /// A description in words of the first wrong id.
    pub fn unframe(&self, grid: Grid, lines: Lines, framed: &[u32]) -> Result<Vec<u32>, String> {
        let expected = self.length(grid, lines).map_err(|error| error.to_string())?;
        if framed.len() != expected {
            return Err(format!(
                "it has {} ids, and a grid of {}×{} has {expected}",
                framed.len(),
                grid.h,
                grid.w
            ));
        }
        let before = self.before(grid).map_err(|error| error.to_string())?;
        let (head, rest) = framed.split_at(before.len());
        let (body, tail) = rest.split_at(rest.len() - self.after().len());
        for (at, (found, meant)) in (0..).zip(head.iter().zip(&before)) {
            same(*found, *meant, at)?;
        }
        let mut ids = Vec::with_capacity(lines.count * lines.length);
        let step = lines.length + usize::from(self.eol.is_some());
        for (number, line) in body.chunks(step).enumerate() {
            ids.extend(&line[..lines.length]);
            if let Some(eol) = self.eol {
                same(line[lines.length], eol, before.len() + number * step + lines.length)?;
            }
        }
        for (at, (found, meant)) in (framed.len() - tail.len()..).zip(tail.iter().zip(self.after())) {
            same(*found, meant, at)?;
        }
        Ok(ids)
    }
}

fn same(found: u32, meant: u32, at: usize) -> Result<(), String> {
    if found == meant { Ok(()) } else { Err(format!("its id {at} is {found} where the framing has {meant}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { h: 2, w: 3 };
    const LINES: Lines = Lines { count: 2, length: 3 };

    fn full() -> Framing {
        Framing {
            bos: Some(100),
            boi: Some(101),
            img: Some(102),
            eol: Some(103),
            eof: Some(104),
            eoi: Some(105),
            eos: Some(106),
            eod: Some(107),
            size: SizeTokens::Grid { base: 200, div: 1 },
        }
    }

    #[test]
    fn a_frame_has_its_order_and_comes_off_again() {
        let ids = [1, 2, 3, 4, 5, 6];
        let framed = full().frame(GRID, LINES, &ids).unwrap();
        let expected = [100, 101, 202, 203, 102, 1, 2, 3, 103, 4, 5, 6, 103, 104, 105, 106, 107];
        assert_eq!(framed, expected);
        assert_eq!(full().length(GRID, LINES).unwrap(), framed.len());
        assert_eq!(full().unframe(GRID, LINES, &framed).unwrap(), ids);
        assert_eq!(full().range(16), Some([100, 216]));
        for (id, name) in
            [(100, Some("bos")), (103, Some("eol")), (216, Some("size")), (217, None), (1, None)]
        {
            assert_eq!(full().name_of(id, 16), name, "{id}");
        }
        let bare = Framing::default();
        assert!(bare.is_bare());
        assert_eq!((bare.range(16), bare.largest(16)), (None, 0));
        assert_eq!(bare.frame(GRID, LINES, &ids).unwrap(), ids);
        assert_eq!(bare.unframe(GRID, LINES, &ids).unwrap(), ids);
    }

    #[test]
    fn every_wrong_id_of_a_frame_is_found() {
        let framed = full().frame(GRID, LINES, &[1, 2, 3, 4, 5, 6]).unwrap();
        for at in 0..framed.len() {
            let mut wrong = framed.clone();
            wrong[at] = 99;
            let outcome = full().unframe(GRID, LINES, &wrong);
            let is_code = (5..8).contains(&at) || (9..12).contains(&at);
            assert_eq!(outcome.is_ok(), is_code, "{at}: {outcome:?}");
            if let Err(words) = outcome {
                assert!(words.contains(&format!("id {at} is 99")), "{words}");
            }
        }
        assert!(full().unframe(GRID, LINES, &framed[1..]).unwrap_err().contains("has 16 ids"));
    }

    #[test]
    fn ids_that_mean_two_things_are_refused() {
        let vocabulary = Vocabulary::offset(0, 50).unwrap();
        full().check(&vocabulary, Some(300)).unwrap();
        let framing = |change: fn(&mut Framing)| {
            let mut framing = full();
            change(&mut framing);
            framing
        };
        for (framing, part) in [
            (framing(|f| f.eoi = Some(7)), "both --eoi and that of code 7"),
            (framing(|f| f.eoi = Some(101)), "both --boi and --eoi"),
            (framing(|f| f.eod = Some(300)), "--append-eod is 300, and --vocab-size is 300"),
            (framing(|f| f.size = SizeTokens::Text { ids: [100; 11] }), "both --bos and --size-tokens"),
            (framing(|f| f.size = SizeTokens::Text { ids: [200; 11] }), "--size-tokens has the id 200 twice"),
        ] {
            let message = framing.check(&vocabulary, Some(300)).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        let message = full().check(&Vocabulary::offset(0, 50).unwrap(), Some(49)).unwrap_err().to_string();
        assert!(message.contains("--vocab-size is 49"), "{message}");
        let sizes = Framing { size: SizeTokens::Grid { base: 48, div: 1 }, ..Framing::default() };
        sizes.check(&vocabulary, None).unwrap();
        let message = sizes.check_sizes(9, &vocabulary, None).unwrap_err().to_string();
        assert!(message.contains("that of code 49"), "{message}");
        let clash =
            Framing { boi: Some(60), size: SizeTokens::Grid { base: 50, div: 1 }, ..Framing::default() };
        let message = clash.check_sizes(10, &vocabulary, None).unwrap_err().to_string();
        assert!(message.contains("both --boi and the size"), "{message}");
    }
}
