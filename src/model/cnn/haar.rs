//! The Haar wavelet transform of Cosmos' image tokenizers (NVIDIA/Cosmos-Tokenizer), which stands
//! before their encoder and, inverted, after their decoder.

use tch::{Device, Tensor};

/// The channels of an image.
const COLOURS: i64 = 3;

/// All levels of the transform as one convolution with a fixed kernel.
///
/// A level turns each channel into four: the mean of two by two pixels (ll) and their differences
/// between rows (lh), between columns (hl) and across (hh), all divided by 4. The order of the
/// channels is (band, channel before). The next level does the same with all of them, so the order
/// in the end is (band of the last level, …, band of the first, colour).
///
/// The original pads by reflection on the right and at the bottom. That changes no number here,
/// since the sides of an image are multiples of the patch.
#[derive(Debug)]
pub struct Haar {
    /// `[3 · 4^levels, 3, patch, patch]`.
    kernel: Tensor,
    /// The same for the inverse.
    inverse: Tensor,
    /// Pixels along each side of what becomes one position: 2^levels.
    patch: i64,
}

impl Haar {
    /// The transform with this number of levels.
    #[must_use]
    pub fn new(levels: i64, device: Device) -> Self {
        let (patch, bands) = (1_i64 << levels, 1_i64 << (2 * levels));
        let mut signs = vec![];
        for channel in 0..COLOURS * bands {
            let (band, colour) = (channel / COLOURS, channel % COLOURS);
            for place in 0..COLOURS * patch * patch {
                let (from, y, x) = (place / (patch * patch), place / patch % patch, place % patch);
                signs.push(if from == colour { sign(band, y, x, levels) } else { 0.0 });
            }
        }
        let inverse = Tensor::from_slice(&signs).view([COLOURS * bands, COLOURS, patch, patch]);
        let inverse = inverse.to_device(device);
        Self { kernel: &inverse / bands as f64, inverse, patch }
    }

    /// Transforms images.
    ///
    /// # Shapes
    /// `[B, 3, H, W]` -> `[B, 3 · 4^levels, H / patch, W / patch]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        images.conv2d(&self.kernel, None::<&Tensor>, [self.patch; 2], [0, 0], [1, 1], 1)
    }

    /// The inverse of [`Haar::forward`].
    ///
    /// # Shapes
    /// `[B, 3 · 4^levels, h, w]` -> `[B, 3, h · patch, w · patch]`.
    pub fn inverse(&self, x: &Tensor) -> Tensor {
        x.conv_transpose2d(&self.inverse, None::<&Tensor>, [self.patch; 2], [0, 0], [0, 0], 1, [1, 1])
    }
}

/// The sign of a pixel of the patch in a band. Level by level, from the first, `band` has two bits:
/// differences between rows, then between columns; y and x have one.
fn sign(band: i64, y: i64, x: i64, levels: i64) -> f32 {
    let odd = (0..levels).fold(0, |odd, level| {
        let (rows, columns) = ((band >> (2 * level)) & 1, (band >> (2 * level + 1)) & 1);
        odd ^ (rows & (y >> level)) ^ (columns & (x >> level))
    });
    if odd & 1 == 0 { 1.0 } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_level_is_the_mean_and_the_differences_of_four_pixels() {
        let haar = Haar::new(1, Device::Cpu);
        let image = Tensor::from_slice(&[1.0f32, 2.0, 4.0, 8.0]).view([1, 1, 2, 2]);
        let image = Tensor::cat(&[&image, &(&image * 10.0), &(&image * 100.0)], 1);
        let bands = [15.0f64, -9.0, -5.0, 3.0];
        let made = haar.forward(&image);
        assert_eq!(made.size(), [1, 12, 1, 1]);
        for (band, sum) in bands.iter().enumerate() {
            for (colour, factor) in [1.0, 10.0, 100.0].iter().enumerate() {
                let value = made.double_value(&[0, (3 * band + colour) as i64, 0, 0]);
                assert!((value - sum * factor / 4.0).abs() < 1e-4, "band {band}, colour {colour}: {value}");
            }
        }
    }

    #[test]
    fn the_inverse_gives_the_image_back_and_levels_follow_each_other() {
        tch::manual_seed(1);
        let images = Tensor::randn([2, 3, 24, 40], (Kind::Float, Device::Cpu));
        for levels in 1..=3 {
            let haar = Haar::new(levels, Device::Cpu);
            let made = haar.forward(&images);
            assert_eq!(made.size(), [2, 3 << (2 * levels), 24 >> levels, 40 >> levels]);
            assert!((haar.inverse(&made) - &images).abs().max().double_value(&[]) < 1e-5);
        }
        // The low band of both levels is the mean of all pixels of a patch.
        let made = Haar::new(2, Device::Cpu).forward(&images);
        let means = images.avg_pool2d([4, 4], [4, 4], [0, 0], false, true, None::<i64>);
        assert!((made.narrow(1, 0, 3) - means).abs().max().double_value(&[]) < 1e-6);
    }
}
