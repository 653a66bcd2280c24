//! What the settings of every quantizer can do, and how they refuse values.

use super::{Quantizer, QuantizerConfig, QuantizerError};
use crate::variables::Scope;

/// What the settings of every quantizer can do.
pub trait Settings {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    fn check(&self) -> Result<(), QuantizerError>;

    /// The channels that the quantizer works on without a projection.
    fn natural_width(&self) -> i64;

    /// How many codebooks there are, and K, the codes of each.
    fn codes(&self) -> (i64, i64);

    /// The same settings with about `codes` codes, where the kind has a usual way to get them.
    ///
    /// # Errors
    /// Names the sizes that there are.
    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError>;

    /// Registers the variables under `path` for latents of `channels` and returns the quantizer.
    ///
    /// # Errors
    /// As [`Settings::check`].
    fn build(&self, path: &Scope, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError>;

    /// Refuses latents of a width that cannot be quantized.
    ///
    /// # Errors
    /// Names both numbers.
    fn check_width(&self, _channels: i64) -> Result<(), QuantizerError> {
        Ok(())
    }

    /// Bytes that a training step over `vectors` positions keeps for its backward pass in tables of N×K.
    fn saved_bytes(&self, _vectors: i64) -> i64 {
        0
    }

    /// Refuses a training step whose tables of N×K are over the memory budget.
    ///
    /// # Errors
    /// Names the bytes and the remedy.
    fn check_step(&self, _vectors: i64) -> Result<(), QuantizerError> {
        Ok(())
    }

    /// As [`Settings::check`], for a stage of a residual quantizer.
    ///
    /// # Errors
    /// The same, and for what a stage cannot have.
    fn check_stage(&self) -> Result<(), QuantizerError> {
        self.check()
    }

    /// As [`Settings::build`], for a stage of a residual quantizer, the first being 0.
    ///
    /// # Errors
    /// As [`Settings::check_stage`].
    fn build_stage(
        &self,
        path: &Scope,
        channels: i64,
        _stage: i64,
    ) -> Result<Box<dyn Quantizer>, QuantizerError> {
        self.build(path, channels)
    }

    /// How many times finer the codes of a residual quantizer's stage are than those of the stage before, where the
    /// kind makes them so.
    fn stage_ratio(&self) -> f64 {
        1.0
    }

    /// For each channel the size s to which a residual quantizer squashes its input, s·tanh(z/s), before the first
    /// stage; none leaves it as it is.
    fn stage_limits(&self) -> Option<Vec<f64>> {
        None
    }

    /// Constants that tokens depend on and that are no settings, by name.
    fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![]
    }

    /// Keys of the loss terms that are not linear in the batch; micro-batches change them.
    fn batch_terms(&self) -> Vec<String> {
        vec![]
    }

    /// Refuses settings that no new training should begin with. Earlier runs with them still open,
    /// go on and decode.
    ///
    /// # Errors
    /// Names the setting, what is wrong with it and the remedy.
    fn check_new_training(&self) -> Result<(), QuantizerError> {
        Ok(())
    }

    /// Settings that work but are not advised for a training with `vectors` latent positions a
    /// step: one sentence each.
    fn advice(&self, _vectors: i64) -> Vec<String> {
        self.check_new_training().err().map(|error| error.to_string()).into_iter().collect()
    }

    /// As [`Settings::advice`], for a stage of a residual quantizer.
    fn stage_advice(&self, vectors: i64) -> Vec<String> {
        self.advice(vectors)
    }
}

/// `Ok` when `holds`, else the error that `quantizer.key` has a `value` that is not `allowed`.
pub fn require(
    holds: bool,
    key: &str,
    value: impl std::fmt::Display,
    allowed: &str,
) -> Result<(), QuantizerError> {
    if holds { Ok(()) } else { Err(QuantizerError(format!("quantizer.{key} is {value}; {allowed}"))) }
}

/// [`Settings::batch_terms`] of a quantizer with an entropy loss of this weight, which takes the
/// mean assignment over the batch.
pub fn entropy_term(weight: f64) -> Vec<String> {
    if weight > 0.0 { vec!["entropy_weight".to_owned()] } else { vec![] }
}

/// [`require`] that a weight is a number from 0 on.
pub fn require_weight(key: &str, weight: f64) -> Result<(), QuantizerError> {
    require(weight >= 0.0 && weight.is_finite(), key, weight, "it must be 0 or more")
}

/// [`require`] that a temperature is a number over 0.
pub fn require_temperature(key: &str, temperature: f64) -> Result<(), QuantizerError> {
    require(temperature > 0.0 && temperature.is_finite(), key, temperature, "it must be over 0")
}

/// The number of bits that make `codes` codes.
///
/// # Errors
/// When it is no power of two.
pub fn bits_of(codes: i64) -> Result<i64, QuantizerError> {
    if codes < 2 || codes & (codes - 1) != 0 {
        return Err(QuantizerError(format!(
            "{codes} codes are no power of two, and bits make one, for instance 1024"
        )));
    }
    Ok(i64::from(codes.trailing_zeros()))
}
