//! Grouped quantization (product quantization): the channels are split evenly, and each group has
//! its own quantizer, with its own codebook and, if widths differ, its own projection.
//!
//! Losses are means over the groups, so a mean over elements remains a mean over all elements of
//! the latent.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::digits::MixedRadix;
use super::parts::{Gathered, Parts};
use super::{
    CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig, QuantizerError, Settings, StartOutcome,
    Words, require, setting,
};
use crate::statistics::{Statistic, UpdateReport};
use crate::variables::Scope;
use pixtok_base::seed::Seed;

/// Settings of a grouped quantizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The number of groups, which must divide the latent's channels.
    #[serde(default = "default_groups")]
    pub groups: i64,
    /// The quantizer of each group.
    pub each: Box<QuantizerConfig>,
}

fn default_groups() -> i64 {
    2
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        require((1..=1024).contains(&self.groups), "groups", self.groups, "it must be from 1 to 1024")?;
        if matches!(*self.each, QuantizerConfig::Grouped(_)) {
            let words = setting("each").text(" of a grouped quantizer is grouped too; raise ");
            return Err(QuantizerError(words.setting("groups").text(" instead")));
        }
        if let QuantizerConfig::Residual(residual) = &*self.each
            && residual.tail_drop.is_some()
        {
            return Err(QuantizerError(setting("tail_drop").inside().text(
                " is for a residual quantizer by itself: the first codebooks of several groups are no coarser \
                 latent; leave it out",
            )));
        }
        self.each.settings().check().map_err(QuantizerError::inside)
    }

    fn codes(&self) -> (i64, i64) {
        let (codebooks, size) = self.each.settings().codes();
        (self.groups * codebooks, size)
    }

    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError> {
        let each = Box::new(self.each.settings().sized(codes)?);
        Ok(QuantizerConfig::Grouped(Self { each, ..self.clone() }))
    }

    fn natural_width(&self) -> i64 {
        self.groups * self.each.settings().natural_width()
    }

    fn build(&self, path: &Scope, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError> {
        Ok(Box::new(Grouped::new(path, self, channels)?))
    }

    fn check_width(&self, channels: i64) -> Result<(), QuantizerError> {
        let groups = self.groups;
        require(
            channels % groups == 0,
            "groups",
            groups,
            format!("it must divide the latent's {channels} channels (model.latent_channels)"),
        )?;
        self.each.settings().check_width(channels / groups).map_err(QuantizerError::inside)
    }

    fn saved_bytes(&self, vectors: i64) -> i64 {
        self.each.settings().saved_bytes(vectors).saturating_mul(self.groups)
    }

    fn check_step(&self, vectors: i64) -> Result<(), QuantizerError> {
        self.each.settings().check_step(vectors.saturating_mul(self.groups)).map_err(QuantizerError::inside)
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        self.each.settings().constants()
    }

    fn draws_noise(&self) -> bool {
        self.each.settings().draws_noise()
    }

    fn batch_terms(&self) -> Vec<String> {
        self.each.settings().batch_terms().into_iter().map(|key| format!("each.{key}")).collect()
    }

    fn check_new_training(&self) -> Result<(), QuantizerError> {
        self.each.settings().check_new_training().map_err(QuantizerError::inside)
    }

    fn advice(&self, vectors: i64) -> Vec<Words> {
        self.each.settings().advice(vectors).into_iter().map(Words::inside).collect()
    }
}

/// The grouped quantizer.
#[derive(Debug)]
pub struct Grouped {
    groups: Parts,
}

impl Grouped {
    /// Registers the groups under `path`.
    ///
    /// # Errors
    /// See [`Settings::check`] and [`Settings::check_width`].
    pub fn new(path: &Scope, config: &Config, channels: i64) -> Result<Self, QuantizerError> {
        config.check()?;
        config.check_width(channels)?;
        let each = config.each.settings();
        let groups: Result<Vec<_>, _> = (0..config.groups)
            .map(|group| {
                each.build(&(path / "groups" / group), channels / config.groups)
                    .map_err(QuantizerError::inside)
            })
            .collect();
        Ok(Self { groups: Parts(groups?) })
    }

    /// The channels of each group.
    fn split(&self, z: &Tensor) -> Vec<Tensor> {
        // Each part's gradient lies in memory as channels of an image do, which decides in which order
        // sums over positions are added up.
        let parts = z.transpose(1, 2).chunk(self.groups.count(), 1);
        parts.iter().map(|part| part.transpose(1, 2)).collect()
    }
}

impl Quantizer for Grouped {
    fn start_vectors(&self) -> Option<i64> {
        self.groups.0[0].start_vectors()
    }

    fn start(
        &mut self,
        z: &Tensor,
        seed: Seed,
        going_on: &mut dyn FnMut() -> bool,
    ) -> Result<StartOutcome, QuantizerError> {
        let channels = self.split(z);
        for ((i, group), z) in (0..).zip(&mut self.groups.0).zip(&channels) {
            let outcome =
                group.start(z, seed.derive("part", &[i]), going_on).map_err(QuantizerError::inside)?;
            if outcome == StartOutcome::Stopped {
                return Ok(outcome);
            }
        }
        Ok(StartOutcome::Whole)
    }

    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        let mut gathered = Gathered::default();
        let channels = self.split(z);
        let groups = self.groups.0.iter().zip(&channels);
        let latents: Vec<Tensor> = groups.map(|(group, z)| gathered.run(&**group, z, mode)).collect();
        Quantized {
            latent: Tensor::cat(&latents, 2),
            indices: self.groups.joined_indices(&gathered),
            losses: gathered.losses(1.0 / self.groups.count() as f64),
            statistics: gathered.statistics(),
            monitors: gathered.monitors(),
            stages: vec![],
        }
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        let by_group = self.groups.indices_by_part(indices);
        let latents: Vec<Tensor> =
            self.groups.0.iter().zip(&by_group).map(|(group, own)| group.lookup(own)).collect();
        Tensor::cat(&latents, 2)
    }

    fn codes(&self, codebook: i64, indices: &Tensor) -> Tensor {
        self.groups.codes(codebook, indices)
    }

    fn codebook(&self) -> CodebookShape {
        self.groups.codebook()
    }

    fn update(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport {
        self.groups.update(statistics, seed)
    }

    fn digits(&self) -> Option<&MixedRadix> {
        self.groups.0[0].digits()
    }

    fn collapse_remedy(&self, vectors: i64) -> Words {
        self.groups.0[0].collapse_remedy(vectors).inside()
    }
}
