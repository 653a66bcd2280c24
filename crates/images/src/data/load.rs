//! Loads one image from the data set into its place in a batch.

use super::transform::Transform;
use super::{Dataset, Marks};
use crate::picture::{DecodeOptions, Decoded};
use pixtok_base::seed::Seed;

/// Writes image `image` into `planes`, with random choices drawn from `seed`, and returns its
/// marks, or the reason why it is bad. The marks of images from the cache are unknown.
pub(super) fn load(
    dataset: &Dataset,
    image: usize,
    decode_options: &DecodeOptions,
    transform: &Transform,
    seed: Seed,
    planes: &mut [u8],
) -> Result<Marks, String> {
    let kept = dataset.kept(transform.form(), decode_options);
    if let Some(whole) = kept.and_then(|kept| kept.get(image)) {
        return transform.finish(whole, seed, planes).map(|()| Marks::default());
    }
    let picture = dataset.picture(image, decode_options)?;
    let marks = marks(&picture, transform);
    let Some(kept) = kept.filter(|_| transform.keeps(&picture)) else {
        return transform.apply(&picture, seed, planes).map(|()| marks);
    };
    // Images that do not fit take the same path, so an image does not depend on whether it was
    // kept.
    let whole = transform.whole(picture.release())?;
    kept.put(image, whole.view());
    transform.finish(whole.view(), seed, planes).map(|()| marks)
}

/// The same without the cache: for an image in the size of another bucket than its own, which is
/// the one that it is kept for.
pub(super) fn load_uncached(
    dataset: &Dataset,
    image: usize,
    decode_options: &DecodeOptions,
    transform: &Transform,
    seed: Seed,
    planes: &mut [u8],
) -> Result<Marks, String> {
    let picture = dataset.picture(image, decode_options)?;
    transform.apply(&picture, seed, planes).map(|()| marks(&picture, transform))
}

fn marks(picture: &Decoded, transform: &Transform) -> Marks {
    Marks { transparent: picture.traits().transparent.into(), enlarged: transform.enlarges(picture).into() }
}
