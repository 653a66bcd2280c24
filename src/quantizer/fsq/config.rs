//! Settings of FSQ.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Fsq;
use super::grid::Grid;
use crate::quantizer::{
    MAX_CODES, Quantizer, QuantizerConfig, QuantizerError, Settings, Words, require, setting,
};
use crate::variables::Scope;

/// The level sets that the paper recommends (its appendix A.4.1), each for about 2^bits codes.
pub(super) const RECOMMENDED: [(u32, &[i64]); 9] = [
    (4, &[5, 3]),
    (6, &[8, 8]),
    (8, &[8, 6, 5]),
    (9, &[8, 8, 8]),
    (10, &[8, 5, 5, 5]),
    (11, &[8, 8, 6, 5]),
    (12, &[7, 5, 5, 5, 5]),
    (14, &[8, 8, 8, 6, 5]),
    (16, &[8, 8, 8, 5, 5, 5]),
];
/// The largest number of levels at which the tanh bounds still reach their outermost levels.
const MAX_TANH_LEVELS: i64 = 1000;
/// The number of levels at which the tanh bounds hardly ever leave one level.
const DEAD_TANH_LEVELS: i64 = 2;

/// How a latent number is bounded before rounding. Tokens are **not** interchangeable between
/// bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Bound {
    /// tanh scaled by 1 − 1e-3, as in the paper's official notebook.
    Paper,
    /// tanh scaled by 1 + 1e-3, as in vector-quantize-pytorch, Cosmos and most public weights.
    #[default]
    Tanh,
    /// (L − 1)·σ(slope·z): a symmetric grid without an offset (kexue.fm 9826; slope 1.6: arXiv
    /// 2601.17124).
    Sigmoid,
}

impl Bound {
    /// The share by which the bound's scale exceeds (L − 1)/2; `None` for a bound without a scale.
    #[must_use]
    pub fn epsilon(self) -> Option<f64> {
        match self {
            Self::Paper => Some(-1e-3),
            Self::Tanh => Some(1e-3),
            Self::Sigmoid => None,
        }
    }

    /// The latent value at which a dimension with 2 levels flips, if it is far from 0, where
    /// latents lie.
    fn far_flip(self) -> Option<f64> {
        let offset_by_scale = 1.0 / (1.0 + self.epsilon()?);
        // The bound's shift, which cancels its offset of half a level at z = 0.
        Some(-if self == Self::Paper { offset_by_scale.tan() } else { offset_by_scale.atanh() })
    }

    /// The name in the config.
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

/// The paper's set for 2^10 codes.
fn default_levels() -> Vec<i64> {
    vec![8, 5, 5, 5]
}

/// Settings of FSQ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The number of levels L_i of each dimension; K is their product. At least 5 each is advised;
    /// 2 levels need the bound `sigmoid`.
    #[serde(default = "default_levels")]
    pub levels: Vec<i64>,
    /// The bound; absent: `tanh`. The stages of a residual quantizer have their own bound, which is
    /// not a setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// A factor on z, only for the sigmoid bound; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope: Option<f64>,
    /// The probability with which, in training, noise of up to half a step in either direction
    /// replaces the rounding of a number (arXiv 2411.19842); 0 turns it off.
    #[serde(default)]
    pub noise_probability: f64,
}

impl Config {
    /// The settings with defaults of absent keys written out. A `stage` of a residual quantizer has
    /// no such keys.
    #[must_use]
    pub fn resolved(mut self, stage: bool) -> Self {
        if !stage {
            let bound = *self.bound.get_or_insert_default();
            if bound == Bound::Sigmoid {
                self.slope.get_or_insert(1.0);
            }
        }
        self
    }
}

impl Settings for Config {
    fn check(&self) -> Result<(), QuantizerError> {
        let fail = |key, problem: String| Err(QuantizerError(setting(key).text(problem)));
        if self.levels.is_empty() {
            return fail("levels", " is empty; give one level count per dimension, like [8, 5, 5, 5]".into());
        }
        if let Some(level) = self.levels.iter().find(|&&level| level < 2) {
            let few = format!(" has {level}; each dimension needs 2 levels or more (5 advised)");
            return fail("levels", few);
        }
        let codes = self.levels.iter().try_fold(1i64, |k, &level| k.checked_mul(level));
        if codes.is_none_or(|k| k > MAX_CODES) {
            let levels = &self.levels;
            let many = format!(" {levels:?} make more than 2^31 codes; use fewer or smaller levels");
            return fail("levels", many);
        }
        let most = self.levels.iter().copied().max().unwrap_or(0);
        let bound = self.bound.unwrap_or_default();
        if bound != Bound::Sigmoid && most > MAX_TANH_LEVELS {
            let lost = format!(
                " has {most}; the paper and tanh bounds lose end levels above {MAX_TANH_LEVELS}, so use bound = \
                 \"sigmoid\" or fewer levels"
            );
            return fail("levels", lost);
        }
        let noise = self.noise_probability;
        require((0.0..=1.0).contains(&noise), "noise_probability", noise, "it must be from 0 to 1")?;
        match self.slope {
            Some(_) if bound != Bound::Sigmoid => {
                fail("slope", " belongs to bound = \"sigmoid\"; remove it or change the bound".into())
            }
            Some(slope) if !(slope.is_finite() && slope > 0.0) => {
                fail("slope", format!(" is {slope}; it must be over 0"))
            }
            _ => Ok(()),
        }
    }

    fn codes(&self) -> (i64, i64) {
        (1, self.levels.iter().product())
    }

    fn sized(&self, codes: i64) -> Result<QuantizerConfig, QuantizerError> {
        let known = RECOMMENDED.iter().find(|(bits, _)| codes == 1 << bits);
        let (_, levels) = known.ok_or_else(|| {
            let sizes = RECOMMENDED.map(|(bits, _)| (1i64 << bits).to_string()).join(", ");
            let words = format!(
                "fsq has recommended levels for about {sizes} codes, not for {codes}; choose one of these, or give levels"
            );
            QuantizerError(words.into())
        })?;
        Ok(QuantizerConfig::Fsq(Self { levels: levels.to_vec(), ..self.clone() }))
    }

    fn natural_width(&self) -> i64 {
        self.levels.len() as i64
    }

    fn build(&self, path: &Scope, channels: i64) -> Result<Box<dyn Quantizer>, QuantizerError> {
        self.check()?;
        let grid = Grid::bounded(self, path.device());
        Ok(Box::new(Fsq::new(path, self, channels, grid)))
    }

    fn check_stage(&self) -> Result<(), QuantizerError> {
        if let Some(key) = [("bound", self.bound.is_some()), ("slope", self.slope.is_some())]
            .iter()
            .find_map(|(key, given)| given.then_some(*key))
        {
            return Err(QuantizerError(setting(key).text(
                " is given for the stages of a residual quantizer, whose input is squashed before the first stage and \
                 clamped to the symmetric grid in each; remove it",
            )));
        }
        // The symmetric grid takes any number of levels.
        Config { bound: Some(Bound::Sigmoid), ..self.clone() }.check()
    }

    fn build_stage(
        &self,
        path: &Scope,
        channels: i64,
        stage: i64,
    ) -> Result<Box<dyn Quantizer>, QuantizerError> {
        self.check_stage()?;
        Ok(Box::new(Fsq::new(path, self, channels, Grid::stage(self, stage, path.device()))))
    }

    fn stage_ratio(&self) -> f64 {
        self.levels.iter().copied().max().unwrap_or(1) as f64
    }

    fn stage_limits(&self) -> Option<Vec<f64>> {
        // s = L/(L − 1): half a step beyond the outermost codes.
        Some(self.levels.iter().map(|&level| level as f64 / (level - 1) as f64).collect())
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        self.bound.unwrap_or_default().epsilon().map(|epsilon| ("epsilon", epsilon)).into_iter().collect()
    }

    fn draws_noise(&self) -> bool {
        self.noise_probability > 0.0
    }

    fn check_new_training(&self) -> Result<(), QuantizerError> {
        let (levels, bound) = (&self.levels, self.bound.unwrap_or_default());
        match bound.far_flip().filter(|_| levels.contains(&DEAD_TANH_LEVELS)) {
            None => Ok(()),
            Some(flip) => {
                let dead =
                    format!(" {levels:?} has a dimension of 2 levels, which hardly ever changes under ");
                let flips = format!(" = \"{}\", since it flips at z = {flip:.1}; train with ", bound.name());
                let words = setting("levels").text(dead).setting("bound").text(flips).setting("bound");
                Err(QuantizerError(words.text(" = \"sigmoid\", or with kind = \"lfq\" for binary digits")))
            }
        }
    }

    fn advice(&self, _vectors: i64) -> Vec<Words> {
        if let Err(dead) = self.check_new_training() {
            return vec![dead.0];
        }
        let few = self.levels.iter().any(|&level| level < 5)
            && !RECOMMENDED.iter().any(|(_, levels)| *levels == self.levels);
        let words = || {
            let few = format!(" {:?} has fewer than 5 in a dimension, which is not advised", self.levels);
            setting("levels").text(few)
        };
        few.then(words).into_iter().collect()
    }

    fn stage_advice(&self, vectors: i64) -> Vec<Words> {
        // The same as in `check_stage`: the symmetric grid takes 2 levels, too.
        Config { bound: Some(Bound::Sigmoid), ..self.clone() }.advice(vectors)
    }
}
