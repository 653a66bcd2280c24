//! Converts a tensor of indices to stored ids and back: digits, arrangement, vocabulary, framing.

use tch::{Kind, Tensor};

use pixtok_tokens::{Arrangement, Axes, Framing, Lines, TokenShape, TokensError, Vocabulary};

use crate::quantizer::digits::MixedRadix;

/// How the indices of a tokenizer are converted to the ids of a set.
#[derive(Debug)]
pub struct Coder<'a> {
    /// The number of codebooks of the tokenizer.
    pub codebooks: u32,
    /// The digits, if digits are stored instead of indices.
    pub radix: Option<&'a MixedRadix>,
    /// The order of several numbers at each position.
    pub arrangement: Arrangement,
    /// Maps codes to ids.
    pub vocabulary: Vocabulary,
    /// Ids around and between the codes.
    pub framing: Framing,
}

impl Coder<'_> {
    /// The number of codes at one position.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        self.codebooks * self.radix.map_or(1, |radix| radix.levels().len() as u32)
    }

    /// The axes of one row's ids, for tokens in a grid or in a `sequence`.
    #[must_use]
    pub fn axes(&self, sequence: bool) -> Axes {
        match (self.framing.is_bare() && !sequence, self.numbers(), self.arrangement) {
            (false, _, _) => Axes::Sequence,
            (true, 1, _) => Axes::Grid,
            (true, n, Arrangement::Interleaved) => Axes::Interleaved { n },
            (true, n, Arrangement::Stacked) => Axes::Stacked { n },
        }
    }

    /// The number of ids of an image whose tokens have this shape.
    ///
    /// # Errors
    /// When the framing cannot express its size.
    pub fn length(&self, shape: impl Into<TokenShape>) -> Result<usize, TokensError> {
        let shape = shape.into();
        self.framing.length(shape.stored(), self.lines(shape))
    }

    fn lines(&self, shape: TokenShape) -> Lines {
        self.arrangement.lines(shape.stored(), self.numbers())
    }

    /// The ids of each image of a batch, whose tokens have this shape.
    ///
    /// # Shapes
    /// `indices`: `[B, h, w]` or `[B, h, w, codebooks]` int64, or of a sequence `[B, N]` or `[B, N,
    /// codebooks]` -> B rows.
    ///
    /// # Errors
    /// When the framing cannot express the grid's size.
    pub fn ids(&self, shape: impl Into<TokenShape>, indices: &Tensor) -> Result<Vec<Vec<u32>>, TokensError> {
        let shape = shape.into();
        let flat = [indices.size()[0], shape.positions() as i64, i64::from(self.codebooks)];
        if flat.iter().product::<i64>() != indices.numel() as i64 {
            return Err(TokensError::Unsuitable(format!(
                "the tokenizer gave indices {:?}, which are not {flat:?}",
                indices.size()
            )));
        }
        let with_codebooks = indices.reshape(flat);
        // [B, N, codebooks] -> [B, N, n].
        let numbers = match self.radix {
            None => with_codebooks,
            Some(radix) => {
                let last = with_codebooks.size()[2];
                let digits: Vec<Tensor> = (0..last)
                    .map(|book| radix.digits_from_indices(&with_codebooks.select(2, book)))
                    .collect();
                Tensor::cat(&digits, 2)
            }
        };
        let ordered = match self.arrangement {
            Arrangement::Interleaved => numbers,
            Arrangement::Stacked => numbers.transpose(1, 2),
        };
        let flat = ordered.flatten(0, -1).to_kind(Kind::Int64).to_device(tch::Device::Cpu);
        let codes: Vec<i64> = Vec::try_from(&flat)
            .map_err(|error: tch::TchError| TokensError::Unsuitable(error.to_string()))?;
        let per_image = shape.positions() * self.numbers() as usize;
        codes.chunks(per_image).map(|codes| self.framed(shape, codes)).collect()
    }

    fn framed(&self, shape: TokenShape, codes: &[i64]) -> Result<Vec<u32>, TokensError> {
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
        self.framing.frame(shape.stored(), self.lines(shape), &ids)
    }

    /// The indices of one stored row, whose tokens have this shape.
    ///
    /// # Shapes
    /// `[1, h, w]` or `[1, h, w, codebooks]` int64; of a sequence `[1, N]` or `[1, N, codebooks]`.
    ///
    /// # Errors
    /// A description of what is wrong: the framing, an id without a code, or a digit outside its
    /// levels.
    pub fn indices(&self, shape: impl Into<TokenShape>, stored: &[u32]) -> Result<Tensor, String> {
        let shape = shape.into();
        let ids = self.framing.unframe(shape.stored(), self.lines(shape), stored)?;
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
        let (positions, n) = (shape.positions() as i64, i64::from(self.numbers()));
        let flat = Tensor::from_slice(&codes);
        let numbers = match self.arrangement {
            Arrangement::Interleaved => flat.view([1, positions, n]),
            Arrangement::Stacked => flat.view([1, n, positions]).transpose(1, 2),
        };
        let indices = match self.radix {
            None => numbers,
            Some(radix) => self.joined(radix, &numbers)?,
        };
        let mut size = vec![1];
        match shape {
            TokenShape::Grid { h, w } => size.extend([i64::from(h), i64::from(w)]),
            TokenShape::Sequence { n } => size.push(i64::from(n)),
        }
        if self.codebooks > 1 {
            size.push(i64::from(self.codebooks));
        }
        Ok(indices.reshape(size))
    }

    /// Joins the digits of all codebooks to indices `[1, N, codebooks]`.
    fn joined(&self, radix: &MixedRadix, numbers: &Tensor) -> Result<Tensor, String> {
        let dims = radix.levels().len() as i64;
        let mut books = vec![];
        for book in 0..i64::from(self.codebooks) {
            let digits = numbers.narrow(2, book * dims, dims);
            for (dim, &level) in (0..).zip(radix.levels()) {
                let largest = digits.select(2, dim).max().int64_value(&[]);
                if largest >= level {
                    return Err(format!(
                        "a digit of dimension {dim} is {largest}, and it has {level} levels"
                    ));
                }
            }
            books.push(radix.indices_from_digits(&digits));
        }
        Ok(Tensor::stack(&books, 2))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::quantizer::digits::Order;
    use pixtok_tokens::{Grid, SizeTokens};

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
                        let rows = coder.ids(GRID, &indices).unwrap();
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
        let rows = |arrangement| coder(arrangement).ids(Grid { h: 2, w: 2 }, &indices).unwrap().remove(0);
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
