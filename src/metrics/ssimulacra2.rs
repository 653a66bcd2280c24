//! SSIMULACRA 2, a perceptual score that needs no weights.

use ::ssimulacra2::{ColorPrimaries, Rgb, TransferCharacteristic, compute_frame_ssimulacra2};
use rayon::prelude::*;
use tch::{Device, Tensor};

use super::{Absent, ImageMetric};

/// The number of scales; each is half the size of the one before, rounded up.
const SCALES: u32 = 6;
/// The crate, like the authors' C++, omits every scale after one with a side under 8 pixels, and
/// then multiplies the remaining terms by the weights of other scales and channels (libjxl#4491).
/// So the last scale but one must have sides of at least 8 pixels.
const LEAST_SIDE: i64 = (7 << (SCALES - 2)) + 1;

/// SSIMULACRA 2 as computed by the `ssimulacra2` crate, on the CPU, for images of at least 113
/// pixels on each side. 100 for a perfect copy, without a lower bound; higher is better.
#[derive(Debug, Clone, Copy)]
pub struct Ssimulacra2;

impl ImageMetric for Ssimulacra2 {
    fn name(&self) -> &'static str {
        "ssimulacra2"
    }

    fn measure(&self, originals: &Tensor, recons: &Tensor) -> Result<Tensor, Absent> {
        assert_eq!(originals.size(), recons.size(), "images and reconstructions differ in shape");
        Absent::under(LEAST_SIDE, originals)?;
        let (originals, recons) = (frames(originals), frames(recons));
        let pairs = originals.into_par_iter().zip(recons);
        let scores: Result<Vec<f64>, Absent> = pairs
            .map(|(original, recon)| {
                let refused = |error: &dyn std::error::Error| Absent(format!("the crate says: {error}"));
                compute_frame_ssimulacra2(
                    original.map_err(|error| refused(&error))?,
                    recon.map_err(|error| refused(&error))?,
                )
                .map_err(|error| refused(&error))
            })
            .collect();
        Ok(Tensor::from_slice(&scores?))
    }
}

/// Converts `[B, 3, H, W]` uint8 to B sRGB frames with values in 0..1.
fn frames(images: &Tensor) -> Vec<Result<Rgb, impl std::error::Error + Send>> {
    let size = images.size();
    let (height, width) = (size[2] as usize, size[3] as usize);
    let interleaved = images.to_device(Device::Cpu).permute([0, 2, 3, 1]).contiguous();
    let mut bytes = vec![0u8; interleaved.numel()];
    interleaved.copy_data_u8(&mut bytes, interleaved.numel());
    let frame = |image: &[u8]| {
        let pixels = image.chunks_exact(3).map(|pixel| [0, 1, 2].map(|c| f32::from(pixel[c]) / 255.0));
        Rgb::new(pixels.collect(), width, height, TransferCharacteristic::SRGB, ColorPrimaries::BT709)
    };
    bytes.chunks_exact(3 * height * width).map(frame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of gradients, `[1, 3, H, W]`, and a copy with noise of up to `levels` levels.
    fn pair(height: usize, width: usize, levels: i32) -> (Tensor, Tensor) {
        let mut state = 1u32;
        let (mut original, mut noisy) = (vec![], vec![]);
        for at in 0..3 * height * width {
            let (channel, y, x) = (at / (height * width), at / width % height, at % width);
            let value = ((2 * x + 3 * y + 60 * channel) % 256) as i32;
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 16) as i32 % (2 * levels + 1) - levels;
            original.push(value as u8);
            noisy.push((value + noise).clamp(0, 255) as u8);
        }
        let tensor = |bytes: &[u8]| Tensor::from_slice(bytes).view([1, 3, height as i64, width as i64]);
        (tensor(&original), tensor(&noisy))
    }

    fn score((original, recon): (Tensor, Tensor)) -> Result<f64, Absent> {
        let scores = Ssimulacra2.measure(&original, &recon)?;
        Ok(Vec::<f64>::try_from(scores).unwrap()[0])
    }

    #[test]
    fn a_copy_scores_100_and_noise_less_the_more_there_is() {
        let scores = [0, 4, 30].map(|levels| score(pair(113, 120, levels)).unwrap());
        assert!(
            (scores[0] - 100.0).abs() < 1e-6 && scores[0] > scores[1] && scores[1] > scores[2],
            "{scores:?}"
        );
    }

    /// Sides of squares, and the scores of [`pair`] with noise of 12 levels, as ssimulacra2 0.5.1
    /// gave them.
    const SCORES: [(usize, f64); 3] = [(113, 69.838_176), (128, 74.477_888), (288, 73.134_328)];

    #[test]
    fn images_have_the_score_that_they_always_had() {
        let found = SCORES.map(|(side, _)| (side, score(pair(side, side, 12)).unwrap()));
        let same = SCORES.iter().zip(&found).all(|(then, now)| (then.1 - now.1).abs() < 1e-3);
        assert!(same, "{found:?} instead of {SCORES:?}");
    }

    #[test]
    fn absent_where_there_are_fewer_than_six_scales() {
        for (height, width) in [(112, 300), (300, 112), (64, 64), (7, 9)] {
            let absent = score(pair(height, width, 4)).unwrap_err();
            assert_eq!(absent.0, "images under 113 px a side", "{height}×{width}");
        }
        // The sixth scale exists once the fifth has 8 pixels a side.
        assert_eq!((0..4).fold(LEAST_SIDE, |side, _| (side + 1) / 2), 8);
        assert_eq!((0..4).fold(LEAST_SIDE - 1, |side, _| (side + 1) / 2), 7);
    }
}
