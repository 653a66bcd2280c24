//! Settings of adversarial training.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Augmentation, DiscriminatorConfig, GanLoss, LecamConfig, R1Config};
use crate::optim::{self, OptimError};
use pixtok_base::{Class, Classified};

/// Settings of adversarial training. All but the table itself may be absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The weight of the adversarial loss in the tokenizer's loss.
    pub weight: f64,
    /// How the weight is scaled.
    pub weighting: Weighting,
    /// The loss of the discriminator, and of the tokenizer unless `tokenizer_loss` is given.
    pub loss: GanLoss,
    /// The loss of the tokenizer; absent: the same as `loss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer_loss: Option<GanLoss>,
    /// The optimizer step, counted from 0, at which the adversary starts to take part. Before that
    /// it has no effect at all: a decoder that cannot draw yet is easily told apart, and learns to
    /// hide rather than to draw.
    pub start: u64,
    /// The number of steps from `start` over which the weight rises to its full size. The
    /// discriminator learns from `start` on.
    pub ramp_steps: u64,
    /// The gradient penalty on images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r1: Option<R1Config>,
    /// Regularisation towards the moving averages of the logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lecam: Option<LecamConfig>,
    /// Augmentations of all images that the discriminator sees, for small data sets.
    pub augment: Vec<Augmentation>,
    /// The discriminator's network.
    pub discriminator: DiscriminatorConfig,
    /// The optimizer of the discriminator, with the defaults of `[optimizer]`. Its schedule starts
    /// at `start`.
    pub optimizer: optim::Config,
}

/// How the weight of the adversarial loss is scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Weighting {
    /// The weight is used as it is.
    Fixed {},
    /// The weight is multiplied by the ratio that makes the gradients of the reconstruction's terms
    /// and of the adversary equally large at the decoder's last layer: [`super::adaptive_weight`].
    Adaptive {
        /// The largest ratio.
        #[serde(default = "most")]
        most: f64,
    },
}

fn most() -> f64 {
    1e4
}

impl Default for Config {
    fn default() -> Self {
        Self {
            weight: 0.5,
            weighting: Weighting::Fixed {},
            loss: GanLoss::default(),
            tokenizer_loss: None,
            start: 0,
            ramp_steps: 0,
            r1: None,
            lecam: None,
            augment: vec![],
            discriminator: DiscriminatorConfig::default(),
            optimizer: optim::Config::default(),
        }
    }
}

/// The adversary's settings are out of range or do not fit the images.
#[derive(Debug, thiserror::Error)]
pub enum AdversarialError {
    /// Names the setting, its value and what is allowed.
    #[error("{0}")]
    Config(String),
    /// The settings of its optimizer are out of range.
    #[error("adversarial.{0}")]
    Optimizer(OptimError),
}

impl Classified for AdversarialError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl Config {
    /// The loss terms that are not linear in a micro-batch, in words.
    pub fn batch_terms(&self) -> Vec<String> {
        let adaptive = matches!(self.weighting, Weighting::Adaptive { .. });
        let adaptive = adaptive.then(|| "the adaptive weight of [adversarial]".to_owned());
        let discriminator = self.discriminator.batch_terms();
        let discriminator = discriminator.map(|what| format!("{what} in the discriminator"));
        adaptive.into_iter().chain(discriminator).collect()
    }

    /// Checks the settings for images of `image_size` (height, width).
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn check(&self, image_size: (i64, i64)) -> Result<(), AdversarialError> {
        let at_least = |key: &str, value: f64, least: f64, allowed: &str| {
            if value.is_finite() && value >= least {
                return Ok(());
            }
            Err(AdversarialError::Config(format!("adversarial.{key} is {value}; it must be {allowed}")))
        };
        at_least("weight", self.weight, 0.0, "0 or more")?;
        if let Weighting::Adaptive { most } = self.weighting {
            at_least("weighting.most", most, f64::MIN_POSITIVE, "over 0")?;
        }
        if let Some(R1Config { weight, every }) = self.r1 {
            at_least("r1.weight", weight, f64::MIN_POSITIVE, "over 0 (leave r1 out for none)")?;
            at_least("r1.every", every as f64, 1.0, "1 or more")?;
        }
        if let Some(LecamConfig { weight, decay }) = self.lecam {
            at_least("lecam.weight", weight, f64::MIN_POSITIVE, "over 0 (leave lecam out for none)")?;
            if !(0.0..1.0).contains(&decay) {
                return Err(AdversarialError::Config(format!(
                    "adversarial.lecam.decay is {decay}; it must be from 0 to under 1"
                )));
            }
        }
        if self.optimizer.muon.is_some() {
            return Err(AdversarialError::Config(
                "adversarial.optimizer.muon is for the tokenizer alone; leave it out".to_owned(),
            ));
        }
        self.discriminator.check(image_size)
    }

    /// Checks the discriminator's optimizer for a run of `steps`; it takes the steps from `start`
    /// on.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn check_steps(&self, steps: u64) -> Result<(), AdversarialError> {
        match steps.checked_sub(self.start) {
            Some(own @ 1..) => self.optimizer.check(own).map_err(AdversarialError::Optimizer),
            // The adversary never takes part.
            _ => Ok(()),
        }
    }

    /// Warns if the discriminator's learning rate or the weight never reaches its full value in a
    /// run of `steps`.
    #[must_use]
    pub fn advice(&self, steps: u64) -> Vec<String> {
        let own = steps.saturating_sub(self.start);
        if own == 0 {
            return vec![];
        }
        let warmup = self.optimizer.warmup_advice("adversarial.optimizer", own);
        let ramp = (self.ramp_steps > own).then(|| {
            format!(
                "adversarial.ramp_steps is {} and there are {own} steps from adversarial.start on, so its weight \
                 reaches {:.0} % of adversarial.weight at most; shorten the ramp or raise train.steps",
                self.ramp_steps,
                100.0 * own as f64 / self.ramp_steps as f64
            )
        });
        warmup.into_iter().chain(ramp).collect()
    }

    /// The tokenizer's loss from the logits of its reconstructions: [`GanLoss::of_tokenizer`].
    pub fn of_tokenizer(&self, fake: &Tensor) -> Tensor {
        self.tokenizer_loss.unwrap_or(self.loss).of_tokenizer(fake)
    }

    /// The weight at `step`, before scaling; `None` before the start.
    #[must_use]
    pub fn weight_at(&self, step: u64) -> Option<f64> {
        let done = step.checked_sub(self.start)? + 1;
        Some(self.weight * (done as f64 / self.ramp_steps.max(1) as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_starts_and_rises_when_it_is_told_to() {
        let config = Config { weight: 0.8, start: 100, ramp_steps: 4, ..Config::default() };
        assert_eq!([0, 99].map(|step| config.weight_at(step)), [None, None]);
        assert_eq!([100, 101, 103, 500].map(|step| config.weight_at(step)), [0.2, 0.4, 0.8, 0.8].map(Some));
        assert_eq!(Config { ramp_steps: 0, ..config }.weight_at(100), Some(0.8));
    }

    #[test]
    fn a_warmup_and_a_ramp_longer_than_the_run_are_said() {
        let config = Config { start: 100, ramp_steps: 80, ..Config::default() };
        let advice = config.advice(140);
        assert_eq!(advice.len(), 2, "{advice:?}");
        let warmup = "adversarial.optimizer.schedule.warmup_steps is 50 and there are 40 steps";
        assert!(
            advice[0].starts_with(warmup) && advice[0].contains("of adversarial.optimizer.lr"),
            "{advice:?}"
        );
        assert!(advice[1].contains("ramp_steps is 80") && advice[1].contains("reaches 50 %"), "{advice:?}");
        assert_eq!(config.advice(100), [""; 0], "it never takes part, which is said elsewhere");
        assert_eq!(config.advice(700), [""; 0]);
    }

    #[test]
    fn the_tokenizer_may_have_a_loss_of_its_own() {
        let fake = Tensor::from_slice(&[0.0_f32]);
        let value =
            |config: &str| toml::from_str::<Config>(config).unwrap().of_tokenizer(&fake).double_value(&[]);
        assert_eq!(value("loss = \"hinge\""), 0.0);
        let own = value("loss = \"hinge\"\ntokenizer_loss = \"non-saturating\"");
        assert!((own - std::f64::consts::LN_2).abs() < 1e-6, "{own}");
    }

    #[test]
    fn a_schedule_is_that_of_the_discriminators_own_steps() {
        let config: Config = toml::from_str(
            "start = 300\noptimizer = { lr = 1e-3, schedule = { kind = \"wsd\", warmup_steps = 0, decay_steps = 400 } }",
        )
        .unwrap();
        let message = config.check_steps(600).unwrap_err().to_string();
        assert!(message.contains("only 300 steps"), "{message}");
        // The adversary never takes part then.
        config.check_steps(300).unwrap();
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let refused = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            let outcome = config.check((64, 64)).and_then(|()| config.check_steps(100));
            outcome.unwrap_err().to_string()
        };
        for (text, expected) in [
            ("weight = -1", "adversarial.weight is -1"),
            ("weighting = { kind = \"adaptive\", most = 0 }", "adversarial.weighting.most is 0"),
            ("r1 = { weight = 0, every = 4 }", "adversarial.r1.weight is 0"),
            ("r1 = { weight = 1, every = 0 }", "adversarial.r1.every is 0"),
            ("lecam = { weight = 1, decay = 1 }", "adversarial.lecam.decay is 1"),
            ("optimizer = { lr = 0 }", "adversarial.optimizer.lr is 0"),
            ("optimizer = { muon = {} }", "adversarial.optimizer.muon"),
            ("discriminator = { kind = \"patch\", layers = 5 }", "adversarial.discriminator.layers is 5"),
        ] {
            let message = refused(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
        Config::default().check((64, 64)).unwrap();
    }
}
