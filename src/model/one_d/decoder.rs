//! Decodes latents to images.

use tch::{Tensor, nn::Module};

use super::pixel_decoder::{CodeHead, PixelDecoder};
use super::plan::Plan;
use super::transformer::{Transformer, vectors};
use crate::layers::{Conv2d, Linear};
use crate::model::transformer::beside_latent;
use crate::model::{self, Decode, ImageSize, TokenShape};
use crate::variables::{Init, Scope};

/// The side of the convolution over the pixels.
const KERNEL: i64 = 3;
/// Grey, in TiTok's range of [0, 1].
const GREY: f64 = 0.5;

/// A transformer over latent tokens and one mask token for each patch. The patches in its result
/// become the image.
#[derive(Debug)]
pub(super) struct Decoder {
    /// From the latent's width to the transformer's.
    stem: Linear,
    mask_token: Tensor,
    transformer: Transformer,
    pixels: Pixels,
    patch: i64,
}

/// How patches become pixels.
#[derive(Debug)]
enum Pixels {
    /// By one linear layer to all pixels of a patch, then a convolution over the image.
    Linear { linear: Linear, head: Conv2d },
    /// By codes of a second codebook, then convolutions.
    Codes { codes: CodeHead, decoder: PixelDecoder },
}

impl Decoder {
    pub fn new(path: &Scope, plan: &Plan) -> Self {
        let (width, patch) = (plan.common.decoder.width, plan.settings.patch);
        let recompute = plan.settings.checkpoint_blocks;
        Self {
            stem: beside_latent(&(path / "stem"), plan.common.latent_channels, width),
            mask_token: vectors(path, "mask_token", 1, width),
            transformer: Transformer::new(path, plan, plan.common.decoder),
            pixels: match &plan.pixel_decoder {
                None => {
                    let linear = (path / "pixels").touching_pixels();
                    Pixels::Linear {
                        linear: Linear::new(&linear, width, patch * patch * 3),
                        head: head(&(path / "head").touching_pixels()),
                    }
                }
                Some(settings) => Pixels::Codes {
                    codes: CodeHead::new(&(path / "codes"), width, settings),
                    decoder: PixelDecoder::new(&(path / "pixels"), settings, recompute),
                },
            },
            patch,
        }
    }
}

/// A 3×3 convolution from pixels to pixels, whose bias starts at grey.
fn head(path: &Scope) -> Conv2d {
    let init = Init::fan_in(3 * KERNEL * KERNEL);
    Conv2d {
        weight: path.conv("weight", [3, 3, KERNEL, KERNEL], init),
        bias: Some(path.bias("bias", 3, Init::Gaussian { mean: GREY, deviation: 0.0 })),
        stride: 1,
        padding: KERNEL / 2,
    }
}

impl model::Decoder for Decoder {
    /// The weight of the convolution to pixels: `[3, C, 3, 3]`.
    fn last_layer(&self) -> &Tensor {
        match &self.pixels {
            Pixels::Linear { head, .. } => &head.weight,
            Pixels::Codes { decoder, .. } => decoder.last_layer(),
        }
    }

    fn forward(&self, z_q: &Tensor, _shape: TokenShape, image: ImageSize, _how: &Decode) -> Tensor {
        let [h, w] = [image.height, image.width].map(|pixels| i64::from(pixels) / self.patch);
        let latents = self.stem.forward(z_q);
        let of_each = latents.slice(1, 0, 1, 1).expand([-1, h * w, -1], false);
        let patches = self.mask_token.expand_as(&of_each);
        // A view of `of_each`, since a trace would keep the device of a new tensor.
        let places = of_each.select(2, 0).unflatten(1, [h, w]);
        let x = self.transformer.forward(&patches, &latents, &places);
        let x = self.transformer.norm_out(&x.slice(1, 1, 1 + h * w, 1));
        let images = match &self.pixels {
            Pixels::Linear { linear, head } => {
                // [B, h, w, y, x, c] -> [B, c, h, y, w, x].
                let pixels = linear.forward(&x).unflatten(2, [self.patch, self.patch, 3]);
                let pixels = pixels.unflatten(1, [h, w]).permute([0, 5, 1, 3, 2, 4]);
                head.forward(&pixels.flatten(4, 5).flatten(2, 3))
            }
            Pixels::Codes { codes, decoder } => {
                let codes = codes.forward(&x).unflatten(1, [h, w]).permute([0, 3, 1, 2]);
                decoder.forward(&codes)
            }
        };
        images * 2.0 - 1.0
    }
}
