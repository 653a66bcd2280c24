//! The only evaluation loop: the trainer and `pixtok eval` both call it.

mod figures;

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

pub use figures::Figures;

use crate::data::{BadSample, DataError, Loader};
use crate::metrics::{CodebookUse, JointUse, L1, Psnr, Ssim, to_8bit};
use crate::model::{Tokenizer, images_from_bytes};
use crate::picture::{Picture, PictureError};
use crate::quantizer::{CodebookShape, Mode};
use crate::torch::{Precision, TorchError, catching, with_precision};

/// Settings of every evaluation of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Images per batch.
    pub batch_size: usize,
    /// At most this many images, spread evenly over the validation set; 0 is all.
    pub max_images: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch_size: 32, max_images: 0 }
    }
}

impl Config {
    /// How many of `total` images are evaluated.
    #[must_use]
    pub fn images_of(&self, total: usize) -> usize {
        self.bound().unwrap_or(total).min(total)
    }

    /// `max_images`, where 0 means no bound.
    #[must_use]
    pub fn bound(&self) -> Option<usize> {
        Some(self.max_images).filter(|&max| max > 0)
    }
}

/// Why an evaluation gave no figures.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Reading the images failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No image could be read.
    #[error("no image to evaluate: {0}")]
    NoImages(String),
    /// The model makes numbers that are not finite.
    #[error("the encoder's latents are not finite for a batch with {0}; these weights are of no use")]
    NotFinite(String),
    /// From libtorch, memory exhausted among others.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// A picture of the reconstructions could not be made.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// Figures, the use of each code, pictures, and the images that could not be read.
#[derive(Debug)]
pub struct Evaluation {
    /// The figures.
    pub figures: Figures,
    /// `(code, count)` for each code hit.
    pub counts: Vec<(i64, i64)>,
    /// Some images as the model saw them.
    pub originals: Vec<Picture>,
    /// Their reconstructions.
    pub reconstructions: Vec<Picture>,
    /// Images that were left out.
    pub bad: Vec<BadSample>,
}

/// How to evaluate.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Where the model is.
    pub device: Device,
    /// Of encoder and decoder.
    pub precision: Precision,
    /// How many pictures to keep, spread evenly over the images.
    pub pictures: usize,
    /// How many images there are to evaluate, unless some are bad.
    pub images: usize,
}

impl Options {
    /// Whether the image at this place is one of the pictures to keep.
    fn keeps(&self, place: usize) -> bool {
        let pictures = self.pictures.min(self.images);
        // The places p·images/pictures, rounded up, for p = 0, 1, …
        pictures > 0 && (place * pictures) % self.images < pictures
    }
}

/// The sums over batches.
struct Accumulators {
    psnr: Psnr,
    ssim: Ssim,
    l1: L1,
    codebook: CodebookUse,
    joint: Option<JointUse>,
    images: usize,
    pixels: i64,
}

/// Reconstructs every image of `loader` once, without gradient.
///
/// # Errors
/// See [`EvaluateError`].
pub fn evaluate(
    tokenizer: &Tokenizer,
    loader: Loader,
    options: Options,
) -> Result<Evaluation, EvaluateError> {
    let shape = tokenizer.codebook();
    let mut sums = Accumulators {
        psnr: Psnr::new(),
        ssim: Ssim::new(),
        l1: L1::new(),
        codebook: CodebookUse::new(shape.codebooks, shape.size),
        joint: (shape.codebooks > 1).then(|| JointUse::new(shape.codebooks, shape.size)),
        images: 0,
        pixels: 0,
    };
    let (mut originals, mut reconstructions, mut bad) = (vec![], vec![], vec![]);
    for batch in loader {
        let batch = batch?;
        bad.extend(batch.bad);
        if batch.names.is_empty() {
            continue;
        }
        let bytes = batch.images.to_device(options.device);
        let (recon, indices, finite) = catching(|| reconstruct(tokenizer, &bytes, options.precision))?;
        if !finite {
            return Err(EvaluateError::NotFinite(batch.names[0].clone()));
        }
        sums.add(&bytes, &recon, &indices);
        let first = sums.images - batch.names.len();
        for i in (0..batch.names.len()).filter(|i| options.keeps(first + i)) {
            originals.push(Picture::from_tensor(&bytes.get(i as i64))?);
            reconstructions.push(Picture::from_tensor(&recon.get(i as i64))?);
        }
    }
    let counts = sums.codebook.counts();
    let figures = sums.figures(&shape).ok_or_else(|| {
        let reason = bad.first().map(|sample| format!("{}: {}", sample.name, sample.reason));
        EvaluateError::NoImages(reason.unwrap_or_else(|| "the set is empty".into()))
    })?;
    Ok(Evaluation { figures, counts, originals, reconstructions, bad })
}

/// `[B, 3, H, W]` bytes -> reconstruction in bytes, indices, and whether the latents are finite.
fn reconstruct(tokenizer: &Tokenizer, bytes: &Tensor, precision: Precision) -> (Tensor, Tensor, bool) {
    tch::no_grad(|| {
        let out = with_precision(precision, || tokenizer.forward(&images_from_bytes(bytes), Mode::Eval));
        let finite = out.latents.isfinite().all().int64_value(&[]) == 1;
        (to_8bit(&out.recon), out.quantized.indices, finite)
    })
}

impl Accumulators {
    fn add(&mut self, bytes: &Tensor, recon: &Tensor, indices: &Tensor) {
        tch::no_grad(|| {
            self.psnr.add(bytes, recon);
            self.ssim.add(bytes, recon);
            self.l1.add(bytes, recon);
            self.codebook.add(indices);
            self.joint.iter_mut().for_each(|joint| joint.add(indices));
        });
        let size = bytes.size();
        self.images += size[0] as usize;
        self.pixels += size[0] * size[2] * size[3];
    }

    /// `None` without images.
    fn figures(&self, shape: &CodebookShape) -> Option<Figures> {
        let codebook = self.codebook.figures();
        Some(Figures {
            images: self.images,
            psnr_db: self.psnr.value()?,
            ssim: self.ssim.value(),
            l1: self.l1.value()?,
            perfect_images: self.psnr.perfect(),
            codebooks: shape.codebooks,
            codebook_size: shape.size,
            joint: self.joint.as_ref().map(JointUse::figures),
            bits_per_pixel: codebook.bits_per_token * codebook.tokens as f64 / self.pixels as f64,
            codebook,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_spread_over_the_images() {
        let kept = |pictures, images| {
            let options = Options { device: Device::Cpu, precision: Precision::Fp32, pictures, images };
            (0..images).filter(|&place| options.keeps(place)).collect::<Vec<_>>()
        };
        assert_eq!(kept(3, 10), [0, 4, 7]);
        assert_eq!(kept(8, 129).len(), 8);
        assert_eq!(kept(8, 3), [0, 1, 2]);
        assert!(kept(0, 5).is_empty());
    }
}
