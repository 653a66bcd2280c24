//! The only evaluation loop. The trainer and `pixtok eval` both call it.
//!
//! `chosen` selects the images that are shown as pictures. `passes` yields batches of originals and
//! reconstructions, from a tokenizer or from `pairs` of folders, in which `reconstructions` matches
//! files by name. `measures` selects the metrics.
//! `scores` holds the values of each image, and `per_image` writes them as a table; `sums` and
//! `features` accumulate over batches. `prefixes` has the figures by the number of decoded tokens.
//! `together` joins the shares of several processes. `figures` holds the results. `mixups` checks
//! whether channels or pixels are in the wrong place.

mod chosen;
mod features;
mod figures;
mod measures;
mod mixups;
mod pairs;
mod passes;
mod per_image;
mod prefixes;
mod reconstructions;
mod scores;
mod stability;
mod sums;
mod together;

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::Device;

pub use crate::metrics::Metric;
pub use chosen::{check_samples, chosen};
pub use features::ENOUGH_IMAGES as ENOUGH_FID_IMAGES;
pub use figures::Figures;
pub use measures::{Measures, Networks};
pub use pairs::Pairs;
pub use passes::{Files, Passed, Subject, Tokens, timed};
pub use prefixes::Curve;
pub use reconstructions::Reconstructions;
pub use scores::{Column, Extremes, Scores};
pub use together::together;

use crate::batches::picture_of;
use crate::codec::{CodecError, Vocabulary};
use crate::metrics::CodebookFigures;
use crate::world::{World, WorldError};
use features::Features;
use mixups::Mixups;
use pixtok_base::{Class, Classified};
use pixtok_images::data::{BadSample, DataError};
use pixtok_images::picture::{Picture, PictureError};
use pixtok_torch::TorchError;
use sums::Sums;
use together::{Found, Shown};

/// The settings of all evaluations of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Images per batch.
    pub batch_size: usize,
    /// The largest number of images, spread evenly over the validation set; 0 means all.
    pub max_images: usize,
    /// The names of the images on the sample sheets; empty: some images with much detail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch_size: 32, max_images: 0, samples: vec![] }
    }
}

impl Config {
    /// The number of images that are evaluated, out of `total`.
    #[must_use]
    pub fn images_of(&self, total: usize) -> usize {
        self.bound().unwrap_or(total).min(total)
    }

    /// The bound `max_images`; `None` if there is no bound.
    #[must_use]
    pub fn bound(&self) -> Option<usize> {
        Some(self.max_images).filter(|&max| max > 0)
    }
}

/// The reason why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Reading the images failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No image could be read.
    #[error("no image to evaluate: {0}")]
    NoImages(String),
    /// An image that is to be shown is not evaluated.
    #[error(
        "{missing} is not among the {total} images that are evaluated, whose names are like {example}; \
         correct the list of images to show (eval.samples, or --images of pixtok compare)"
    )]
    Chosen {
        /// The name that was given.
        missing: String,
        /// The number of evaluated images.
        total: usize,
        /// The name of one of them.
        example: String,
    },
    /// Originals and reconstructions do not match.
    #[error("{0}")]
    Pairs(String),
    /// The tokenizer failed on a batch.
    #[error("the batch of {first}")]
    Codec {
        /// The first image of the batch.
        first: String,
        /// The tokenizer's error.
        source: CodecError,
    },
    /// The tokenizer failed outside a batch.
    #[error(transparent)]
    Bare(#[from] CodecError),
    /// libtorch failed, for example because memory ran out.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// A picture of a reconstruction could not be made.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Tokens could not be compressed.
    #[error("cannot compress the tokens")]
    Compress(#[from] std::io::Error),
    /// The sums of several processes could not be added up.
    #[error(transparent)]
    World(#[from] WorldError),
    /// Another process could not evaluate its share.
    #[error("the evaluation failed in process {rank} of {size}; the message of that process says why")]
    Elsewhere {
        /// The rank of that process.
        rank: u32,
        /// How many there are.
        size: u32,
    },
    /// What a process sent to the others cannot be read.
    #[error("what a process sent to the others cannot be read")]
    Told(#[from] serde_json::Error),
}

impl Classified for EvaluateError {
    fn class(&self) -> Class {
        match self {
            Self::Data(error) => error.class(),
            Self::NoImages(_) => Class::BadData,
            Self::Pairs(_) | Self::Chosen { .. } => Class::Misuse,
            Self::Codec { source, .. } | Self::Bare(source) => source.class(),
            Self::Torch(error) => error.class(),
            Self::Picture(error) => error.class(),
            Self::Compress(_) | Self::Elsewhere { .. } | Self::Told(_) => Class::Failed,
            Self::World(error) => error.class(),
        }
    }
}

impl EvaluateError {
    /// Adds the batch in which the error occurred.
    fn of_batch(self, first: &str) -> Self {
        match self {
            Self::Bare(CodecError::Torch(error)) => Self::Torch(error),
            Self::Bare(source) => Self::Codec { first: first.to_owned(), source },
            other => other,
        }
    }
}

/// The result of an evaluation: figures, the values behind them, pictures, and the images that
/// could not be read. Everything is of the images of all processes, in the order of the data set,
/// and the same in each of them; only `mixups` are of this process's.
#[derive(Debug)]
pub struct Evaluation {
    /// The figures.
    pub figures: Figures,
    /// The codebook use, if there are tokens.
    pub codebook: Option<CodebookFigures>,
    /// The number and size of the codebooks, if there are tokens.
    pub vocabulary: Option<Vocabulary>,
    /// `(code, count)` for each code that occurs.
    pub counts: Vec<(i64, i64)>,
    /// The figures by the number of decoded tokens, if prefixes of them were measured.
    pub curve: Option<Curve>,
    /// The values of each image.
    pub scores: Scores,
    /// Some images as the model saw them, each with its name.
    pub originals: Vec<(String, Picture)>,
    /// The reconstructions of `originals`, in the same order.
    pub reconstructions: Vec<Picture>,
    /// Images that were left out.
    pub bad: Vec<BadSample>,
    /// Counts of files with properties that the notes mention.
    pub files: Files,
    /// One sentence for each thing that seems to be in the wrong place in another program's
    /// reconstructions.
    pub mixups: Vec<String>,
}

/// The options of an evaluation.
#[derive(Debug, Clone)]
pub struct Options {
    /// The device of the model.
    pub device: Device,
    /// The names of the images to keep as pictures.
    pub pictures: HashSet<String>,
    /// Whether another program made the reconstructions. Then their channels or pixels may be in
    /// the wrong place, and this is checked.
    pub foreign: bool,
    /// Who else evaluates a share of the images.
    pub world: World,
}

/// Evaluates all images of `subject` once, without gradients. Each of several processes evaluates a
/// share. They exchange their results only at the end, so their shares may differ in length.
///
/// # Errors
/// See [`EvaluateError`].
pub fn evaluate(
    subject: Subject,
    measures: &Measures,
    options: &Options,
) -> Result<Evaluation, EvaluateError> {
    evaluate_watched(subject, measures, options, &mut |_| ())
}

/// The same as [`evaluate`]; `watch` sees each batch before it is measured.
///
/// # Errors
/// See [`EvaluateError`].
pub fn evaluate_watched(
    subject: Subject,
    measures: &Measures,
    options: &Options,
    watch: &mut dyn FnMut(&Passed),
) -> Result<Evaluation, EvaluateError> {
    let (vocabulary, dataset) = (subject.vocabulary(), Arc::clone(subject.dataset()));
    let whole = subject.prefixes().filter(|_| !measures.prefixes.is_empty());
    let world = &options.world;
    let own = together(world, || Own::accumulate(subject, measures, options, watch))?;
    let Own { found, sums, features, mixups } = own;
    let Found { scores, shown, bad, files, .. } = found.of_all(&dataset, world)?;
    if scores.names.is_empty() {
        let reason = bad.first().map(|sample| format!("{}: {}", sample.name, sample.reason));
        return Err(EvaluateError::NoImages(reason.unwrap_or_else(|| "the set is empty".into())));
    }
    let mut tables = scores.apart(1 + measures.prefixes.len()).into_iter();
    let scores = tables.next().unwrap_or_default();
    let (mut figures, tokens) = sums.finish(&scores, measures, world)?;
    let (codebook, counts) = tokens.unzip();
    let mut of_prefixes: Vec<Figures> = tables.map(|table| table.means(measures.thorough)).collect();
    if let Some(features) = features {
        features.finish(&mut figures, &mut of_prefixes, world)?;
    }
    let figures = figures.in_order();
    let curve = whole.map(|whole| Curve::of(whole, &measures.prefixes, of_prefixes, &figures));
    let mixups = mixups.map(|mixups| mixups.notes()).unwrap_or_default();
    let (originals, reconstructions) = shown
        .into_iter()
        .map(|Shown { index, original, reconstruction }| {
            ((dataset.name(index).into_owned(), original), reconstruction)
        })
        .unzip();
    Ok(Evaluation {
        figures,
        codebook,
        vocabulary,
        counts: counts.unwrap_or_default(),
        curve,
        scores,
        originals,
        reconstructions,
        bad,
        files,
        mixups,
    })
}

/// What a process accumulates over the batches of its share.
struct Own<'a> {
    found: Found,
    sums: Sums,
    features: Option<Features<'a>>,
    mixups: Option<Mixups>,
}

impl<'a> Own<'a> {
    /// Evaluates the share of this process, and exchanges nothing with the others.
    fn accumulate(
        subject: Subject,
        measures: &'a Measures,
        options: &Options,
        watch: &mut dyn FnMut(&Passed),
    ) -> Result<Self, EvaluateError> {
        let mut sums = Sums::new(subject.vocabulary(), measures)?;
        let prefixes = measures.prefixes.len();
        // One for all tokens, and one for each prefix of them.
        let mut tables: Vec<Scores> = (0..=prefixes).map(|_| Scores::new(&measures.images)).collect();
        let mut features = measures.inception.as_ref().map(|inception| Features::new(inception, prefixes));
        let (mut image_indices, mut shown, mut bad) = (vec![], vec![], vec![]);
        let mut files = Files::default();
        let mut mixups = options.foreign.then(Mixups::new);
        for passed in subject.passes(options.device, measures.prefixes.clone()) {
            let passed = match passed {
                // Other processes may have good images.
                Err(EvaluateError::Data(DataError::NoGoodImages { bad, .. })) if options.world.size() > 1 => {
                    Passed::without_images(bad, Files::default())
                }
                passed => passed?,
            };
            watch(&passed);
            bad.extend(passed.bad);
            files.add(passed.files);
            let Some((images, recons)) = passed.images else { continue };
            for (i, (name, &index)) in passed.names.iter().zip(&passed.image_indices).enumerate() {
                if options.pictures.contains(name) {
                    let [original, reconstruction] =
                        [&images, &recons].map(|pictures| picture_of(&pictures.get(i as i64)));
                    shown.push(Shown { index, original: original?, reconstruction: reconstruction? });
                }
            }
            image_indices.extend(passed.image_indices);
            let of_prefixes = passed.tokens.iter().flat_map(|tokens| &tokens.prefixes);
            let all = || std::iter::once(&recons).chain(of_prefixes.clone());
            for (table, recons) in tables.iter_mut().zip(all()) {
                table.add(&measures.images, passed.names.clone(), &images, recons);
            }
            sums.add(&images, &recons, passed.tokens.as_ref())?;
            features.iter_mut().for_each(|features| features.add(&images, all()));
            mixups.iter_mut().for_each(|mixups| mixups.add(&images, &recons));
        }
        let scores = Scores::beside(tables);
        Ok(Self { found: Found { scores, image_indices, shown, bad, files }, sums, features, mixups })
    }
}
