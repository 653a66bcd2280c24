//! Residual quantization (SoundStream, arXiv 2107.03312, algorithm 1): the first stage quantizes
//! the latent, and each later stage quantizes what the previous stages left over, r_{i+1} = r_i −
//! sg[q_i]. The codes of all stages are added up.
//!
//! As in vector-quantize-pytorch, each stage passes its gradient on to the latent, so the latent's
//! gradient is the sum over the stages, and so are the losses.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::digits::MixedRadix;
use super::parts::{Gathered, Parts};
use super::projection::Projection;
use super::{
    CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig, QuantizerError, Settings, StartOutcome,
    Words, require, setting,
};
use crate::layers::as_kind;
use crate::statistics::{Statistic, UpdateReport};
use crate::variables::Scope;
use pixtok_base::seed::Seed;
use pixtok_torch::{in_full_precision, no_grad};

/// The largest ratio between the codes of the first and the last stage: float32 has 24 bits.
const FINEST: f64 = (1 << 24) as f64;

/// Settings of a residual quantizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The number of stages.
    #[serde(default = "default_stages")]
    pub stages: i64,
    /// The quantizer of each stage.
    pub each: Box<QuantizerConfig>,
}

fn default_stages() -> i64 {
    4
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        require((1..=64).contains(&self.stages), "stages", self.stages, "it must be from 1 to 64")?;
        if matches!(*self.each, QuantizerConfig::Residual(_) | QuantizerConfig::Grouped(_)) {
            return Err(QuantizerError(setting("each").text(
                " of a residual quantizer is itself made of several; for groups of residuals use kind = \
                 \"grouped\" with each = { kind = \"residual\", … }",
            )));
        }
        self.each.settings().check_stage().map_err(QuantizerError::inside)?;
        let ratio = self.each.settings().stage_ratio();
        let most = if ratio > 1.0 { 1 + (FINEST.ln() / ratio.ln()) as i64 } else { i64::MAX };
        require(
            self.stages <= most,
            "stages",
            self.stages,
            format!(
                "each stage is {ratio} times finer than the one before, and float32 tells no more apart: use {most} or fewer"
            ),
        )
    }

    fn codes(&self) -> (i64, i64) {
        (self.stages, self.each.settings().codes().1)
    }

    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError> {
        let each = Box::new(self.each.settings().sized(codes)?);
        Ok(QuantizerConfig::Residual(Self { each, ..self.clone() }))
    }

    fn natural_width(&self) -> i64 {
        self.each.settings().natural_width()
    }

    fn build(&self, path: &Scope, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError> {
        Ok(Box::new(Residual::new(path, self, channels)?))
    }

    fn saved_bytes(&self, vectors: i64) -> i64 {
        self.each.settings().saved_bytes(vectors).saturating_mul(self.stages)
    }

    fn check_step(&self, vectors: i64) -> Result<(), QuantizerError> {
        self.each.settings().check_step(vectors.saturating_mul(self.stages)).map_err(QuantizerError::inside)
    }

    fn draws_noise(&self) -> bool {
        self.each.settings().draws_noise()
    }

    fn batch_terms(&self) -> Vec<String> {
        self.each.settings().batch_terms().into_iter().map(|key| format!("each.{key}")).collect()
    }

    fn advice(&self, vectors: i64) -> Vec<Words> {
        self.each.settings().stage_advice(vectors).into_iter().map(Words::inside).collect()
    }
}

/// The residual quantizer. Its stages share one projection in and out.
#[derive(Debug)]
pub struct Residual {
    projection: Projection,
    stages: Parts,
    /// `[D]`: the limits ± to which the input is squashed, if the kind of the stages asks for it.
    limits: Option<Tensor>,
}

impl Residual {
    /// Registers the stages and a projection under `path`.
    ///
    /// # Errors
    /// See [`Settings::check`].
    pub fn new(path: &Scope, config: &Config, channels: i64) -> Result<Self, QuantizerError> {
        config.check()?;
        let each = config.each.settings();
        let width = each.natural_width();
        let stages: Result<Vec<_>, _> = (0..config.stages)
            .map(|stage| {
                each.build_stage(&(path / "stages" / stage), width, stage).map_err(QuantizerError::inside)
            })
            .collect();
        let limits = each
            .stage_limits()
            .map(|limits| Tensor::from_slice(&limits).to_kind(Kind::Float).to_device(path.device()));
        Ok(Self { projection: Projection::new(path, channels, width), stages: Parts(stages?), limits })
    }

    /// The input of the first stage.
    fn input(&self, z: &Tensor) -> Tensor {
        let z = self.projection.project_in(&as_kind(z, Kind::Float));
        match &self.limits {
            // s·tanh(z/s).
            Some(limits) => (z / limits).tanh() * limits,
            None => z,
        }
    }
}

impl Quantizer for Residual {
    fn start_vectors(&self) -> Option<i64> {
        self.stages.0[0].start_vectors()
    }

    /// Starts stage after stage, each from what the started stages leave over.
    fn start(
        &mut self,
        z: &Tensor,
        seed: Seed,
        going_on: &mut dyn FnMut() -> bool,
    ) -> Result<StartOutcome, QuantizerError> {
        no_grad(|| {
            in_full_precision(|| {
                let mut rest = self.input(z);
                for (i, stage) in (0..).zip(&mut self.stages.0) {
                    let outcome = stage
                        .start(&rest, seed.derive("part", &[i]), going_on)
                        .map_err(QuantizerError::inside)?;
                    if outcome == StartOutcome::Stopped {
                        return Ok(outcome);
                    }
                    // A new tensor: without a projection, the first one is the caller's.
                    rest = &rest - stage.quantize(&rest, Mode::Eval).latent;
                }
                Ok(StartOutcome::Whole)
            })
        })
    }

    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        in_full_precision(|| {
            let mut rest = self.input(z);
            let mut gathered = Gathered::default();
            let mut codes = vec![];
            for stage in &self.stages.0 {
                let of_stage = gathered.run(&**stage, &rest, mode);
                rest = &rest - of_stage.detach();
                codes.push(of_stage);
            }
            Quantized {
                latent: self.projection.project_out(&sum(codes)),
                indices: self.stages.joined_indices(&gathered),
                losses: gathered.losses(1.0),
                statistics: gathered.statistics(),
                monitors: gathered.monitors(),
            }
        })
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| {
            let by_stage = self.stages.indices_by_part(indices);
            let codes = self.stages.0.iter().zip(&by_stage).map(|(stage, own)| stage.lookup(own));
            self.projection.project_out(&sum(codes.collect()))
        })
    }

    fn codes(&self, codebook: i64, indices: &Tensor) -> Tensor {
        self.stages.codes(codebook, indices)
    }

    fn codebook(&self) -> CodebookShape {
        self.stages.codebook()
    }

    fn update(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport {
        self.stages.update(statistics, seed)
    }

    fn digits(&self) -> Option<&MixedRadix> {
        self.stages.0[0].digits()
    }

    fn collapse_remedy(&self, vectors: i64) -> Words {
        self.stages.0[0].collapse_remedy(vectors).inside().text(", or fewer ").setting("stages")
    }
}

/// Adds the codes of all stages from the first on, in the same order in `quantize` and `lookup`.
fn sum(codes: Vec<Tensor>) -> Tensor {
    codes.into_iter().reduce(|sum, codes| sum + codes).unwrap_or_default()
}
