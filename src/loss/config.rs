//! The terms of the loss and their weights.

use serde::{Deserialize, Serialize};

use crate::pretrained::Backbone;
use crate::similarity::WINDOW;
use pixtok_base::{Class, Classified};

/// The weights of the terms. A term with weight 0 is not computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Weight of the mean absolute error.
    pub l1: f64,
    /// Weight of the mean squared error.
    pub mse: f64,
    /// Weight of the Charbonnier error √(d² + ε²) (Charbonnier et al. 1994): like l2 near 0, like
    /// l1 far from it.
    pub charbonnier: f64,
    /// ε of the Charbonnier error, in units of [−1, 1].
    pub charbonnier_epsilon: f64,
    /// Weight of 1 − MS-SSIM, over as many scales as fit the image (Zhao et al. 2017, arXiv
    /// 1511.08861). It needs no weight file.
    pub ms_ssim: f64,
    /// Weight of the learned perceptual distance (Zhang et al. 2018, arXiv 1801.03924). Its network
    /// needs a weight file.
    pub lpips: f64,
    /// Weight of the mean squared difference of the same network's features (Johnson et al. 2016,
    /// arXiv 1603.08155).
    pub features: f64,
    /// The network of `lpips` and `features`.
    pub network: Backbone,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            l1: 0.0,
            mse: 1.0,
            charbonnier: 0.0,
            charbonnier_epsilon: 1e-3,
            ms_ssim: 0.0,
            lpips: 0.0,
            features: 0.0,
            network: Backbone::Vgg,
        }
    }
}

/// Loss settings that leave nothing to minimise or are out of range.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LossError(String);

impl Classified for LossError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

impl Config {
    /// Refuses settings that cannot work on images of `image_size` (height, width, in pixels).
    ///
    /// # Errors
    /// [`LossError`], which names the setting, its value and the allowed values.
    pub fn check(&self, image_size: (i64, i64)) -> Result<(), LossError> {
        let fail = |message: String| Err(LossError(message));
        let weights = self.weights();
        for (key, weight) in weights {
            if !(weight.is_finite() && weight >= 0.0) {
                return fail(format!("loss.{key} is {weight}; a weight must be 0 or more"));
            }
        }
        let epsilon = self.charbonnier_epsilon;
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return fail(format!("loss.charbonnier_epsilon is {epsilon}; it must be over 0"));
        }
        if weights.iter().all(|(_, weight)| *weight == 0.0) {
            let names = weights.map(|(key, _)| format!("loss.{key}")).join(", ");
            return fail(format!("{names} are all 0; give one of them a weight, like mse = 1.0"));
        }
        let side = image_size.0.min(image_size.1);
        let network = self.network.min_side();
        for (key, weight, least) in [
            ("ms_ssim", self.ms_ssim, WINDOW),
            ("lpips", self.lpips, network),
            ("features", self.features, network),
        ] {
            if weight > 0.0 && side < least {
                return fail(format!(
                    "loss.{key} needs images of {least} pixels a side or more, and data.image_size has {side}; set \
                     loss.{key} = 0 or raise data.image_size"
                ));
            }
        }
        Ok(())
    }

    /// The pretrained network that the terms need, if they need one.
    #[must_use]
    pub fn needed_network(&self) -> Option<Backbone> {
        (self.lpips > 0.0 || self.features > 0.0).then_some(self.network)
    }

    /// The keys of the terms that need a network, joined for a sentence.
    #[must_use]
    pub fn network_keys(&self) -> String {
        let keys = [("loss.lpips", self.lpips), ("loss.features", self.features)];
        let used: Vec<&str> =
            keys.into_iter().filter(|(_, weight)| *weight > 0.0).map(|(key, _)| key).collect();
        used.join(" and ")
    }

    pub(super) fn check_network(&self, given: Option<Backbone>) -> Result<(), LossError> {
        let needed = self.needed_network();
        if needed.is_none() || needed == given {
            return Ok(());
        }
        let found = given.map_or_else(|| "none are".to_owned(), |given| format!("those of {given} are"));
        Err(LossError(format!(
            "{} {} weights of {}, but {found} given; give the file with --lpips-weights",
            self.network_keys(),
            if self.lpips > 0.0 && self.features > 0.0 { "need" } else { "needs" },
            self.network
        )))
    }

    fn weights(&self) -> [(&'static str, f64); 6] {
        [
            ("l1", self.l1),
            ("mse", self.mse),
            ("charbonnier", self.charbonnier),
            ("ms_ssim", self.ms_ssim),
            ("lpips", self.lpips),
            ("features", self.features),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: Config| config.check((64, 64)).unwrap_err().to_string();
        assert!(message(Config { mse: -1.0, ..Config::default() }).contains("loss.mse is -1"));
        assert!(message(Config { mse: 0.0, ..Config::default() }).contains("all 0"));
        assert!(message(Config { charbonnier_epsilon: 0.0, ..Config::default() }).contains("epsilon is 0"));
    }

    #[test]
    fn images_too_small_for_a_term_are_refused() {
        let message = |config: &Config, side| config.check((64, side)).unwrap_err().to_string();
        let ssim = Config { ms_ssim: 0.1, ..Config::default() };
        ssim.check((64, 11)).unwrap();
        assert!(message(&ssim, 10).contains("loss.ms_ssim needs images of 11 pixels"));
        let alex = Config { lpips: 1.0, network: Backbone::Alex, ..Config::default() };
        alex.check((64, 31)).unwrap();
        assert!(message(&alex, 30).contains("loss.lpips needs images of 31 pixels"));
    }

    #[test]
    fn a_term_without_its_network_is_refused() {
        let config = Config { lpips: 1.0, features: 0.5, ..Config::default() };
        let message = |given| config.check_network(given).unwrap_err().to_string();
        assert!(
            message(None).contains("loss.lpips and loss.features need weights of VGG16, but none are given")
        );
        assert!(message(Some(Backbone::Alex)).contains("but those of AlexNet are given"));
        config.check_network(Some(Backbone::Vgg)).unwrap();
        Config::default().check_network(None).unwrap();
    }
}
