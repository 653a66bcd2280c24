//! Checks whether a foreign pair always gives the same result for an image. A pair that was traced
//! in training mode does not: dropout is random, and batch normalisation mixes the images of a
//! batch.

use tch::{Kind, Tensor};

use super::{Codec, CodecError};
use crate::metrics::mean_psnr;
use crate::model::size_of;

/// Up to this share of the indices may differ. libtorch optimises a script after its first runs and
/// may then add in a different order, and the rounding moves a few latents to a different code.
const FEW: f64 = 0.01;
/// The least PSNR in decibels between two reconstructions of the same indices. Rounding moves an
/// 8-bit value by one level, and 50 dB is one level in two thirds of the values.
const SAME_DB: f64 = 50.0;
/// The least PSNR in decibels between reconstructions of one image in different batches. Such a
/// difference is invisible, and with neighbouring codes even many different indices do not exceed
/// it.
const ALIKE_DB: f64 = 40.0;
/// The remedy for training mode.
const REMEDY: &str = "call .eval() before torch.jit.trace";

/// Passes the images through a pair twice, and the first one in a different batch too. Returns a
/// note for each difference. `words` describe the images.
///
/// # Shapes
/// `images`: `[B, 3, H, W]` uint8.
///
/// # Errors
/// The same as [`Codec::encode`] and [`Codec::decode`].
pub(super) fn notes(pair: &dyn Codec, images: &Tensor, words: &str) -> Result<Vec<String>, CodecError> {
    let indices = pair.encode(images)?;
    let size = size_of(images);
    let made = pair.decode(&indices, size)?;
    let mut notes = vec![];
    let again = pair.encode(images)?;
    let changed = share_changed(&indices, &again);
    // If there are few indices, a single one that rounding moved exceeds the share, but its image
    // looks the same.
    if changed > FEW && mean_psnr(&made, &pair.decode(&again, size)?) < ALIKE_DB {
        notes.push(format!(
            "the encoder is random: {:.1} % of the indices of {words} differ from one encoding to the next; \
             if it was traced in training mode (dropout), {REMEDY}",
            100.0 * changed
        ));
    }
    let db = mean_psnr(&made, &pair.decode(&indices, size)?);
    if db < SAME_DB {
        notes.push(format!(
            "the decoder is random: on {words}, images of the same indices differ from one decoding to the \
             next ({db:.2} dB between both); if it was traced in training mode (dropout), {REMEDY}"
        ));
    }
    if notes.is_empty() {
        notes.extend(in_another_batch(pair, images, (&indices, &made), words)?);
    }
    Ok(notes)
}

/// A note if the result of the first image depends on the others in its batch.
fn in_another_batch(
    pair: &dyn Codec,
    images: &Tensor,
    (indices, made): (&Tensor, &Tensor),
    words: &str,
) -> Result<Option<String>, CodecError> {
    let first = images.narrow(0, 0, 1);
    if images.ne_tensor(&first).any().int64_value(&[]) == 1 {
        return beside_others(pair, &first, (indices, made), words);
    }
    // The images are equal, so a black one is added. A pair with a fixed number of images refuses
    // this, and its batches cannot differ.
    let both = Tensor::cat(&[&first, &first.zeros_like()], 0);
    let passed =
        pair.encode(&both).and_then(|indices| Ok((pair.decode(&indices, size_of(images))?, indices)));
    match passed {
        Ok((made, indices)) => beside_others(pair, &first, (&indices, &made), words),
        Err(error @ CodecError::Torch(_)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Compares the results of the `first` image in a batch, its `indices` and the decoded images
/// `made`, with the results in a batch of its copies.
fn beside_others(
    pair: &dyn Codec,
    first: &Tensor,
    (indices, made): (&Tensor, &Tensor),
    words: &str,
) -> Result<Option<String>, CodecError> {
    let count = indices.size()[0];
    let copies = |row: &Tensor| row.repeat_interleave_self_int(count, 0, None);
    let row = |batch: &Tensor| batch.narrow(0, 0, 1);
    // Decoded in a batch of copies, so that an image does not depend on other images' indices.
    let decoded =
        |indices: &Tensor| Ok::<_, CodecError>(row(&pair.decode(&copies(indices), size_of(first))?));
    let beside = row(indices);
    let among_copies = row(&pair.encode(&copies(first))?);
    let image = decoded(&beside)?;
    let changed = share_changed(&beside, &among_copies);
    if changed > FEW {
        let db = mean_psnr(&image, &decoded(&among_copies)?);
        if db < ALIKE_DB {
            return Ok(Some(format!(
                "an image's indices depend on the other images of its batch: on {words}, {:.1} % of the \
                 first one's differ in a batch of its copies ({db:.2} dB between both reconstructions); if \
                 the encoder was traced in training mode (batch normalisation), {REMEDY}",
                100.0 * changed
            )));
        }
    }
    let db = mean_psnr(&image, &row(made));
    Ok((db < ALIKE_DB).then(|| {
        format!(
            "a reconstruction depends on the other images of its batch: on {words}, the first one differs in \
             a batch of copies ({db:.2} dB between both); if the decoder was traced in training mode (batch \
             normalisation), {REMEDY}"
        )
    }))
}

/// The share of the indices that differ.
fn share_changed(a: &Tensor, b: &Tensor) -> f64 {
    a.ne_tensor(b).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}
