//! Tail drop of tokens (nested dropout): in training some images keep only their first tokens, and
//! one learned vector stands for each of the absent ones, so that an image decodes from any of its
//! prefixes. It is applied between quantizer and decoder, as tail drop of a quantizer's stages is
//! ([`Tokenizer::kept`](super::Tokenizer::kept)); no network knows of it.

use tch::Tensor;

use super::{ModelError, Plan, TokenShape};
use crate::variables::{Init, Scope};
use pixtok_torch::Noise;

pub use crate::quantizer::TailDrop;

/// The name of the learned vector among a tokenizer's weights.
pub const VECTOR: &str = "decoder.absent";

/// Checks the settings of a network whose tokens have this shape, and returns how many they are.
///
/// # Errors
/// When the tokens are no sequence, or a value is out of range.
pub fn check(settings: TailDrop, shape: TokenShape) -> Result<u32, ModelError> {
    let TokenShape::Sequence { n } = shape else {
        return Err(ModelError::Network(
            "model.tail_drop leaves out the last tokens of a sequence, and the tokens of this network are a grid; leave it \
             out, or choose model.kind = \"one-d\" (the stages of a residual quantizer have quantizer.tail_drop)"
                .into(),
        ));
    };
    if settings.is_share() {
        return Ok(n);
    }
    let keep_full = settings.keep_full;
    Err(ModelError::Network(format!("model.tail_drop.keep_full is {keep_full}; {}", TailDrop::SHARE)))
}

/// The learned vector in place of absent tokens.
#[derive(Debug)]
pub struct Tail {
    settings: TailDrop,
    /// `[1, C]`: the vector in place of each absent token.
    absent: Tensor,
    /// N, the number of all tokens.
    tokens: u32,
}

impl Tail {
    /// Registers the vector among the decoder's variables, if the settings ask for it.
    ///
    /// # Errors
    /// As [`check`].
    pub(super) fn of(
        settings: Option<&TailDrop>,
        plan: &dyn Plan,
        decoder: &Scope,
    ) -> Result<Option<Self>, ModelError> {
        let Some(&settings) = settings else { return Ok(None) };
        Self::new(settings, plan.shape(), plan.latent_channels(), decoder).map(Some)
    }

    /// Registers the vector among the decoder's variables, for tokens of this shape in C = `channels`
    /// numbers each.
    ///
    /// # Errors
    /// As [`check`].
    pub(crate) fn new(
        settings: TailDrop,
        shape: TokenShape,
        channels: i64,
        decoder: &Scope,
    ) -> Result<Self, ModelError> {
        let tokens = check(settings, shape)?;
        let init = Init::Gaussian { mean: 0.0, deviation: 0.02 };
        Ok(Self { settings, absent: decoder.embedding("absent", [1, channels], init), tokens })
    }

    /// The number of all tokens of an image.
    pub(super) fn tokens(&self) -> u32 {
        self.tokens
    }

    /// A latent in training, `[B, N, C]`: every image with a prefix of its tokens, or all of them.
    pub(super) fn dropped(&self, latent: &Tensor, noise: Noise) -> Tensor {
        let kept = self.settings.kept(latent.size()[0], i64::from(self.tokens), noise, latent.device());
        latent.where_self(&kept.unsqueeze(2), &self.absent)
    }

    /// The latent of the first n tokens with the absent ones behind them, for any n up to N, in a
    /// trace too.
    ///
    /// # Shapes
    /// `[B, n, C]` -> `[B, N, C]`
    pub(super) fn padded(&self, latent: &Tensor) -> Tensor {
        let all = i64::from(self.tokens);
        let one_each = latent.narrow(1, 0, 1).zeros_like() + &self.absent;
        Tensor::cat(&[latent, &one_each.expand([-1, all, -1], false)], 1).narrow(1, 0, all)
    }
}
