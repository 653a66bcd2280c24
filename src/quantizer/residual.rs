//! Residual quantization (SoundStream, arXiv 2107.03312, algorithm 1): the first stage quantizes
//! the latent, and each later stage quantizes what the previous stages left over, r_{i+1} = r_i −
//! sg[q_i]. The codes of all stages are added up.
//!
//! As in vector-quantize-pytorch, each stage passes its gradient on to the latent, so the latent's
//! gradient is the sum over the stages, and so are the losses.
//!
//! The first codes of a position are a coarser latent. With [`TailDrop`] (SoundStream's quantizer
//! dropout, by image) training prepares the decoder for it: absent stages add nothing to the latent
//! that the decoder gets, but are quantized, and learn from their losses, as all others.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::digits::MixedRadix;
use super::parts::{Gathered, Parts};
use super::projection::Projection;
use super::{
    CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig, QuantizerError, Settings, StartOutcome,
    TailDrop, Words, require, setting,
};
use crate::layers::as_kind;
use crate::statistics::{Statistic, UpdateReport};
use crate::variables::{Component, Scope};
use pixtok_base::seed::Seed;
use pixtok_torch::{Noise, in_full_precision, no_grad};

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
    /// In training, which images keep only the first stages; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail_drop: Option<TailDrop>,
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
        self.check_tail_drop()?;
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

    fn has_stages(&self) -> bool {
        self.stages > 1
    }

    /// Tail drop is on the decoder's side: it changes what the decoder gets.
    fn components_of(&self, key: &str) -> &'static [Component] {
        match key.split('.').next() {
            Some("tail_drop") => &[Component::Decoder],
            _ => &[Component::Quantizer],
        }
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
        self.tail_drop.is_some() || self.each.settings().draws_noise()
    }

    fn batch_terms(&self) -> Vec<String> {
        self.each.settings().batch_terms().into_iter().map(|key| format!("each.{key}")).collect()
    }

    fn advice(&self, vectors: i64) -> Vec<Words> {
        self.each.settings().stage_advice(vectors).into_iter().map(Words::inside).collect()
    }
}

impl Config {
    fn check_tail_drop(&self) -> Result<(), QuantizerError> {
        let Some(tail_drop) = self.tail_drop else { return Ok(()) };
        require(tail_drop.is_share(), "tail_drop.keep_full", tail_drop.keep_full, TailDrop::SHARE)?;
        if self.stages > 1 {
            return Ok(());
        }
        let words = setting("tail_drop").text(" leaves out the last stages, and ").setting("stages");
        Err(QuantizerError(words.text(" is 1; raise it, or leave tail drop out")))
    }
}

/// The residual quantizer. Its stages share one projection in and out.
#[derive(Debug)]
pub struct Residual {
    projection: Projection,
    stages: Parts,
    tail_drop: Option<TailDrop>,
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
        let (projection, stages) = (Projection::new(path, channels, width), Parts(stages?));
        Ok(Self { projection, stages, tail_drop: config.tail_drop, limits })
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
                latent: self.projection.project_out(&sum(&codes)),
                indices: self.stages.joined_indices(&gathered),
                losses: gathered.losses(1.0),
                statistics: gathered.statistics(),
                monitors: gathered.monitors(),
                stages: if self.tail_drop.is_some() { codes } else { vec![] },
            }
        })
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| {
            let by_stage = self.stages.indices_by_part(indices);
            let stages = self.stages.0.iter().zip(&by_stage);
            let codes: Vec<Tensor> = stages.map(|(stage, own)| stage.lookup(own)).collect();
            self.projection.project_out(&sum(&codes))
        })
    }

    fn tail_dropped(&self, quantized: &Quantized, noise: Noise) -> Option<Tensor> {
        let (drop, codes) = (self.tail_drop?, &quantized.stages);
        let (images, device) = (quantized.latent.size()[0], quantized.latent.device());
        let kept = drop.kept(images, self.stages.count(), noise.derive("stages", &[]), device);
        let of_stage =
            |(codes, kept): (&Tensor, Tensor)| codes.where_scalarother(&kept.view([-1, 1, 1]), 0.0);
        Some(in_full_precision(|| {
            let first: Vec<Tensor> = codes.iter().zip(kept.unbind(1)).map(of_stage).collect();
            self.projection.project_out(&sum(&first))
        }))
    }

    fn codes(&self, codebook: i64, indices: &Tensor) -> Tensor {
        self.stages.codes(codebook, indices)
    }

    fn codebook(&self) -> CodebookShape {
        self.stages.codebook()
    }

    fn has_stages(&self) -> bool {
        self.stages.count() > 1
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

/// Adds the codes of all stages from the first on, in the same order wherever they are added.
fn sum(codes: &[Tensor]) -> Tensor {
    codes.iter().map(Tensor::shallow_clone).reduce(|sum, codes| sum + codes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::variables::Variables;
    use crate::world::World;
    use serde_json::{Value, json};

    /// Three stages of VQ, whose gradient to the latent is that of the identity for each stage.
    fn built(tail_drop: Value) -> Box<dyn Quantizer> {
        let each = json!({ "kind": "vq", "codebook_size": 24, "codebook_dim": 4, "start": "uniform" });
        let mut config = json!({ "kind": "residual", "stages": 3, "each": each });
        if !tail_drop.is_null() {
            config["tail_drop"] = tail_drop;
        }
        let config: QuantizerConfig = serde_json::from_value(config).unwrap();
        pixtok_torch::reseed(Seed(1));
        config.settings().build(&Variables::new(Device::Cpu).root(Component::Quantizer), 4).unwrap()
    }

    fn latents() -> Tensor {
        pixtok_torch::reseed(Seed(2));
        Tensor::randn([16, 5, 4], (Kind::Float, Device::Cpu)) * 0.1
    }

    fn train(noise: Noise) -> Mode<'static> {
        Mode::Train { noise, world: World::alone() }
    }

    #[test]
    fn the_first_codes_are_a_coarser_latent() {
        let quantizer = built(Value::Null);
        assert!(quantizer.has_stages());
        let indices = quantizer.quantize(&latents(), Mode::Eval).indices;
        let mut sum = quantizer.codes(0, &indices.select(2, 0));
        assert_eq!(quantizer.lookup(&indices.narrow(2, 0, 1)), sum);
        for n in 2..=3 {
            sum = &sum + quantizer.codes(n - 1, &indices.select(2, n - 1));
            assert_eq!(quantizer.lookup(&indices.narrow(2, 0, n)), sum, "{n} stages");
        }
    }

    #[test]
    fn a_decoder_trains_on_the_first_codes_of_an_image() {
        let noise = Noise::new(Seed(3));
        let (drop, plain) = (built(json!({ "keep_full": 0.5 })), built(Value::Null));
        let z = latents().set_requires_grad(true);
        let (made, whole) = (drop.quantize(&z, train(noise)), plain.quantize(&z, train(noise)));
        let given = drop.tail_dropped(&made, noise).unwrap();
        assert!(plain.tail_dropped(&whole, noise).is_none() && whole.stages.is_empty());
        let kept = TailDrop { keep_full: 0.5 }.kept(16, 3, noise.derive("stages", &[]), Device::Cpu);
        let lengths = kept.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64);
        let lengths: Vec<i64> = Vec::try_from(lengths).unwrap();
        assert!(lengths.contains(&3) && lengths.iter().any(|&n| n < 3), "{lengths:?}");
        given.sum(Kind::Float).backward();
        for (image, &n) in (0..).zip(&lengths) {
            let indices = made.indices.narrow(0, image, 1);
            assert_eq!(given.narrow(0, image, 1), drop.lookup(&indices.narrow(2, 0, n)), "{image}");
            let off = (z.grad().get(image) - n as f64).abs().max().double_value(&[]);
            assert!(off < 1e-5, "image {image} has {n} stages, and its gradient is off by {off}");
        }
        // Latent, codes, losses and statistics are those of all stages.
        assert_eq!((&made.latent, &made.indices), (&whole.latent, &whole.indices));
        for (made, whole) in made.losses.iter().zip(&whole.losses) {
            assert_eq!((made.name, &made.value), (whole.name, &whole.value));
        }
        assert_eq!(format!("{:?}", made.statistics), format!("{:?}", whole.statistics));
        // From codes of an evaluation, and for images that keep all.
        let evaluated = drop.quantize(&z, Mode::Eval);
        assert_eq!(drop.lookup(&evaluated.indices), evaluated.latent);
        assert_eq!(drop.tail_dropped(&evaluated, noise).unwrap(), given);
        let all = built(json!({ "keep_full": 1.0 }));
        assert_eq!(all.tail_dropped(&all.quantize(&z, train(noise)), noise).unwrap(), whole.latent);
    }

    #[test]
    fn settings_that_leave_nothing_to_drop_are_refused() {
        let check = |config: Value| {
            let config: QuantizerConfig = serde_json::from_value(config).unwrap();
            config.settings().check().map_err(|error| error.to_string())
        };
        let each = json!({ "kind": "fsq", "levels": [8, 5] });
        let residual = |stages: i64, keep_full: f64| {
            let tail_drop = json!({ "keep_full": keep_full });
            json!({ "kind": "residual", "stages": stages, "each": each, "tail_drop": tail_drop })
        };
        assert_eq!(check(residual(2, 0.0)), Ok(()));
        let grouped = json!({ "kind": "grouped", "each": residual(2, 0.5) });
        for (config, part) in [
            (residual(2, 1.5), "quantizer.tail_drop.keep_full is 1.5; it is the share of the images"),
            (residual(1, 0.5), "quantizer.tail_drop leaves out the last stages, and quantizer.stages is 1"),
            (grouped, "quantizer.each.tail_drop is for a residual quantizer by itself"),
        ] {
            let words = check(config).unwrap_err();
            assert!(words.contains(part), "{words}");
        }
        let config: QuantizerConfig = serde_json::from_value(residual(2, 0.5)).unwrap();
        assert!(config.settings().draws_noise());
        for (key, of) in [
            ("tail_drop", Component::Decoder),
            ("tail_drop.keep_full", Component::Decoder),
            ("stages", Component::Quantizer),
            ("each.levels", Component::Quantizer),
        ] {
            assert_eq!(config.settings().components_of(key), [of], "{key}");
        }
        let plain = json!({ "kind": "residual", "stages": 2, "each": each });
        let config: QuantizerConfig = serde_json::from_value(plain).unwrap();
        assert_eq!(serde_json::to_value(&config).unwrap().get("tail_drop"), None);
    }
}
