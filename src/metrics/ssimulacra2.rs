//! SSIMULACRA 2, a perceptual score that needs no weights.

use ::ssimulacra2::{ColorPrimaries, Rgb, TransferCharacteristic, compute_frame_ssimulacra2};
use rayon::prelude::*;
use tch::{Device, Tensor};

use super::{Absent, ImageMetric};

/// What the crate accepts.
const LEAST_SIDE: i64 = 8;

/// SSIMULACRA 2 by the `ssimulacra2` crate, on the CPU: 100 for a perfect copy, no lower bound.
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

/// `[B, 3, H, W]` uint8 -> B sRGB frames with values in 0..1.
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
    use tch::Kind;

    use super::*;

    #[test]
    fn a_copy_scores_100_and_noise_less_the_more_there_is() {
        tch::manual_seed(0);
        let image = Tensor::arange(3 * 24 * 40, (Kind::Int, Device::Cpu)).remainder(251).view([1, 3, 24, 40]);
        let noisy = |levels: i64| {
            let noise = Tensor::randint(2 * levels + 1, [1, 3, 24, 40], (Kind::Int, Device::Cpu)) - levels;
            (&image + noise).clamp(0, 255).to_kind(Kind::Uint8)
        };
        let originals = image.to_kind(Kind::Uint8).repeat([3, 1, 1, 1]);
        let recons = Tensor::cat(&[noisy(0), noisy(4), noisy(30)], 0);
        let scores = Vec::<f64>::try_from(Ssimulacra2.measure(&originals, &recons).unwrap()).unwrap();
        assert!(
            (scores[0] - 100.0).abs() < 1e-6 && scores[0] > scores[1] && scores[1] > scores[2],
            "{scores:?}"
        );
    }

    #[test]
    fn absent_under_what_the_crate_accepts() {
        let image = Tensor::zeros([1, 3, 7, 9], (Kind::Uint8, Device::Cpu));
        assert_eq!(Ssimulacra2.measure(&image, &image).unwrap_err().0, "images under 8 px a side");
    }
}
