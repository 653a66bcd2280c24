//! What networks with transformers have in common: the sizes in their configs, rotary positions,
//! and the layers next to the latent.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use super::grid::patches_of;
use super::{ModelError, TrainedSizes};
use crate::layers::{Extension, Linear, RotationSettings};
use crate::quantizer::QuantizerConfig;
use crate::variables::Scope;
use pixtok_tokens::Grid;

/// The base of the frequencies of a rotation where a config names none.
pub const ROPE_BASE: f64 = 100.0;

/// The length of a rotated head must be a multiple of this: it has a pair of numbers for the row
/// and one for the column.
const HEAD_MULTIPLE: i64 = 4;

/// Width, depth and heads of a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The length of the vector at a position.
    pub width: i64,
    /// The number of blocks.
    pub depth: i64,
    /// The attention's heads, a divisor of the width.
    pub heads: i64,
}

/// A name for the sizes of a transformer, such as S.
pub trait NamedSize: Debug + Copy {
    /// The sizes of this name.
    fn sizes(self) -> Sizes;
}

/// What a config says about the sizes of a transformer: a name, or some of the numbers.
#[derive(Debug, Clone, Copy)]
struct Given<S> {
    /// The prefix of the keys, such as `model.` or `model.decoder_`.
    prefix: &'static str,
    size: Option<S>,
    /// The keys `width`, `depth` and `heads`.
    numbers: [Option<i64>; 3],
}

/// What a config says about the sizes of encoder and decoder.
#[derive(Debug, Clone, Copy)]
pub struct GivenHalves<S> {
    encoder: Given<S>,
    decoder: Given<S>,
    absent: S,
}

/// What the plans of networks with transformers over patches have in common.
#[derive(Debug, Clone, Copy)]
pub struct TransformerPlan {
    /// The encoder's transformer.
    pub encoder: Sizes,
    /// The decoder's transformer.
    pub decoder: Sizes,
    /// C, the width of a token's latent.
    pub latent_channels: i64,
    /// The side of a patch in pixels.
    pub patch: i64,
    /// The sizes of the training images.
    pub trained: TrainedSizes,
    /// The base of rotary positions, and what they do beyond the trained sizes; `None`: positions
    /// are learned.
    pub rotary: Option<(f64, Extension)>,
}

impl Sizes {
    /// The length of a head's vectors.
    #[must_use]
    pub fn head_dim(self) -> i64 {
        self.width / self.heads
    }

    /// The values of the keys `width`, `depth` and `heads` of a config.
    #[must_use]
    pub fn written(self) -> [Option<i64>; 3] {
        [Some(self.width), Some(self.depth), Some(self.heads)]
    }

    /// Checks that each number, whose key begins with `prefix`, is in its range.
    ///
    /// # Errors
    /// Names the key, its value and the range.
    fn check_ranges(self, prefix: &str) -> Result<(), ModelError> {
        let Self { width, depth, heads } = self;
        check_range(&format!("{prefix}width"), width, 1..=65536)?;
        check_range(&format!("{prefix}depth"), depth, 1..=1024)?;
        check_range(&format!("{prefix}heads"), heads, 1..=1024)
    }

    /// Checks that the heads divide the width and, if they are rotated (`turned`), that they can
    /// be. The numbers must be in their ranges.
    ///
    /// # Errors
    /// Names both keys, whose names begin with `prefix`.
    fn check_heads(self, prefix: &str, turned: bool) -> Result<(), ModelError> {
        let Self { width, heads, .. } = self;
        if width % heads != 0 {
            let divisor = (1..=heads).rev().find(|divisor| width % divisor == 0).unwrap_or(1);
            return Err(ModelError::Network(format!(
                "{prefix}heads is {heads}, which does not divide {prefix}width {width}; the next smaller number that \
                 does is {divisor}"
            )));
        }
        let head = self.head_dim();
        if turned && head % HEAD_MULTIPLE != 0 {
            return Err(ModelError::Network(format!(
                "{prefix}width {width} has {heads} heads of {head}, and model.positions \"rope\" needs heads of a \
                 multiple of {HEAD_MULTIPLE}; choose other {prefix}heads"
            )));
        }
        Ok(())
    }
}

impl<S: NamedSize> GivenHalves<S> {
    /// The keys `size`, and `width`, `depth` and `heads`, of the encoder and of the decoder. The
    /// encoder has the size `absent` where nothing is given, and the decoder the encoder's.
    #[must_use]
    pub fn new(
        encoder: (Option<S>, [Option<i64>; 3]),
        decoder: (Option<S>, [Option<i64>; 3]),
        absent: S,
    ) -> Self {
        let given = |prefix, (size, numbers)| Given { prefix, size, numbers };
        Self { encoder: given("model.", encoder), decoder: given("model.decoder_", decoder), absent }
    }

    /// The sizes of encoder and decoder.
    #[must_use]
    pub fn sizes(&self) -> [Sizes; 2] {
        let encoder = self.encoder.sizes(self.absent.sizes());
        [encoder, self.decoder.sizes(encoder)]
    }

    /// Checks both halves. `turned`: whether their heads are rotated.
    ///
    /// # Errors
    /// Names the key that is out of its range, or those that do not fit each other.
    pub fn check(&self, turned: bool) -> Result<(), ModelError> {
        for (given, sizes) in [&self.encoder, &self.decoder].into_iter().zip(self.sizes()) {
            sizes.check_ranges(given.prefix)?;
            given.check(sizes, turned)?;
        }
        Ok(())
    }
}

impl TransformerPlan {
    /// Around a quantizer, with the latents' width that a config states.
    ///
    /// # Errors
    /// When the quantizer's settings are wrong, or it does not take latents of this width.
    pub fn new<S: NamedSize>(
        halves: &GivenHalves<S>,
        (quantizer, latent_channels): (&QuantizerConfig, Option<i64>),
        (patch, trained): (i64, TrainedSizes),
        rotary: Option<(f64, Extension)>,
    ) -> Result<Self, ModelError> {
        let quantizer = quantizer.settings();
        quantizer.check()?;
        let latent_channels = latent_channels.unwrap_or_else(|| quantizer.natural_width());
        quantizer.check_width(latent_channels)?;
        let [encoder, decoder] = halves.sizes();
        Ok(Self { encoder, decoder, latent_channels, patch, trained, rotary })
    }

    /// The patches of an image of the planned size.
    #[must_use]
    pub fn grid(&self) -> Grid {
        patches_of(self.trained.image, self.patch)
    }

    /// The most rows and the most columns of patches in training, from which positions extend.
    #[must_use]
    pub fn trained_grid(&self) -> Grid {
        patches_of(self.trained.largest, self.patch)
    }

    /// How a transformer of these sizes rotates patches; `None`: it adds learned positions.
    #[must_use]
    pub fn rotation(&self, sizes: Sizes) -> Option<RotationSettings> {
        let (base, extension) = self.rotary?;
        Some(RotationSettings { base, head_dim: sizes.head_dim(), trained: self.trained_grid(), extension })
    }
}

impl<S: NamedSize> Given<S> {
    /// The sizes, those of `absent` where neither a name nor a number is given.
    fn sizes(&self, absent: Sizes) -> Sizes {
        let Sizes { width, depth, heads } = self.size.map_or(absent, NamedSize::sizes);
        let [given_width, given_depth, given_heads] = self.numbers;
        Sizes {
            width: given_width.unwrap_or(width),
            depth: given_depth.unwrap_or(depth),
            heads: given_heads.unwrap_or(heads),
        }
    }

    /// Checks that a name and a number are not both given, and checks the heads of `sizes`, which
    /// [`Given::sizes`] returned.
    ///
    /// # Errors
    /// Names the keys that do not fit each other.
    fn check(&self, sizes: Sizes, turned: bool) -> Result<(), ModelError> {
        let keys = ["width", "depth", "heads"];
        if let (Some(size), Some(place)) = (self.size, self.numbers.iter().position(Option::is_some)) {
            let (prefix, key) = (self.prefix, keys[place]);
            return Err(ModelError::Network(format!(
                "{prefix}size is {size:?}, which sets {prefix}{key} too; leave one of them out"
            )));
        }
        sizes.check_heads(self.prefix, turned)
    }
}

/// Checks a setting that is a whole number.
///
/// # Errors
/// Names the key, its value and the range.
pub fn check_range(key: &str, value: i64, range: RangeInclusive<i64>) -> Result<(), ModelError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(ModelError::Network(format!("{key} has {value}; it must be from {least} to {most}")))
}

/// Checks `model.rope_base`, the base of the frequencies of a rotation. `turned`: whether attention
/// rotates queries and keys.
///
/// # Errors
/// When it is not over 1, or given for a network that rotates nothing.
pub fn check_rope_base(base: Option<f64>, turned: bool) -> Result<(), ModelError> {
    match base {
        Some(base) if !turned => Err(ModelError::Network(format!(
            "model.rope_base is {base}, and model.positions \"learned\" rotates nothing; leave it out, or set \
             model.positions = \"rope\""
        ))),
        Some(base) if !(base > 1.0 && base.is_finite()) => {
            Err(ModelError::Network(format!("model.rope_base is {base}; it must be over 1")))
        }
        _ => Ok(()),
    }
}

/// A linear layer from or to the latent. It starts as PyTorch's, so that latents have about the
/// same spread at any width; at TiTok's widths that is the spread of TiTok's.
#[must_use]
pub fn beside_latent(path: &Scope, from: i64, to: i64) -> Linear {
    Linear::by_fan_in(path, from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    struct Big;

    impl NamedSize for Big {
        fn sizes(self) -> Sizes {
            Sizes { width: 24, depth: 3, heads: 2 }
        }
    }

    fn given(size: Option<Big>, numbers: [Option<i64>; 3]) -> Given<Big> {
        Given { prefix: "model.decoder_", size, numbers }
    }

    #[test]
    fn a_number_comes_before_a_word_and_a_word_before_what_is_absent() {
        let absent = Sizes { width: 8, depth: 1, heads: 1 };
        assert_eq!(given(None, [None; 3]).sizes(absent), absent);
        assert_eq!(given(Some(Big), [None; 3]).sizes(absent), Big.sizes());
        let depth = [None, Some(5), None];
        assert_eq!(given(None, depth).sizes(absent), Sizes { depth: 5, ..absent });
        assert_eq!(given(None, absent.written()).sizes(Big.sizes()), absent);
        let words = given(Some(Big), depth).check(Big.sizes(), false).unwrap_err().to_string();
        assert_eq!(
            words,
            "model.decoder_size is Big, which sets model.decoder_depth too; leave one of them out"
        );
    }

    #[test]
    fn numbers_that_do_not_fit_say_so() {
        let words = |result: Result<(), ModelError>| result.unwrap_err().to_string();
        let sizes = Big.sizes();
        assert!(sizes.check_ranges("model.").is_ok() && sizes.check_heads("model.", true).is_ok());
        assert_eq!(
            words(Sizes { depth: 0, ..sizes }.check_ranges("model.")),
            "model.depth has 0; it must be from 1 to 1024"
        );
        assert_eq!(
            words(Sizes { heads: 5, ..sizes }.check_heads("model.", false)),
            "model.heads is 5, which does not divide model.width 24; the next smaller number that does is 4"
        );
        let six = Sizes { heads: 4, ..sizes };
        assert!(six.check_heads("model.", false).is_ok());
        assert!(words(six.check_heads("model.", true)).contains("4 heads of 6"));
        assert!(check_rope_base(Some(10.0), true).is_ok() && check_rope_base(None, false).is_ok());
        for base in [1.0, f64::NAN, f64::INFINITY] {
            let words = words(check_rope_base(Some(base), true));
            assert!(words.starts_with(&format!("model.rope_base is {base};")), "{words}");
        }
        assert!(words(check_rope_base(Some(10.0), false)).contains("rope_base is 10, and"));
    }
}
