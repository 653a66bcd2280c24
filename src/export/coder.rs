//! From a tensor of indices to stored ids and back: digits, arrangement, vocabulary, framing.

use tch::{Kind, Tensor};

use pixtok_tokens::{Arrangement, Axes, Framing, Grid, Lines, TokensError, Vocabulary};

use crate::quantizer::digits::MixedRadix;

/// How the indices of a tokenizer become the ids of a set.
#[derive(Debug)]
pub struct Coder<'a> {
    /// Codebooks of the tokenizer.
    pub codebooks: u32,
    /// Set to store digits in place of indices.
    pub radix: Option<&'a MixedRadix>,
    /// The order of several numbers at each position.
    pub arrangement: Arrangement,
    /// From codes to ids.
    pub vocabulary: Vocabulary,
    /// Ids around and between them.
    pub framing: Framing,
}

impl Coder<'_> {
    /// Numbers at one position.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        self.codebooks * self.radix.map_or(1, |radix| radix.levels().len() as u32)
    }

    /// Of one row's ids.
    #[must_use]
    pub fn axes(&self) -> Axes {
        match (self.framing.is_bare(), self.numbers(), self.arrangement) {
            (false, _, _) => Axes::Sequence,
            (true, 1, _) => Axes::Grid,
            (true, n, Arrangement::Interleaved) => Axes::Interleaved { n },
            (true, n, Arrangement::Stacked) => Axes::Stacked { n },
        }
    }

    /// Ids of an image with this grid.
    ///
    /// # Errors
    /// When the framing cannot tell its size.
    pub fn length(&self, grid: Grid) -> Result<usize, TokensError> {
        self.framing.length(grid, self.lines(grid))
    }

    fn lines(&self, grid: Grid) -> Lines {
        let (h, w, n) = (grid.h as usize, grid.w as usize, self.numbers() as usize);
        match self.arrangement {
            Arrangement::Interleaved => Lines { count: h, length: w * n },
            Arrangement::Stacked => Lines { count: h * n, length: w },
        }
    }

    /// The ids of each image of a batch.
    ///
    /// # Shapes
    /// `indices`: `[B, h, w]` or `[B, h, w, codebooks]` int64 -> B rows.
    ///
    /// # Errors
    /// When the framing cannot tell the grid's size.
    pub fn ids(&self, indices: &Tensor) -> Result<Vec<Vec<u32>>, TokensError> {
        let size = indices.size();
        let grid = Grid { h: size[1] as u32, w: size[2] as u32 };
        let with_codebooks = if size.len() == 3 { indices.unsqueeze(3) } else { indices.shallow_clone() };
        // [B, h, w, codebooks] -> [B, h, w, n].
        let numbers = match self.radix {
            None => with_codebooks,
            Some(radix) => {
                let last = with_codebooks.size()[3];
                let digits: Vec<Tensor> = (0..last)
                    .map(|book| {
                        radix.digits_from_indices(&with_codebooks.select(3, book)).permute([0, 2, 3, 1])
                    })
                    .collect();
                Tensor::cat(&digits, 3)
            }
        };
        let ordered = match self.arrangement {
            Arrangement::Interleaved => numbers,
            Arrangement::Stacked => numbers.permute([0, 3, 1, 2]),
        };
        let flat = ordered.flatten(0, -1).to_kind(Kind::Int64).to_device(tch::Device::Cpu);
        let codes: Vec<i64> = Vec::try_from(&flat)
            .map_err(|error: tch::TchError| TokensError::Unsuitable(error.to_string()))?;
        let per_image = grid.positions() * self.numbers() as usize;
        codes.chunks(per_image).map(|codes| self.framed(grid, codes)).collect()
    }

    fn framed(&self, grid: Grid, codes: &[i64]) -> Result<Vec<u32>, TokensError> {
        let id_of = |&code: &i64| {
            let id = u32::try_from(code).ok().and_then(|code| self.vocabulary.id(code));
            id.ok_or_else(|| {
                TokensError::Unsuitable(format!(
                    "the tokenizer gave code {code}, and there are {} codes",
                    self.vocabulary.codes()
                ))
            })
        };
        let ids: Vec<u32> = codes.iter().map(id_of).collect::<Result<_, _>>()?;
        self.framing.frame(grid, self.lines(grid), &ids)
    }

    /// The indices of one stored row.
    ///
    /// # Shapes
    /// `[1, h, w]` or `[1, h, w, codebooks]` int64.
    ///
    /// # Errors
    /// In words: framing that is not as it should be, an id that is no code's, a digit outside its levels.
    pub fn indices(&self, grid: Grid, stored: &[u32]) -> Result<Tensor, String> {
        let ids = self.framing.unframe(grid, self.lines(grid), stored)?;
        let mut codes = Vec::with_capacity(ids.len());
        for (at, &id) in ids.iter().enumerate() {
            let code = self.vocabulary.code(id).ok_or_else(|| {
                format!(
                    "token {at} is id {id}, which is none of the {} codes{}",
                    self.vocabulary.codes(),
                    self.vocabulary.first_id().map_or(String::new(), |first| format!(" from id {first} on"))
                )
            })?;
            codes.push(i64::from(code));
        }
        let (h, w, n) = (i64::from(grid.h), i64::from(grid.w), i64::from(self.numbers()));
        let flat = Tensor::from_slice(&codes);
        let numbers = match self.arrangement {
            Arrangement::Interleaved => flat.view([1, h, w, n]),
            Arrangement::Stacked => flat.view([1, n, h, w]).permute([0, 2, 3, 1]),
        };
        let indices = match self.radix {
            None => numbers,
            Some(radix) => self.joined(radix, &numbers)?,
        };
        Ok(if self.codebooks == 1 { indices.squeeze_dim(3) } else { indices })
    }

    /// Digits of all codebooks -> indices `[1, h, w, codebooks]`.
    fn joined(&self, radix: &MixedRadix, numbers: &Tensor) -> Result<Tensor, String> {
        let dims = radix.levels().len() as i64;
        let mut books = vec![];
        for book in 0..i64::from(self.codebooks) {
            let digits = numbers.narrow(3, book * dims, dims).permute([0, 3, 1, 2]);
            for (dim, &level) in (0..).zip(radix.levels()) {
                let largest = digits.select(1, dim).max().int64_value(&[]);
                if largest >= level {
                    return Err(format!(
                        "a digit of dimension {dim} is {largest}, and it has {level} levels"
                    ));
                }
            }
            books.push(radix.indices_from_digits(&digits));
        }
        Ok(Tensor::stack(&books, 3))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::quantizer::digits::Order;
    use pixtok_tokens::SizeTokens;

    const GRID: Grid = Grid { h: 5, w: 7 };

    fn indices(codebooks: i64, codes: i64) -> Tensor {
        tch::manual_seed(3);
        let all = Tensor::randint(codes, [2, 5, 7, codebooks], (Kind::Int64, Device::Cpu));
        if codebooks == 1 { all.squeeze_dim(3) } else { all }
    }

    fn framing() -> Framing {
        let size = SizeTokens::Grid { base: 5000, div: 1 };
        Framing { boi: Some(4000), eol: Some(4001), eoi: Some(4002), size, ..Framing::default() }
    }

    #[test]
    fn every_way_to_store_comes_back() {
        let radix = MixedRadix::new(&[8, 5, 5], Order::FirstFastest, Device::Cpu);
        let map: Vec<u32> = (0..200).map(|code| (code * 7 + 3) % 1009).collect();
        let map = serde_json::to_vec(&map).unwrap();
        for codebooks in [1, 3] {
            let indices = indices(codebooks, 200);
            for arrangement in [Arrangement::Interleaved, Arrangement::Stacked] {
                for digits in [false, true] {
                    for framing in [Framing::default(), framing()] {
                        let vocabulary = if digits {
                            Vocabulary::offset(100, 8).unwrap()
                        } else {
                            Vocabulary::map(&map, 200, "m").unwrap()
                        };
                        let radix = digits.then_some(&radix);
                        let codebooks = codebooks as u32;
                        let coder = Coder { codebooks, radix, arrangement, vocabulary, framing };
                        let rows = coder.ids(&indices).unwrap();
                        assert_eq!(rows.len(), 2);
                        for (image, row) in (0..).zip(&rows) {
                            assert_eq!(row.len(), coder.length(GRID).unwrap());
                            assert_eq!(coder.indices(GRID, row).unwrap(), indices.narrow(0, image, 1));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn several_codebooks_are_side_by_side_or_one_after_the_other() {
        let indices = Tensor::from_slice(&[0i64, 10, 1, 11, 2, 12, 3, 13]).view([1, 2, 2, 2]);
        let coder = |arrangement| Coder {
            codebooks: 2,
            radix: None,
            arrangement,
            vocabulary: Vocabulary::offset(0, 20).unwrap(),
            framing: Framing { eol: Some(99), ..Framing::default() },
        };
        let rows = |arrangement| coder(arrangement).ids(&indices).unwrap().remove(0);
        assert_eq!(rows(Arrangement::Interleaved), [0, 10, 1, 11, 99, 2, 12, 3, 13, 99]);
        assert_eq!(rows(Arrangement::Stacked), [0, 1, 99, 2, 3, 99, 10, 11, 99, 12, 13, 99]);
    }

    #[test]
    fn ids_that_are_no_codes_and_digits_out_of_range_are_named() {
        let radix = MixedRadix::new(&[8, 5], Order::FirstFastest, Device::Cpu);
        let coder = |radix| Coder {
            codebooks: 1,
            radix,
            arrangement: Arrangement::default(),
            vocabulary: Vocabulary::offset(10, 8).unwrap(),
            framing: Framing::default(),
        };
        let grid = Grid { h: 1, w: 2 };
        let words = coder(None).indices(grid, &[17, 18]).unwrap_err();
        assert!(words.contains("token 1 is id 18") && words.contains("8 codes from id 10"), "{words}");
        let words = coder(Some(&radix)).indices(grid, &[17, 14, 10, 15]).unwrap_err();
        assert!(words.contains("dimension 1 is 5"), "{words}");
        assert!(coder(None).indices(grid, &[17]).unwrap_err().contains("has 1 ids"));
    }
}
