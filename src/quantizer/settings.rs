//! The interface of every quantizer's settings, and the checks of values.

use super::{Quantizer, QuantizerConfig, QuantizerError, Words, setting};
use crate::variables::{Component, Scope};

/// The interface of every quantizer's settings.
pub trait Settings {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    fn check(&self) -> Result<(), QuantizerError>;

    /// The number of channels that the quantizer works on without a projection.
    fn natural_width(&self) -> i64;

    /// The number of codebooks, and K, the number of codes in each.
    fn codes(&self) -> (i64, i64);

    /// Whether each codebook refines those before it, as [`Quantizer::has_stages`] says.
    fn has_stages(&self) -> bool {
        false
    }

    /// The components whose weights depend on the setting with this key. Dots separate the names
    /// of tables within the quantizer's.
    fn components_of(&self, _key: &str) -> &'static [Component] {
        &[Component::Quantizer]
    }

    /// The same settings with about `codes` codes, if the kind has a usual way to get them.
    ///
    /// # Errors
    /// Names the available sizes.
    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError>;

    /// Registers the variables under `path` for latents of `channels` and returns the quantizer.
    ///
    /// # Errors
    /// The same as [`Settings::check`].
    fn build(&self, path: &Scope, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError>;

    /// Checks that latents of this width can be quantized.
    ///
    /// # Errors
    /// Names both widths.
    fn check_width(&self, _channels: i64) -> Result<(), QuantizerError> {
        Ok(())
    }

    /// The bytes that a training step over `vectors` positions keeps for its backward pass in
    /// tables of N×K.
    fn saved_bytes(&self, _vectors: i64) -> i64 {
        0
    }

    /// Checks that the tables of N×K of a training step fit the memory budget.
    ///
    /// # Errors
    /// Names the bytes, and says what to do.
    fn check_step(&self, _vectors: i64) -> Result<(), QuantizerError> {
        Ok(())
    }

    /// The same as [`Settings::check`], for a stage of a residual quantizer.
    ///
    /// # Errors
    /// The same as [`Settings::check`]; also names settings that a stage cannot have.
    fn check_stage(&self) -> Result<(), QuantizerError> {
        self.check()
    }

    /// The same as [`Settings::build`], for a stage of a residual quantizer; the first stage is 0.
    ///
    /// # Errors
    /// The same as [`Settings::check_stage`].
    fn build_stage(
        &self,
        path: &Scope,
        channels: i64,
        _stage: i64,
    ) -> Result<Box<dyn Quantizer>, QuantizerError> {
        self.build(path, channels)
    }

    /// How many times finer the codes of each stage of a residual quantizer are than those of the
    /// previous stage, if the kind refines them.
    fn stage_ratio(&self) -> f64 {
        1.0
    }

    /// For each channel, the size s to which a residual quantizer squashes its input before the
    /// first stage, s·tanh(z/s); `None` leaves the input unchanged.
    fn stage_limits(&self) -> Option<Vec<f64>> {
        None
    }

    /// Constants that affect tokens but are not settings, by name.
    fn constants(&self) -> Vec<(&'static str, f64)> {
        vec![]
    }

    /// Whether training draws noise, so that its seeds matter.
    fn draws_noise(&self) -> bool {
        false
    }

    /// The keys of the loss terms that are not linear in a micro-batch. The number of micro-batches
    /// changes them; the number of processes does not, since they are computed over all of them.
    fn batch_terms(&self) -> Vec<String> {
        vec![]
    }

    /// Refuses settings that no new training should use. Earlier runs with such settings can still
    /// be opened, resumed and decoded.
    ///
    /// # Errors
    /// Names the setting, says what is wrong with it and what to do.
    fn check_new_training(&self) -> Result<(), QuantizerError> {
        Ok(())
    }

    /// Advice on settings that work but are not recommended for a training with `vectors` latent
    /// positions in a step, one sentence each.
    fn advice(&self, _vectors: i64) -> Vec<Words> {
        self.check_new_training().err().map(|error| error.0).into_iter().collect()
    }

    /// The same as [`Settings::advice`], for a stage of a residual quantizer.
    fn stage_advice(&self, vectors: i64) -> Vec<Words> {
        self.advice(vectors)
    }
}

/// `Ok` if `holds`; otherwise the error that `quantizer.key` has a `value` that is not `allowed`.
pub fn require(
    holds: bool,
    key: &'static str,
    value: impl std::fmt::Display,
    allowed: impl Into<Words>,
) -> Result<(), QuantizerError> {
    if holds {
        Ok(())
    } else {
        Err(QuantizerError(setting(key).text(format!(" is {value}; ")).then(allowed)))
    }
}

/// The [`Settings::batch_terms`] of a quantizer with an entropy loss of this weight, which uses the
/// mean assignment over the batch.
pub fn entropy_term(weight: f64) -> Vec<String> {
    if weight > 0.0 { vec!["entropy_weight".to_owned()] } else { vec![] }
}

/// Requires that a weight is a number and not negative.
pub fn require_weight(key: &'static str, weight: f64) -> Result<(), QuantizerError> {
    require(weight >= 0.0 && weight.is_finite(), key, weight, "it must be 0 or more")
}

/// Requires that a temperature is a number over 0.
pub fn require_temperature(key: &'static str, temperature: f64) -> Result<(), QuantizerError> {
    require(temperature > 0.0 && temperature.is_finite(), key, temperature, "it must be over 0")
}

/// The number of bits that give `codes` codes.
///
/// # Errors
/// When `codes` is not a power of two.
pub fn bits_of(codes: i64) -> Result<i64, QuantizerError> {
    if codes < 2 || codes & (codes - 1) != 0 {
        let words = format!("{codes} codes are not a power of two, and bits make one, for instance 1024");
        return Err(QuantizerError(words.into()));
    }
    Ok(i64::from(codes.trailing_zeros()))
}
