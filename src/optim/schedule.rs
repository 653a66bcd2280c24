//! The learning rate as a share of its peak: a pure function of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::OptimError;

/// Long warm-ups are sampled at about this many steps.
const PEAK_SAMPLES: u64 = 10_000;

/// A schedule. Its factor multiplies `optimizer.lr`. Every kind starts with a linear warm-up: the
/// factor min(1, (step + 1) / warmup_steps) multiplies the curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// A constant factor of 1.
    Constant {
        /// Steps of warm-up.
        #[serde(default)]
        warmup_steps: u64,
    },
    /// Half a cosine over all steps, down to a share of the peak (Loshchilov & Hutter 2017, arXiv
    /// 1608.03983).
    Cosine {
        /// Steps of warm-up.
        #[serde(default)]
        warmup_steps: u64,
        /// The factor at the end.
        #[serde(default)]
        final_factor: f64,
    },
    /// Warmup-stable-decay: the peak, then a linear decay over the last steps (Hu et al. 2024,
    /// arXiv 2404.06395).
    Wsd {
        /// Steps of warm-up.
        #[serde(default)]
        warmup_steps: u64,
        /// Steps of decay, at the end of the run.
        decay_steps: u64,
        /// The factor at the end.
        #[serde(default)]
        final_factor: f64,
    },
    /// The peak until the end of the warm-up, then √(warmup_steps / (step + 1)) (Vaswani et al.
    /// 2017).
    InverseSqrt {
        /// Steps of warm-up, at least 1.
        warmup_steps: u64,
    },
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Cosine { warmup_steps: 50, final_factor: 0.0 }
    }
}

impl Schedule {
    fn warmup_steps(&self) -> u64 {
        match *self {
            Self::Constant { warmup_steps }
            | Self::Cosine { warmup_steps, .. }
            | Self::Wsd { warmup_steps, .. }
            | Self::InverseSqrt { warmup_steps } => warmup_steps,
        }
    }

    /// The factor at `step`, counted from 0, in a run of `steps`.
    #[must_use]
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        let warmup = (step + 1) as f64 / self.warmup_steps().max(1) as f64;
        let curve = match *self {
            Self::Constant { .. } => 1.0,
            Self::Cosine { final_factor, .. } => {
                let progress = (step as f64 / steps as f64).min(1.0);
                final_factor + (1.0 - final_factor) * (0.5 + 0.5 * (PI * progress).cos())
            }
            Self::Wsd { decay_steps, final_factor, .. } => {
                let left = steps.saturating_sub(step) as f64 / decay_steps.max(1) as f64;
                final_factor + (1.0 - final_factor) * left.min(1.0)
            }
            Self::InverseSqrt { warmup_steps } => {
                (warmup_steps.max(1) as f64 / (step + 1) as f64).sqrt().min(1.0)
            }
        };
        warmup.min(1.0) * curve
    }

    /// The largest factor in a run of `steps`.
    fn peak(&self, steps: u64) -> f64 {
        // Every curve falls or stays level after the warm-up.
        let last = self.warmup_steps().min(steps.saturating_sub(1));
        let stride = usize::try_from(last / PEAK_SAMPLES + 1).unwrap_or(usize::MAX);
        let sampled = (0..=last).step_by(stride).chain([last]).map(|step| self.factor(step, steps));
        sampled.fold(0.0, f64::max)
    }

    /// A warning if the warm-up lasts as long as a run of `steps`, or so long that the rate stays
    /// under half of the configured one. `table` is the optimizer's table in the config.
    pub(super) fn warmup_advice(&self, table: &str, lr: f64, steps: u64) -> Option<String> {
        let (warmup, peak) = (self.warmup_steps(), self.peak(steps));
        (warmup > 1 && (warmup >= steps || peak < 0.5)).then(|| {
            format!(
                "{table}.schedule.warmup_steps is {warmup} and there are {steps} steps, so the learning rate \
                 reaches {:.0} % of {table}.lr at most ({:.3e}); shorten the warm-up or raise train.steps",
                100.0 * peak,
                lr * peak
            )
        })
    }

    /// Checks the settings for a run of `steps`.
    pub(super) fn check(&self, steps: u64) -> Result<(), OptimError> {
        let fail = |message: String| Err(OptimError::Config(message));
        match *self {
            Self::Cosine { final_factor, .. } | Self::Wsd { final_factor, .. }
                if !(0.0..=1.0).contains(&final_factor) =>
            {
                fail(format!("optimizer.schedule.final_factor is {final_factor}; it must be from 0 to 1"))
            }
            Self::Wsd { decay_steps, .. } if decay_steps > steps => fail(format!(
                "optimizer.schedule.decay_steps is {decay_steps}, and there are only {steps} steps from its start to train.steps"
            )),
            Self::InverseSqrt { warmup_steps: 0 } => {
                fail("optimizer.schedule.warmup_steps is 0; inverse-sqrt needs 1 or more".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_with_warmup_is_the_yardsticks() {
        // lr × min(1, (s+1)/50) × ½(1 + cos(π·s/600)), numbers from Python's math module.
        let schedule = Schedule::Cosine { warmup_steps: 50, final_factor: 0.0 };
        for (step, expected) in
            [(0, 0.02), (24, 0.498_028_675_328_619_5), (300, 0.5), (599, 6.853_876_286_627_7e-6)]
        {
            assert!((schedule.factor(step, 600) - expected).abs() < 1e-9, "{step}");
        }
    }

    #[test]
    fn the_others_by_hand() {
        let wsd = Schedule::Wsd { warmup_steps: 0, decay_steps: 10, final_factor: 0.1 };
        assert_eq!(wsd.factor(50, 100), 1.0);
        assert!((wsd.factor(95, 100) - 0.55).abs() < 1e-12);
        let inverse = Schedule::InverseSqrt { warmup_steps: 4 };
        assert_eq!([0, 3, 15].map(|step| inverse.factor(step, 100)), [0.25, 1.0, 0.5]);
        assert_eq!(Schedule::Constant { warmup_steps: 2 }.factor(0, 9), 0.5);
        assert_eq!(Schedule::Constant { warmup_steps: 0 }.factor(0, 9), 1.0);
    }

    #[test]
    fn a_warmup_longer_than_the_run_is_said_with_the_peak() {
        let advice = |schedule: &Schedule, steps| schedule.warmup_advice("optimizer", 1e-3, steps);
        let cosine = Schedule::default();
        // The largest (s + 1)/50 × ½(1 + cos(π·s/40)) for s < 40, from Python's math module:
        // 0.22253 at s = 16.
        let words = advice(&cosine, 40).unwrap();
        for part in ["warmup_steps is 50", "40 steps", "reaches 22 %", "(2.225e-4)"] {
            assert!(words.contains(part), "{part:?} is missing in: {words}");
        }
        // The warm-up is (almost) as long as the run, so the cosine has already fallen far when the
        // warm-up ends.
        assert!(advice(&cosine, 50).unwrap().contains("reaches 27 %"));
        assert!(advice(&cosine, 80).is_some() && advice(&cosine, 150).is_none());
        let constant = Schedule::Constant { warmup_steps: 50 };
        assert!(advice(&constant, 40).unwrap().contains("reaches 80 %"));
        assert!(advice(&constant, 60).is_none());
        for (warmup_steps, steps) in [(0, 1), (1, 1), (5, 12), (1_000_000_000, 2_000_000_000)] {
            assert_eq!(advice(&Schedule::Constant { warmup_steps }, steps), None);
        }
        let long = Schedule::Constant { warmup_steps: 2_000_000_000 };
        assert!(advice(&long, 1_000_000_000).unwrap().contains("reaches 50 %"));
        let wsd = Schedule::Wsd { warmup_steps: 30, decay_steps: 35, final_factor: 0.0 };
        assert!(advice(&wsd, 40).is_some());
        assert!(advice(&Schedule::InverseSqrt { warmup_steps: 50 }, 10).unwrap().contains("reaches 20 %"));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |schedule: Schedule| schedule.check(100).unwrap_err().to_string();
        let wsd = |decay_steps, final_factor| Schedule::Wsd { warmup_steps: 0, decay_steps, final_factor };
        assert!(message(wsd(101, 0.0)).contains("decay_steps is 101"));
        assert!(message(wsd(10, 1.5)).contains("final_factor is 1.5"));
        assert!(message(Schedule::InverseSqrt { warmup_steps: 0 }).contains("warmup_steps is 0"));
    }
}
