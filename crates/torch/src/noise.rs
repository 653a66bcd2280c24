//! Random tensors of the samples of a step: each sample has its own numbers.
//!
//! The numbers are a function of a seed and of the sample's place in the whole batch of the step.
//! So they do not depend on how the batch is divided, into micro-batches or among processes. The
//! generator is made of plain tensor operations, so that they do not depend on the device either.
//!
//! It is SplitMix64 (Steele, Lea and Flood 2014), counted instead of iterated: the key of the
//! sample at `place` is mix(seed + (place + 1)·γ), and its number i is mix(key + (i + 1)·γ). Sums
//! and products of int64 wrap in the same way as those of u64.

use pixtok_base::seed::Seed;
use tch::{Device, Kind, Tensor};

/// γ, 2⁶⁴ divided by the golden ratio.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
/// The shifts and factors of the mixing function; one more shift follows.
const MIX: [(i64, u64); 2] = [(30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)];
const LAST_SHIFT: i64 = 31;

/// What the random numbers of the samples of a micro-batch are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    seed: Seed,
    /// The place of the first sample; the others follow it.
    first: u64,
}

impl Noise {
    /// The noise of a whole batch, whose samples are at the places 0, 1, 2, …. The seed stands for
    /// the run and the step.
    #[must_use]
    pub const fn new(seed: Seed) -> Self {
        Self { seed, first: 0 }
    }

    /// The same noise for the samples at the places `first`, `first + 1`, `first + 2`, ….
    #[must_use]
    pub const fn at_place(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// Other noise for the same samples: that of `stream` at the coordinates `at`, as in
    /// [`Seed::derive`].
    #[must_use]
    pub fn derive(self, stream: &str, at: &[u64]) -> Self {
        Self { seed: self.seed.derive(stream, at), ..self }
    }

    /// Uniform numbers in [0, 1), multiples of 2⁻²⁴.
    ///
    /// # Shapes
    /// `[B, …]` float32 on `device`.
    pub fn uniform(self, shape: &[i64], device: Device) -> Tensor {
        // float32 holds 24 bits exactly, so no number is rounded up to 1.
        shifted(&self.bits(shape, device), 40).to_kind(Kind::Float) * 2f64.powi(-24)
    }

    /// Whole numbers in `0..below`, where `below` is at most 2³¹.
    ///
    /// # Shapes
    /// `[B, …]` int64 on `device`.
    pub fn whole(self, below: i64, shape: &[i64], device: Device) -> Tensor {
        shifted(&(shifted(&self.bits(shape, device), 32) * below), 32)
    }

    /// 64 random bits for each element, as a number of either sign. Two elements practically never
    /// have the same number, so the numbers also put the elements of all samples in a random order.
    ///
    /// # Shapes
    /// `[B, …]` int64 on `device`.
    pub fn bits(self, shape: &[i64], device: Device) -> Tensor {
        let options = (Kind::Int64, device);
        let each: i64 = shape[1..].iter().product();
        let before_first = self.first.wrapping_add(1).wrapping_mul(GAMMA);
        let start = self.seed.0.wrapping_add(before_first) as i64;
        let keys = mixed(Tensor::arange(shape[0], options) * GAMMA as i64 + start);
        let counted = (Tensor::arange(each, options) + 1i64) * GAMMA as i64;
        mixed(keys.unsqueeze(1) + counted).view(shape)
    }
}

/// The mixing function of SplitMix64, which changes about half of the bits if one of the input's
/// changes.
fn mixed(mut x: Tensor) -> Tensor {
    let fold = |x: &mut Tensor, shift| {
        let shifted = shifted(x, shift);
        let _ = x.bitwise_xor_tensor_(&shifted);
    };
    for (shift, factor) in MIX {
        fold(&mut x, shift);
        x *= factor as i64;
    }
    fold(&mut x, LAST_SHIFT);
    x
}

/// The bits moved down by `shift`, with zeros above. libtorch's own shift repeats the sign.
fn shifted(x: &Tensor, shift: i64) -> Tensor {
    let mut moved = x.bitwise_right_shift_tensor_scalar(shift);
    moved.bitwise_and_((1i64 << (64 - shift)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Device = Device::Cpu;

    /// The mixing function with the numbers of the published program.
    fn mix(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Number `i` of the sample at `place`, in 64-bit arithmetic.
    fn bits(seed: u64, place: u64, i: u64) -> u64 {
        let gamma = 0x9E37_79B9_7F4A_7C15u64;
        let key = mix(seed.wrapping_add((place + 1).wrapping_mul(gamma)));
        mix(key.wrapping_add((i + 1).wrapping_mul(gamma)))
    }

    fn floats(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double).view([-1])).unwrap()
    }

    fn mean(tensor: &Tensor) -> f64 {
        tensor.to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
    }

    /// The mean of the products of two tensors of mean 0 and this variance, in units of the
    /// variance.
    fn correlation(a: &Tensor, b: &Tensor, variance: f64) -> f64 {
        mean(&(a.to_kind(Kind::Double) * b.to_kind(Kind::Double))) / variance
    }

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // The first outputs of the published program for the seeds 0 and 1234567.
        assert_eq!(mix(GAMMA), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(GAMMA.wrapping_add(1_234_567)), 6_457_827_717_110_365_317);
        // Sums and products wrap.
        for (seed, first) in [(0, 0), (u64::MAX - 5, 3), (0x8000_0000_0000_0000, 1 << 40)] {
            let noise = Noise::new(Seed(seed)).at_place(first);
            let shape = [3, 5, 7];
            let drawn: Vec<i64> = Vec::try_from(noise.bits(&shape, CPU).view([-1])).unwrap();
            let uniform = floats(&noise.uniform(&shape, CPU));
            let whole: Vec<i64> = Vec::try_from(noise.whole(1000, &shape, CPU).view([-1])).unwrap();
            for (at, found) in drawn.iter().enumerate() {
                let (sample, i) = (at as u64 / 35, at as u64 % 35);
                let expected = bits(seed, first + sample, i);
                assert_eq!(*found as u64, expected);
                assert_eq!(uniform[at], (expected >> 40) as f64 / f64::from(1 << 24));
                assert_eq!(whole[at] as u64, ((expected >> 32) * 1000) >> 32);
            }
        }
    }

    #[test]
    fn a_batch_in_parts_has_the_noise_of_the_whole() {
        let (noise, shape) = (Noise::new(Seed(5)), [8, 3, 2]);
        let draw = |noise: Noise, samples: i64| {
            let shape = [samples, shape[1], shape[2]];
            [noise.uniform(&shape, CPU), noise.whole(9, &shape, CPU)]
        };
        let whole = draw(noise, 8);
        let halves = [0, 4].map(|first| draw(noise.at_place(first), 4));
        for (i, whole) in whole.iter().enumerate() {
            assert_eq!(*whole, Tensor::cat(&[&halves[0][i], &halves[1][i]], 0));
            // Two processes take a half each, in two micro-batches of two.
            for rank in 0..2u64 {
                for part in 0..2u64 {
                    let first = rank * 4 + part * 2;
                    let own = draw(noise.at_place(first), 2);
                    assert_eq!(own[i], whole.narrow(0, first as i64, 2));
                }
            }
        }
        assert_eq!((whole[0].kind(), whole[1].kind()), (Kind::Float, Kind::Int64));
        assert_eq!(noise.uniform(&[0, 3], CPU).size(), [0, 3]);
    }

    #[test]
    fn uniform_numbers_are_even_and_independent() {
        let shape = [64, 4096];
        let noise = Noise::new(Seed(1));
        let drawn = noise.uniform(&shape, CPU);
        let (least, most) = (drawn.min().double_value(&[]), drawn.max().double_value(&[]));
        assert!((0.0..1e-4).contains(&least) && (0.9999..1.0).contains(&most), "{least}, {most}");
        // Each bound is about five standard errors.
        let counts = drawn.histc(16);
        assert!((counts - 16384.0).abs().max().double_value(&[]) < 620.0);
        let centred = &drawn - 0.5;
        assert!(mean(&centred).abs() < 0.003);
        assert!((correlation(&centred, &centred, 1.0 / 12.0) - 1.0).abs() < 0.01);
        let streams = ["a", "b"].map(|stream| noise.derive(stream, &[]).uniform(&shape, CPU) - 0.5);
        let other_step = Noise::new(Seed(2)).uniform(&shape, CPU) - 0.5;
        for (what, other) in [
            ("the next number", centred.roll([1], [1])),
            ("the next but one", centred.roll([2], [1])),
            ("the next sample", centred.roll([1], [0])),
            ("the next sample's next number", centred.roll([1, 1], [0, 1])),
            ("another stream", streams[0].shallow_clone()),
            ("the next seed", other_step),
        ] {
            let found = correlation(&centred, &other, 1.0 / 12.0);
            assert!(found.abs() < 0.01, "{what}: {found}");
        }
        assert!(correlation(&streams[0], &streams[1], 1.0 / 12.0).abs() < 0.01);
    }

    #[test]
    fn whole_numbers_take_each_value_alike() {
        let drawn = Noise::new(Seed(4)).whole(5, &[10_000, 5], CPU);
        for value in 0..5i64 {
            let share = mean(&drawn.eq(value));
            assert!((share - 0.2).abs() < 0.01, "{share} are {value}");
        }
        let most = Noise::new(Seed(4)).whole(1 << 31, &[1000, 2], CPU);
        let (least, most) = (most.min().int64_value(&[]), most.max().int64_value(&[]));
        assert!(least >= 0 && most < 1 << 31 && most > 1 << 30, "{least}, {most}");
    }
}
