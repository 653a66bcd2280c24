//! Batches of originals with their reconstructions.

use std::sync::Arc;
use std::time::Instant;

use tch::{Device, Tensor};

use super::pairs::Pairs;
use super::{EvaluateError, stability};
use crate::batches::Loader;
use crate::codec::{Codec, CodecError, Vocabulary, first_of};
use crate::model::size_of;
use pixtok_images::data::{BadSample, Dataset, Marks};
use pixtok_tokens::StatedPrefix;
use pixtok_torch::{synchronize, to_device_async};

/// The subject of an evaluation.
pub enum Subject<'a> {
    /// A tokenizer that reconstructs images.
    Codec {
        /// The tokenizer.
        codec: &'a dyn Codec,
        /// The images.
        loader: Loader,
        /// Whether to compare the tokens with those of changed images. This takes four more
        /// encodings per batch.
        stability: bool,
    },
    /// Reconstructions that exist already.
    Pairs(Pairs),
}

/// A batch of images with its reconstructions and tokens.
#[derive(Debug)]
pub struct Passed {
    /// The indices of the B images in their data set.
    pub image_indices: Vec<usize>,
    /// The names of the B images.
    pub names: Vec<String>,
    /// Originals and reconstructions, each `[B, 3, H, W]` uint8; `None` if B is 0.
    pub images: Option<(Tensor, Tensor)>,
    /// The tokens, if a tokenizer made the reconstructions.
    pub tokens: Option<Tokens>,
    /// Images that were left out since the previous batch.
    pub bad: Vec<BadSample>,
    /// Counts of the files of this batch, or of several batches that become ready together.
    pub files: Files,
}

impl Passed {
    /// Images that were left out, and no other.
    pub(super) fn without_images(bad: Vec<BadSample>, files: Files) -> Self {
        Self { image_indices: vec![], names: vec![], images: None, tokens: None, bad, files }
    }
}

/// Counts of files with properties that the notes mention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// Originals with pixels that show the background.
    pub transparent_originals: usize,
    /// Originals that were enlarged to the image size.
    pub enlarged_originals: usize,
    /// Reconstructions with pixels that show the background.
    pub transparent_reconstructions: usize,
    /// Reconstructions in a lossy format or with a palette.
    pub lossy_reconstructions: usize,
}

impl Files {
    pub(super) fn of_originals(marks: Marks) -> Self {
        let Marks { transparent: transparent_originals, enlarged: enlarged_originals } = marks;
        Self { transparent_originals, enlarged_originals, ..Self::default() }
    }

    /// The counts as an array, and back.
    pub(super) fn to_array(self) -> [f64; 4] {
        [
            self.transparent_originals,
            self.enlarged_originals,
            self.transparent_reconstructions,
            self.lossy_reconstructions,
        ]
        .map(|count| count as f64)
    }

    pub(super) fn from_array(counts: [f64; 4]) -> Self {
        let [transparent_originals, enlarged_originals, transparent_reconstructions, lossy_reconstructions] =
            counts.map(|count| count as usize);
        Self { transparent_originals, enlarged_originals, transparent_reconstructions, lossy_reconstructions }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.transparent_originals += other.transparent_originals;
        self.enlarged_originals += other.enlarged_originals;
        self.transparent_reconstructions += other.transparent_reconstructions;
        self.lossy_reconstructions += other.lossy_reconstructions;
    }
}

/// The tokens of a batch, and the time it took.
#[derive(Debug)]
pub struct Tokens {
    /// In the tokens' own shape, int64, with an axis more for several codebooks.
    pub indices: Tensor,
    /// Seconds for encoding the batch.
    pub encode_secs: f64,
    /// Seconds for decoding the batch.
    pub decode_secs: f64,
    /// Unchanged tokens for each change, when asked for.
    pub unchanged: Option<[Option<i64>; 4]>,
    /// The reconstructions from each prefix of the tokens that is measured, `[B, 3, H, W]` uint8.
    pub prefixes: Vec<Tensor>,
}

impl<'a> Subject<'a> {
    /// The number and size of the codebooks, if the subject has tokens.
    #[must_use]
    pub fn vocabulary(&self) -> Option<Vocabulary> {
        match self {
            Self::Codec { codec, .. } => Some(codec.vocabulary()),
            Self::Pairs(_) => None,
        }
    }

    /// What can be left out when an image is decoded, tokens or codebooks, and how many there are;
    /// `None` if only all of them decode.
    pub(super) fn prefixes(&self) -> Option<StatedPrefix> {
        match self {
            Self::Codec { codec, .. } => codec.prefixes(),
            Self::Pairs(_) => None,
        }
    }

    /// The data set of the images.
    pub(super) fn dataset(&self) -> &Arc<Dataset> {
        match self {
            Self::Codec { loader, .. } => loader.dataset(),
            Self::Pairs(pairs) => pairs.dataset(),
        }
    }

    /// One batch after the other, decoded from all tokens and from these `prefixes` of them.
    pub(super) fn passes(
        self,
        device: Device,
        prefixes: Vec<u32>,
    ) -> Box<dyn Iterator<Item = Result<Passed, EvaluateError>> + 'a> {
        match self {
            Self::Pairs(pairs) => Box::new(pairs),
            Self::Codec { codec, loader, stability } => Box::new(loader.map(move |batch| {
                let batch = batch?;
                let files = Files::of_originals(batch.marks);
                if batch.names.is_empty() {
                    return Ok(Passed::without_images(batch.bad, files));
                }
                let originals = to_device_async(&batch.images, device);
                let (recons, tokens) = pass(codec, &originals, stability, &prefixes, device)
                    .map_err(|error| error.of_batch(&batch.names[0]))?;
                Ok(Passed {
                    image_indices: batch.image_indices,
                    names: batch.names,
                    images: Some((originals, recons)),
                    tokens: Some(tokens),
                    bad: batch.bad,
                    files,
                })
            })),
        }
    }
}

/// Encodes and decodes a batch: `[B, 3, H, W]` uint8 -> the same shape and type.
fn pass(
    codec: &dyn Codec,
    originals: &Tensor,
    stability: bool,
    prefixes: &[u32],
    device: Device,
) -> Result<(Tensor, Tokens), EvaluateError> {
    let (indices, encode_secs) = timed(device, || codec.encode(originals))?;
    let (recons, decode_secs) = timed(device, || codec.decode(&indices, size_of(originals)))?;
    if recons.size() != originals.size() {
        return Err(CodecError::Disagrees(format!(
            "images {:?} came back as {:?}; use images whose sides are multiples of the downsampling factor",
            originals.size(),
            recons.size()
        ))
        .into());
    }
    let unchanged =
        if stability { Some(stability::unchanged(codec, originals, &recons, &indices)?) } else { None };
    let prefixes = match codec.prefixes() {
        Some(whole) => {
            let first = |&length: &u32| first_of(&indices, whole.axis, length);
            let images = prefixes.iter().map(|length| codec.decode(&first(length), size_of(originals)));
            images.collect::<Result<_, _>>()?
        }
        None => vec![],
    };
    Ok((recons, Tokens { indices, encode_secs, decode_secs, unchanged, prefixes }))
}

/// Runs `body` and returns the seconds until the device has finished its work.
///
/// # Errors
/// Those of `body`.
pub fn timed<T>(
    device: Device,
    body: impl FnOnce() -> Result<T, CodecError>,
) -> Result<(T, f64), CodecError> {
    synchronize(device);
    let began = Instant::now();
    let made = body()?;
    synchronize(device);
    Ok((made, began.elapsed().as_secs_f64()))
}
