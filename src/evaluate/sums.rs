//! Sums over batches, and the figures that are computed from them.

use tch::{Kind, Tensor};

use super::passes::Tokens;
use super::{EvaluateError, Figures, Measures, Scores, stability};
use crate::codec::Vocabulary;
use crate::metrics::{CodebookFigures, CodebookUse, JointUse, TokenStream};
use crate::world::{World, WorldError};

/// `(code, count)` for each code that occurs.
pub(super) type Counts = Vec<(i64, i64)>;

/// The number of tokens that each change of an image leaves as they are; `None` for a change that
/// the tokens do not allow.
type Unchanged = [Option<i64>; 4];

/// The sums of an evaluation.
pub(super) struct Sums {
    images: usize,
    pixels: i64,
    /// The number of reconstructions that are equal to their originals in every value: scalar int64
    /// on the images' device.
    perfect: Option<Tensor>,
    tokens: Option<TokenSums>,
}

/// The sums over tokens.
struct TokenSums {
    vocabulary: Vocabulary,
    used: CodebookUse,
    joint: Option<JointUse>,
    /// Present if the compressed size of tokens is requested.
    stream: Option<TokenStream>,
    unchanged: Option<Unchanged>,
    /// Of encoding and decoding, with the images they were taken over.
    speed: Speed,
}

#[derive(Default)]
struct Speed {
    /// The first batch is slower, because of allocations and kernel selection. It counts only if
    /// there is no other.
    first: Option<(f64, f64, usize)>,
    rest: (f64, f64, usize),
}

impl Sums {
    pub(super) fn new(vocabulary: Option<Vocabulary>, measures: &Measures) -> Result<Self, EvaluateError> {
        let tokens = match vocabulary {
            None => None,
            Some(vocabulary) => {
                let Vocabulary { codebooks, size } = vocabulary;
                Some(TokenSums {
                    vocabulary,
                    used: CodebookUse::new(codebooks, size),
                    joint: (codebooks > 1).then(|| JointUse::new(codebooks, size)),
                    stream: measures.thorough.then(|| TokenStream::new(codebooks, size)).transpose()?,
                    unchanged: None,
                    speed: Speed::default(),
                })
            }
        };
        Ok(Self { images: 0, pixels: 0, perfect: None, tokens })
    }

    /// Adds a batch of originals and reconstructions, `[B, 3, H, W]` uint8, and its tokens.
    pub(super) fn add(
        &mut self,
        images: &Tensor,
        recons: &Tensor,
        tokens: Option<&Tokens>,
    ) -> Result<(), EvaluateError> {
        let size = images.size();
        self.images += size[0] as usize;
        self.pixels += size[0] * size[2] * size[3];
        let perfect = images.eq_tensor(recons).flatten(1, -1).all_dim(1, false).sum(Kind::Int64);
        self.perfect = Some(match self.perfect.take() {
            Some(before) => before + perfect,
            None => perfect,
        });
        if let (Some(sums), Some(tokens)) = (&mut self.tokens, tokens) {
            sums.add(tokens, size[0] as usize)?;
        }
        Ok(())
    }

    /// All figures, including the means of `scores`, which are of all processes' images, and the
    /// codebook use with `(code, count)` for each code that occurs. The processes add up their sums
    /// here, every one of them in the same order, whether or not its share had images.
    pub(super) fn finish(
        self,
        scores: &Scores,
        measures: &Measures,
        world: &World,
    ) -> Result<(Figures, Option<(CodebookFigures, Counts)>), EvaluateError> {
        let mut figures = Figures::default();
        figures.push("images", world.sum_of(self.images as i64)? as f64);
        figures.extend(scores.means(measures.thorough));
        for (name, reason) in &measures.missing {
            figures.push_absent(name, reason.clone());
        }
        let perfect = self.perfect.map_or(0, |count| count.int64_value(&[]));
        figures.push("perfect_images", world.sum_of(perfect)? as f64);
        let codebook = match self.tokens {
            Some(tokens) => Some(tokens.finish(&mut figures, world.sum_of(self.pixels)?, world)?),
            None => {
                for name in ["usage", "perplexity", "bits_per_token", "bits_per_pixel"] {
                    figures.push_absent(name, "reconstructions from files have no tokens".into());
                }
                None
            }
        };
        Ok((figures, codebook))
    }
}

impl TokenSums {
    fn add(&mut self, tokens: &Tokens, images: usize) -> Result<(), EvaluateError> {
        self.used.add(&tokens.indices);
        self.joint.iter_mut().for_each(|joint| joint.add(&tokens.indices));
        self.stream.iter_mut().try_for_each(|stream| stream.add(&tokens.indices))?;
        if let Some(unchanged) = tokens.unchanged {
            let before = self.unchanged.get_or_insert([Some(0); 4]);
            before
                .iter_mut()
                .zip(unchanged)
                .for_each(|(sum, count)| *sum = sum.zip(count).map(|(a, b)| a + b));
        }
        self.speed.add(tokens.encode_secs, tokens.decode_secs, images);
        Ok(())
    }

    fn finish(
        self,
        figures: &mut Figures,
        pixels: i64,
        world: &World,
    ) -> Result<(CodebookFigures, Counts), EvaluateError> {
        let used = self.used.of_all(world)?;
        let codebook = used.figures();
        let tokens = codebook.tokens as f64;
        figures.push_codebook(self.vocabulary.codebooks, self.vocabulary.size, &codebook);
        if let Some(joint) = self.joint {
            figures.push_joint(&joint.of_all(world)?.figures());
        }
        figures.push("bits_per_pixel", codebook.bits_per_token * tokens / pixels as f64);
        let stream = self.stream.map(TokenStream::finish).transpose()?;
        if let Some(stream) = stream.map(|sums| sums.figures(world)).transpose()?.flatten() {
            figures.push_stream(&stream);
            figures.push("bits_per_pixel_zstd", stream.bits_per_token_zstd * tokens / pixels as f64);
        }
        let unchanged = unchanged_of_all(self.unchanged, world)?;
        for (name, count) in stability::NAMES.iter().zip(unchanged.into_iter().flatten()) {
            match count {
                Some(count) => figures.push(name, count as f64 / tokens),
                None => figures.push_absent(
                    name,
                    "the tokens are a sequence; only those of a grid have a mirror image".into(),
                ),
            }
        }
        let speeds = self.speed.total().map_or([0.0; 2], |(encode_secs, decode_secs, images)| {
            [images as f64 / encode_secs, images as f64 / decode_secs]
        });
        let [encode, decode] = world.sum_each(speeds)?;
        if tokens > 0.0 {
            figures.push("encode_images_per_sec", encode);
            figures.push("decode_images_per_sec", decode);
        }
        Ok((codebook, used.counts()))
    }
}

/// The sums over all processes of the tokens that each change leaves as they are; `None` if no
/// process compared any.
fn unchanged_of_all(own: Option<Unchanged>, world: &World) -> Result<Option<Unchanged>, WorldError> {
    // For each change the tokens, and whether it has no value.
    let mut sums = [0.0; 9];
    if let Some(unchanged) = own {
        for (i, count) in unchanged.into_iter().enumerate() {
            sums[i] = count.unwrap_or(0) as f64;
            sums[4 + i] = f64::from(u8::from(count.is_none()));
        }
        sums[8] = 1.0;
    }
    let sums = world.sum_each(sums)?;
    let count = |i: usize| (sums[4 + i] == 0.0).then_some(sums[i] as i64);
    Ok((sums[8] > 0.0).then(|| [0, 1, 2, 3].map(count)))
}

impl Speed {
    fn add(&mut self, encode_secs: f64, decode_secs: f64, images: usize) {
        if self.first.is_none() {
            self.first = Some((encode_secs, decode_secs, images));
        } else {
            self.rest.0 += encode_secs;
            self.rest.1 += decode_secs;
            self.rest.2 += images;
        }
    }

    fn total(&self) -> Option<(f64, f64, usize)> {
        if self.rest.2 > 0 { Some(self.rest) } else { self.first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_tokens_are_those_of_all_processes() {
        let world = World::single();
        for own in [None, Some([Some(3), None, Some(0), Some(1 << 40)])] {
            assert_eq!(unchanged_of_all(own, &world).unwrap(), own);
        }
    }

    #[test]
    fn the_first_batch_is_left_out_of_the_speed_where_there_are_more() {
        let mut speed = Speed::default();
        assert_eq!(speed.total(), None);
        speed.add(9.0, 9.0, 4);
        assert_eq!(speed.total(), Some((9.0, 9.0, 4)));
        speed.add(1.0, 2.0, 4);
        speed.add(1.0, 2.0, 3);
        assert_eq!(speed.total(), Some((2.0, 4.0, 7)));
    }
}
