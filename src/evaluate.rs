//! The only evaluation loop: the trainer and `pixtok eval` both call it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::data::{BadSample, DataError, Loader};
use crate::metrics::{CodebookFigures, CodebookUse, JointFigures, JointUse, L1, Psnr, Ssim, to_8bit};
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

/// What an evaluation measures; the names are those of `pixtok eval --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Images evaluated.
    pub images: usize,
    /// Mean over images of the peak signal-to-noise ratio of 8-bit values, in dB.
    pub psnr_db: f64,
    /// Mean structural similarity; absent for images under 11 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssim: Option<f64>,
    /// Mean absolute error in 8-bit levels (0 to 255).
    pub l1: f64,
    /// Images reconstructed without any error, whose PSNR counts as 100 dB.
    pub perfect_images: i64,
    /// Codebooks whose codes make one token together.
    pub codebooks: i64,
    /// K, of each.
    pub codebook_size: i64,
    /// Of the codebook over all tokens.
    #[serde(flatten)]
    pub codebook: CodebookFigures,
    /// Of several codebooks together.
    #[serde(flatten)]
    pub joint: Option<JointFigures>,
    /// Bits of all tokens of an image over its pixels.
    pub bits_per_pixel: f64,
}

impl Figures {
    /// Every figure with its name, for the logs.
    #[must_use]
    pub fn named(&self) -> Vec<(String, f64)> {
        let mut named = vec![("psnr_db".to_owned(), self.psnr_db), ("l1".to_owned(), self.l1)];
        named.extend(self.codebook.named());
        named.push(("entropy_bits".to_owned(), self.codebook.entropy_bits));
        if let Some(joint) = &self.joint {
            named.push(("usage_joint".to_owned(), joint.usage_joint));
            named.push(("perplexity_joint".to_owned(), joint.perplexity_joint));
        }
        named.extend(self.ssim.map(|ssim| ("ssim".to_owned(), ssim)));
        named
    }

    /// A table for people, one figure a line.
    #[must_use]
    pub fn table(&self) -> String {
        let codebook = &self.codebook;
        let ssim = self.ssim.map_or_else(|| "absent: images under 11 px".into(), |ssim| format!("{ssim:.4}"));
        let list = |values: &[f64], digits: usize| {
            values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(" ")
        };
        let mut rows = vec![
            ("images", self.images.to_string(), String::new()),
            ("psnr_db", format!("{:.2}", self.psnr_db), "dB, 8-bit, mean over images".into()),
            ("ssim", ssim, "mean over images".into()),
            ("l1", format!("{:.2}", self.l1), "levels of 255".into()),
            ("tokens", codebook.tokens.to_string(), String::new()),
            ("codebook_size", self.codebook_size.to_string(), self.codebooks_meaning()),
            (
                "usage",
                format!("{:.4}", codebook.usage),
                format!("share of codes hit; {:.4} were they drawn evenly", codebook.usage_expected_uniform),
            ),
            ("perplexity", format!("{:.1}", codebook.perplexity), "codes in even use, 2^entropy_bits".into()),
            ("entropy_bits", format!("{:.3}", codebook.entropy_bits), "of a code".into()),
            ("dead_codes", codebook.dead_codes.to_string(), String::new()),
            ("largest_share", format!("{:.4}", codebook.largest_share), "of the most frequent code".into()),
            (
                "bits_per_token",
                format!("{:.3}", codebook.bits_per_token),
                "log2 K, summed over codebooks".into(),
            ),
            ("bits_per_pixel", format!("{:.4}", self.bits_per_pixel), String::new()),
        ];
        if let Some(joint) = &self.joint {
            rows.extend([
                ("usage_by_codebook", list(&codebook.usage_by_codebook, 4), String::new()),
                ("perplexity_by_codebook", list(&codebook.perplexity_by_codebook, 1), String::new()),
                (
                    "codes_joint",
                    joint.codes_joint.to_string(),
                    format!(
                        "different tuples: {:.2e} of all; {:.2e} were they drawn evenly",
                        joint.usage_joint, joint.usage_joint_expected_uniform
                    ),
                ),
                ("perplexity_joint", format!("{:.1}", joint.perplexity_joint), "tuples in even use".into()),
            ]);
        }
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        rows.iter().fold(String::new(), |mut table, (name, value, meaning)| {
            let _ = writeln!(table, "{}", format!("  {name:<width$} {value:>10}  {meaning}").trim_end());
            table
        })
    }

    fn codebooks_meaning(&self) -> String {
        match self.codebooks {
            1 => String::new(),
            several => format!("each of {several} codebooks; usage to entropy_bits are means over them"),
        }
    }
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
