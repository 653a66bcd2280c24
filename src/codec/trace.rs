//! pixtok's own tokenizer as a TorchScript pair, for use with PyTorch but without pixtok.
//!
//! A trace is the list of libtorch's operations on one example. It works for any number and size of
//! images as long as nothing in it came from a size or from outside libtorch; see [`Tokenizer`].

use tch::{CModule, Kind, Tensor};

use super::CodecError;
use crate::model::{ImageSize, Tokenizer, size_of};
use crate::quantizer::Mode;
use pixtok_base::seed::Seed;
use pixtok_torch::{Precision, TorchError, abandon_trace, catching, no_grad, with_precision};

/// A latent has no certain code if a move by this share of the largest latent takes it to a
/// different code.
const TIE: f64 = 1e-5;

/// The number of directions in which a latent is moved to find out whether it lies at an edge.
const DIRECTIONS: u64 = 32;

/// Traces the encoder and the quantizer in float32. The weights must not require gradients.
///
/// # Shapes
/// The module: images `[B, 3, H, W]` float32 in [−1, 1] -> indices `[B, h, w]` or, of a sequence,
/// `[B, N]` int64 (one axis more for several codebooks). `image_size` is that of the example.
///
/// # Errors
/// [`TorchError`], also where weights want gradients; when the encoder takes no such images.
pub fn encoder(tokenizer: &Tokenizer, image_size: ImageSize) -> Result<CModule, CodecError> {
    let shape = tokenizer.shape(image_size)?;
    let module = traced("Encoder", &example(tokenizer, image_size), |images| {
        let indices = tokenizer.quantizer.quantize(&tokenizer.latents(images), Mode::Eval).indices;
        tokenizer.shaped(&indices, images, shape)
    });
    Ok(module?)
}

/// Traces the codes and the decoder in float32. The weights must not require gradients.
///
/// # Shapes
/// The module: indices in the form of [`encoder`], or the first tokens of a sequence that was
/// trained with tail drop -> images `[B, 3, H, W]` float32, about [−1, 1] and not clamped. It
/// raises no error for an index without a code, but uses the nearest code.
///
/// # Errors
/// As [`encoder`].
pub fn decoder(tokenizer: &Tokenizer, image_size: ImageSize) -> Result<CModule, CodecError> {
    let indices = catching(|| no_grad(|| tokenizer.encode(&example(tokenizer, image_size))))??;
    Ok(traced("Decoder", &indices, |indices| tokenizer.decode(indices, image_size))?)
}

/// A grey image.
fn example(tokenizer: &Tokenizer, ImageSize { height, width }: ImageSize) -> Tensor {
    Tensor::zeros([1, 3, i64::from(height), i64::from(width)], (Kind::Float, tokenizer.device()))
}

fn traced(name: &str, input: &Tensor, run: impl Fn(&Tensor) -> Tensor) -> Result<CModule, TorchError> {
    let mut forward = |inputs: &[Tensor]| vec![run(&inputs[0])];
    let made = catching(|| {
        let trace = || CModule::create_by_tracing(name, "forward", &[input.shallow_clone()], &mut forward);
        no_grad(|| with_precision(Precision::Fp32, trace))
    });
    let made = made.and_then(|made| made.map_err(TorchError::from));
    if made.is_err() {
        abandon_trace();
    }
    let mut module = made?;
    module.set_eval();
    Ok(module)
}

/// The agreement of a traced pair with the tokenizer.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// The number of positions of all images.
    pub positions: i64,
    /// The number of positions whose indices differ because the latent lies so near to the edge
    /// between both codes that rounding decides: moving it by 10⁻⁵ of the largest latent gives the
    /// pair's index.
    pub ties: i64,
    /// The number of positions whose indices differ for no such reason.
    pub wrong: i64,
    /// The largest difference between the images of the same indices, as a share of the largest
    /// magnitude.
    pub image_difference: f64,
}

/// Passes `images` through the pair and through the tokenizer.
///
/// # Shapes
/// `images`: `[B, 3, H, W]` float32 in [−1, 1].
///
/// # Errors
/// [`TorchError`], also where the pair does not take or make these shapes; when the encoder takes
/// no such images.
pub fn compare(
    tokenizer: &Tokenizer,
    (encoder, decoder): (&CModule, &CModule),
    images: &Tensor,
) -> Result<Agreement, CodecError> {
    let shape = tokenizer.shape(size_of(images))?;
    let found: Result<Agreement, TorchError> = catching(|| {
        no_grad(|| {
            let latents = tokenizer.latents(images);
            let indices_of = |latents: &Tensor| {
                let indices = tokenizer.quantizer.quantize(latents, Mode::Eval).indices;
                tokenizer.shaped(&indices, images, shape)
            };
            let several = tokenizer.codebook().codebooks > 1;
            let own = indices_of(&latents);
            let theirs = encoder.forward_ts(&[images])?;
            let recon = tokenizer.decode(&own, size_of(images));
            let difference = (&recon - decoder.forward_ts(&[&own])?).abs().max() / recon.abs().max();
            let mut unexplained = differing(&theirs, &own, several);
            let positions = unexplained.numel() as i64;
            let differ = count(&unexplained);
            if differ > 0 {
                unexplained = without_ties(&latents, unexplained, |moved| {
                    differing(&indices_of(moved), &theirs, several)
                });
            }
            let wrong = count(&unexplained);
            let image_difference = difference.double_value(&[]);
            Ok(Agreement { positions, ties: differ - wrong, wrong, image_difference })
        })
    })?;
    Ok(found?)
}

/// Marks the positions whose indices differ in any codebook, of which there may be `several`.
fn differing(a: &Tensor, b: &Tensor, several: bool) -> Tensor {
    let differ = a.ne_tensor(b);
    if several { differ.any_dim(-1, false) } else { differ }
}

fn count(positions: &Tensor) -> i64 {
    positions.sum(Kind::Int64).int64_value(&[])
}

/// Keeps the `positions` that still differ, according to `differs`, after the latents are moved a
/// little in any direction. Every second direction crosses an edge, whatever the kind of quantizer.
fn without_ties(latents: &Tensor, positions: Tensor, differs: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let reach = latents.abs().max() * TIE;
    (0..DIRECTIONS).fold(positions, |left, direction| {
        pixtok_torch::reseed(Seed(direction).derive("ties", &[]));
        let moved = latents + (latents.rand_like() * 2.0 - 1.0) * &reach;
        left.logical_and(&differs(&moved))
    })
}
