//! Random numbers in tensors, from a [`Seed`].

use pixtok_base::seed::Seed;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

/// Seeds libtorch's generators of all devices. Call it right before the operation that draws.
pub fn reseed(seed: Seed) {
    tch::manual_seed(seed.0 as i64);
}

/// Fills a float32 `tensor` with Gaussian numbers from `seed`, drawn in float64 and rounded once.
/// Unlike those of `torch.randn`, they are the same on every processor and device.
pub fn fill_gaussian(tensor: &Tensor, seed: Seed, mean: f64, deviation: f64) {
    let mut rng = seed.rng();
    let mut number = || {
        let standard: f64 = StandardNormal.sample(&mut rng);
        (mean + deviation * standard) as f32
    };
    let numbers: Vec<f32> = (0..tensor.numel()).map(|_| number()).collect();
    let _guard = tch::no_grad_guard();
    tensor.shallow_clone().copy_(&Tensor::from_slice(&numbers).view(tensor.size().as_slice()));
}

/// Fills the `tensor` of a new layer like [`fill_gaussian`]. The seed is drawn from libtorch's
/// generator, which also initialises the other layers.
pub fn initialise_gaussian(tensor: &Tensor, mean: f64, deviation: f64) {
    let drawn = Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]);
    fill_gaussian(tensor, Seed(drawn as u64), mean, deviation);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussians_follow_the_seed_and_nothing_else() {
        let drawn = |seed: u64, count: i64| {
            let tensor = Tensor::zeros([count / 4, 4], (Kind::Float, Device::Cpu));
            fill_gaussian(&tensor, Seed(seed), 1.0, 0.5);
            tensor
        };
        assert_eq!(drawn(1, 20), drawn(1, 20));
        assert_ne!(drawn(1, 20), drawn(2, 20));
        let many = drawn(1, 100_000);
        // Values that rand_distr 0.6 draws from ChaCha8. The sum covers the tails too.
        assert_eq!(
            (many.double_value(&[0, 0]) as f32, many.double_value(&[0, 1]) as f32),
            (0.882_576_47, 0.294_591_16)
        );
        assert!((many.sum(Kind::Double).double_value(&[]) - 100_015.091_3).abs() < 1e-4);
        assert!((many.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.01);
        assert!((many.std(true).double_value(&[]) - 0.5).abs() < 0.01);
        let layer = Tensor::zeros([5, 7], (Kind::Float, Device::Cpu));
        let of_layer = |seed: u64| {
            reseed(Seed(seed));
            initialise_gaussian(&layer, 0.0, 1.0);
            layer.copy()
        };
        assert_eq!(of_layer(1), of_layer(1));
        assert_ne!(of_layer(1), of_layer(2));
    }
}
