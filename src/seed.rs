//! Randomness without carried state: every random decision is a pure function of a [`Seed`] and the names of what
//! is decided, so that a run resumes from its counters alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

/// 64 bits that determine one stream of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of `stream` at the coordinates `at`, for instance `("order", &[epoch])`: independent of every
    /// other stream and coordinate.
    #[must_use]
    pub fn derive(self, stream: &str, at: &[u64]) -> Seed {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(&(stream.len() as u64).to_le_bytes());
        hasher.update(stream.as_bytes());
        for coordinate in at {
            hasher.update(&coordinate.to_le_bytes());
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Seed(u64::from_le_bytes(bytes))
    }

    /// A generator for host-side decisions (order, crops, flips).
    #[must_use]
    pub fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }

    /// Reseeds libtorch's global generators; called right before the operation that draws.
    pub fn reseed_torch(self) {
        tch::manual_seed(self.0 as i64);
    }

    /// Fills a float32 `tensor` with Gaussian numbers, drawn in float64 and rounded once. Unlike those of `torch.randn`, they
    /// are the same on every processor and device.
    pub fn fill_gaussian(self, tensor: &Tensor, mean: f64, deviation: f64) {
        let mut rng = self.rng();
        let mut number = || {
            let standard: f64 = StandardNormal.sample(&mut rng);
            (mean + deviation * standard) as f32
        };
        let numbers: Vec<f32> = (0..tensor.numel()).map(|_| number()).collect();
        let _guard = tch::no_grad_guard();
        tensor.shallow_clone().copy_(&Tensor::from_slice(&numbers).view(tensor.size().as_slice()));
    }
}

/// Fills a new layer's `tensor` as [`Seed::fill_gaussian`] does. The seed is drawn from libtorch's generator, which also
/// initialises the other layers.
pub fn fill_gaussian(tensor: &Tensor, mean: f64, deviation: f64) {
    let drawn = Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]);
    Seed(drawn as u64).fill_gaussian(tensor, mean, deviation);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussians_follow_the_seed_and_nothing_else() {
        let drawn = |seed: u64, count: i64| {
            let tensor = Tensor::zeros([count / 4, 4], (Kind::Float, Device::Cpu));
            Seed(seed).fill_gaussian(&tensor, 1.0, 0.5);
            tensor
        };
        assert_eq!(drawn(1, 20), drawn(1, 20));
        assert_ne!(drawn(1, 20), drawn(2, 20));
        let many = drawn(1, 100_000);
        // As rand_distr 0.6 draws them from ChaCha8; the sum covers the tails too.
        assert_eq!(
            (many.double_value(&[0, 0]) as f32, many.double_value(&[0, 1]) as f32),
            (0.882_576_47, 0.294_591_16)
        );
        assert!((many.sum(Kind::Double).double_value(&[]) - 100_015.091_3).abs() < 1e-4);
        assert!((many.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.01);
        assert!((many.std(true).double_value(&[]) - 0.5).abs() < 0.01);
        let layer = Tensor::zeros([5, 7], (Kind::Float, Device::Cpu));
        let of_layer = |seed: u64| {
            Seed(seed).reseed_torch();
            fill_gaussian(&layer, 0.0, 1.0);
            layer.copy()
        };
        assert_eq!(of_layer(1), of_layer(1));
        assert_ne!(of_layer(1), of_layer(2));
    }

    #[test]
    fn streams_and_coordinates_are_independent() {
        let seed = Seed(7);
        assert_eq!(seed.derive("order", &[1]), seed.derive("order", &[1]));
        assert_ne!(seed.derive("order", &[1]), seed.derive("order", &[2]));
        assert_ne!(seed.derive("order", &[1]), seed.derive("crop", &[1]));
        assert_ne!(seed.derive("order", &[1, 0]), seed.derive("order", &[1]));
        assert_ne!(Seed(8).derive("order", &[1]), seed.derive("order", &[1]));
    }
}
