//! Tail drop, the nested dropout of ordered parts: in training some images keep only the first of
//! them, so that those come to hold what matters most, and any number of them decodes.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use pixtok_torch::Noise;

/// Settings of tail drop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailDrop {
    /// The share of the images that keep all parts. The others keep the first n, where n is uniform
    /// from 1 to all.
    pub keep_full: f64,
}

impl TailDrop {
    /// Ends the message about a number that is no share.
    pub const SHARE: &str = "it is the share of the images that keep everything: give a number from 0 to 1";

    /// Whether `keep_full` is a share.
    #[must_use]
    pub fn is_share(self) -> bool {
        (0.0..=1.0).contains(&self.keep_full)
    }

    /// Which of `parts` parts each image keeps.
    ///
    /// # Shapes
    /// `[images, parts]` bool on `device`; true for a prefix of every row.
    pub fn kept(self, images: i64, parts: i64, noise: Noise, device: Device) -> Tensor {
        let noise = noise.derive("tail drop", &[]);
        let full = noise.derive("full", &[]).uniform(&[images, 1], device).lt(self.keep_full);
        let length = noise.derive("length", &[]).whole(parts, &[images, 1], device) + 1i64;
        let places = Tensor::arange(parts, (Kind::Int64, device));
        full.logical_or(&places.lt_tensor(&length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_base::seed::Seed;

    const CPU: Device = Device::Cpu;

    fn lengths(keep_full: f64, images: i64, parts: i64, noise: Noise) -> Vec<i64> {
        let kept = TailDrop { keep_full }.kept(images, parts, noise, CPU);
        assert_eq!((kept.size(), kept.kind()), (vec![images, parts], Kind::Bool));
        let kept = kept.to_kind(Kind::Int64);
        // A row is ones and then zeros.
        assert_eq!(kept.cumprod(1, Kind::Int64), kept);
        Vec::try_from(kept.sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)).unwrap()
    }

    #[test]
    fn lengths_are_uniform_beside_the_share_that_keeps_all() {
        let count = |lengths: &[i64], n: i64| lengths.iter().filter(|&&length| length == n).count() as f64;
        let images = 20_000;
        let drawn = lengths(0.5, images, 5, Noise::new(Seed(1)));
        for n in 1..=5 {
            let expected = if n == 5 { 0.5 + 0.1 } else { 0.1 };
            let share = count(&drawn, n) / images as f64;
            assert!((share - expected).abs() < 0.015, "{share} of the images keep {n}");
        }
        assert!(lengths(1.0, 100, 5, Noise::new(Seed(1))).iter().all(|&length| length == 5));
        let never = lengths(0.0, images, 4, Noise::new(Seed(2)));
        assert!((count(&never, 4) / images as f64 - 0.25).abs() < 0.015 && never.iter().all(|&n| n > 0));
        assert_eq!(lengths(0.0, 3, 1, Noise::new(Seed(3))), [1, 1, 1]);
    }

    #[test]
    fn an_image_keeps_as_much_in_any_part_of_a_batch() {
        let noise = Noise::new(Seed(4));
        let whole = lengths(0.3, 8, 7, noise);
        for (first, images) in [(0, 3), (3, 1), (4, 4)] {
            let part = lengths(0.3, images, 7, noise.at_place(first as u64));
            assert_eq!(part, whole[first..first + images as usize]);
        }
        assert_ne!(whole, lengths(0.3, 8, 7, Noise::new(Seed(5))));
    }

    #[test]
    fn a_share_is_from_0_to_1() {
        for (keep_full, holds) in [(0.0, true), (1.0, true), (-0.1, false), (1.1, false), (f64::NAN, false)] {
            assert_eq!(TailDrop { keep_full }.is_share(), holds, "{keep_full}");
        }
        let error = serde_json::from_str::<TailDrop>("{\"keep\": 1}").unwrap_err().to_string();
        assert!(error.contains("unknown field `keep`"), "{error}");
    }
}
