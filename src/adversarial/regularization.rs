//! Regularisation of a discriminator.

use pixtok_torch::no_grad;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::variables::{Init, Scope};
use crate::world::World;

/// The gradient penalty R1 (Mescheder et al. 2018, arXiv 1801.04406).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct R1Config {
    /// γ, the weight of the penalty.
    pub weight: f64,
    /// The penalty is taken only at every `every`-th step, with `every` times the weight (Karras et
    /// al. 2020, arXiv 1912.04958).
    #[serde(default = "every")]
    pub every: u64,
}

fn every() -> u64 {
    16
}

/// ½ · E‖∇D(x)‖², where D is the mean of an image's logits, so that γ does not depend on their
/// number.
///
/// # Shapes
/// `logits`: `[B, …]`, a function of `images`, `[B, 3, H, W]`, which require a gradient -> a scalar
/// with gradients for the network.
pub fn gradient_penalty(logits: &Tensor, images: &Tensor) -> Tensor {
    let of_images = logits.flatten(1, -1).mean_dim([1].as_slice(), false, Kind::Float).sum(Kind::Float);
    let gradient = Tensor::run_backward(&[of_images], &[images], true, true);
    gradient[0]
        .to_kind(Kind::Float)
        .square()
        .flatten(1, -1)
        .sum_dim_intlist([1].as_slice(), false, Kind::Float)
        .mean(Kind::Float)
        * 0.5
}

/// Settings of LeCam regularisation by moving averages of the logits (Tseng et al. 2021, arXiv
/// 2104.03310).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LecamConfig {
    /// The weight of the regularisation in the discriminator's loss.
    pub weight: f64,
    /// The decay of the moving averages.
    #[serde(default = "decay")]
    pub decay: f64,
}

fn decay() -> f64 {
    0.999
}

/// The moving averages of the logits, which start at 0.
#[derive(Debug)]
pub struct Lecam {
    decay: f64,
    /// The averages: scalars.
    real: Tensor,
    fake: Tensor,
    /// The mean logits of the current step: one of images and one of reconstructions for each
    /// micro-batch.
    seen: Vec<[Tensor; 2]>,
}

impl Lecam {
    /// Averages of 0, in buffers under `path`.
    #[must_use]
    pub fn new(path: &Scope, config: &LecamConfig) -> Self {
        let average = |name| path.buffer(name, &[], Init::Zeros);
        Self { decay: config.decay, real: average("real"), fake: average("fake"), seen: vec![] }
    }

    /// E[relu(D(x) − α_fake)²] + E[relu(α_real − D(x̂))²], where α are the averages of the previous
    /// steps. The authors' code updates them first, which would make a step depend on its number of
    /// micro-batches. Remembers the logits for [`Lecam::update`].
    ///
    /// # Shapes
    /// Logits of images and of reconstructions -> a scalar.
    pub fn regularization(&mut self, real: &Tensor, fake: &Tensor) -> Tensor {
        self.seen.push([real, fake].map(|logits| logits.detach().mean(Kind::Float)));
        let of = |difference: Tensor| difference.relu().square().mean(Kind::Float);
        of(real - &self.fake) + of(&self.real - fake)
    }

    /// Updates the averages from the logits that all processes remember. To be called once after an
    /// optimizer step, by each of them.
    pub fn update(&mut self, world: &World) {
        let seen = std::mem::take(&mut self.seen);
        if seen.is_empty() {
            return;
        }
        let mean = |side: usize| {
            let logits: Vec<&Tensor> = seen.iter().map(|pair| &pair[side]).collect();
            Tensor::stack(&logits, 0).mean(Kind::Float)
        };
        no_grad(|| {
            let means = world.all_mean(&Tensor::stack(&[0, 1].map(mean), 0));
            let _ = self.real.lerp_(&means.get(0), 1.0 - self.decay);
            let _ = self.fake.lerp_(&means.get(1), 1.0 - self.decay);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Variables};
    use tch::Device;

    #[test]
    fn averages_follow_the_logits_after_the_step() {
        let store = Variables::new(Device::Cpu);
        let mut lecam =
            Lecam::new(&store.root(Component::Discriminator), &LecamConfig { weight: 1.0, decay: 0.75 });
        let (real, fake) = (Tensor::from_slice(&[1f32, 3.0]), Tensor::from_slice(&[-1f32, -3.0]));
        // The averages are 0: mean(1, 9) + mean(1, 9).
        assert_eq!(lecam.regularization(&real, &fake).double_value(&[]), 10.0);
        let _ = lecam.regularization(&(&real + 2.0), &fake);
        let held = |name: &str| store.tensors()[name].double_value(&[]);
        assert_eq!((held("real"), held("fake")), (0.0, 0.0));
        lecam.update(World::alone());
        // A quarter of the mean of both micro-batches.
        assert_eq!((held("real"), held("fake")), (0.75, -0.5));
        lecam.update(World::alone());
        assert_eq!(held("real"), 0.75, "nothing was seen since");
    }

    #[test]
    fn the_penalty_is_half_the_squared_slope() {
        // D(x) = 3 · mean over positions of the sum over channels: a gradient of 3 / 4 at each of 3
        // · 4 pixels.
        let images = Tensor::randn([2, 3, 2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let slope = Tensor::from(3f32).set_requires_grad(true);
        let logits = images.sum_dim_intlist([1].as_slice(), true, Kind::Float) * &slope;
        let penalty = gradient_penalty(&logits, &images);
        assert!((penalty.double_value(&[]) - 0.5 * 12.0 * (0.75f64).powi(2)).abs() < 1e-6);
        penalty.backward();
        assert!((slope.grad().double_value(&[]) - 12.0 * 3.0 / 16.0).abs() < 1e-6);
    }
}
