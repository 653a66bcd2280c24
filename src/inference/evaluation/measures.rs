//! Chooses the metrics of an evaluation and loads their networks.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::codec::prefix_of;
use crate::evaluate::{ENOUGH_FID_IMAGES, Measures, Metric, Networks};
use crate::pretrained::{Backbone, Inception, Lpips};
use crate::run::weights::{self, FOLDER};
use crate::run::{Found, Tell};
use pixtok_base::Misuse;
use pixtok_tokens::StatedPrefix;

/// The fewest images that have a covariance.
const LEAST_FID_IMAGES: usize = 2;

/// What is done with a prefix that a tokenizer does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbsentPrefix {
    /// It is an error.
    Refuse,
    /// It is left out and named, as in a comparison of tokenizers of several kinds.
    LeaveOut,
}

/// The options of what to measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureOptions {
    /// Metrics of the images; empty: all available ones.
    pub metrics: Vec<Metric>,
    /// Weights of LPIPS; empty: those in the folder of weights.
    pub lpips_weights: Vec<PathBuf>,
    /// Weights of the Inception network of rfid; absent: those in the folder of weights.
    pub fid_weights: Option<PathBuf>,
    /// Whether to measure how many tokens stay the same when the image changes a little.
    pub stability: bool,
    /// How many of the first tokens of an image to decode too, or of the stages of a residual
    /// quantizer; empty: only all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<u32>,
}

impl MeasureOptions {
    /// The measures on a set of `images`. If a metric was requested by name or by its weights and
    /// is not available, that is an error; a metric that is only part of the default is left out
    /// with the reason.
    ///
    /// # Errors
    /// [`Misuse`], and when weights cannot be read.
    pub fn measures(&self, images: usize, device: Device, tell: Tell) -> Result<Measures> {
        let wanted = self.wanted();
        let mut networks = Networks::default();
        for path in self.lpips_files()? {
            let lpips = Lpips::load(&path, device)?;
            if networks.lpips.iter().any(|other: &Lpips| other.backbone() == lpips.backbone()) {
                let path = path.display();
                return Err(
                    Misuse(format!("{path} has the weights of a network that is given already")).into()
                );
            }
            networks.lpips.push(lpips);
        }
        if images >= LEAST_FID_IMAGES {
            let path = self.fid_file()?;
            networks.inception = path.map(|path| Inception::load(&path, device)).transpose()?;
        } else if self.metrics.contains(&Metric::Rfid) || self.fid_weights.is_some() {
            return Err(Misuse(format!(
                "rfid compares distributions and needs {LEAST_FID_IMAGES} images or more, and there is {images}; give more, or \
                 leave rfid out"
            ))
            .into());
        }
        let mut measures = Measures::of(&wanted, networks);
        for (name, reason) in &mut measures.missing {
            if *name == Metric::Rfid.name() && images < LEAST_FID_IMAGES {
                *reason = format!("it needs {LEAST_FID_IMAGES} images or more");
            }
            if self.metrics.iter().any(|metric| metric.name() == *name) {
                return Err(Misuse(format!(
                    "{name} was asked for and has {reason}, or a folder that {FOLDER} names (see docs/evaluation.md)"
                ))
                .into());
            }
        }
        if measures.inception.is_some() && images < ENOUGH_FID_IMAGES {
            tell.say(&format!(
                "rfid of {images} images is biased upwards: compare it only with that of as many images, or give \
                 {ENOUGH_FID_IMAGES} and more"
            ));
        }
        Ok(measures)
    }

    /// The requested prefixes that this tokenizer has, ascending, without the prefix of all tokens,
    /// which is measured anyway.
    ///
    /// # Errors
    /// [`Misuse`] for a prefix that the tokenizer does not have, if `absent` refuses it.
    pub(super) fn prefixes_of(&self, found: &Found, absent: AbsentPrefix, tell: Tell) -> Result<Vec<u32>> {
        let codec = match found {
            Found::Tokenizer(opened) => Some(opened.codec()),
            Found::Reconstructions(_) => None,
        };
        let mut lengths = vec![];
        for &length in &self.prefixes {
            let whole = match &codec {
                Some(codec) => prefix_of(&**codec, length).map_err(anyhow::Error::from),
                None => Err(Misuse(format!(
                    "--prefix {length} is of tokens, and a folder of reconstructions has none; leave it out"
                ))
                .into()),
            };
            match (whole, absent) {
                (Ok(StatedPrefix { of, .. }), _) => lengths.extend((length < of).then_some(length)),
                (Err(error), AbsentPrefix::LeaveOut) => tell.say(&format!("left out: {error}")),
                (Err(error), AbsentPrefix::Refuse) => return Err(error),
            }
        }
        lengths.sort_unstable();
        lengths.dedup();
        Ok(lengths)
    }

    /// Checks that no metric is requested by name that needs images larger than this (height,
    /// width).
    ///
    /// # Errors
    /// [`Misuse`] with both sizes.
    pub fn check_size(&self, (height, width): (i64, i64)) -> Result<()> {
        let side = height.min(width);
        let Some(metric) = self.metrics.iter().find(|metric| side < metric.least_side()) else {
            return Ok(());
        };
        let least = metric.least_side();
        Err(Misuse(format!(
            "--metrics has {metric}, which needs images of {least} pixels a side or more, and these are \
             prepared at {height}×{width}; leave it out, or prepare larger ones"
        ))
        .into())
    }

    /// The weight files that the measurement uses.
    ///
    /// # Errors
    /// [`Misuse`] when a given file belongs to no requested metric.
    pub fn weight_files(&self) -> Result<Vec<PathBuf>> {
        Ok(self.lpips_files()?.into_iter().chain(self.fid_file()?).collect())
    }

    /// The requested metrics without repetitions.
    fn wanted(&self) -> Vec<Metric> {
        let mut wanted = if self.metrics.is_empty() { Metric::ALL.to_vec() } else { self.metrics.clone() };
        let mut seen = vec![];
        wanted.retain(|metric| {
            !seen.contains(metric) && {
                seen.push(*metric);
                true
            }
        });
        wanted
    }

    /// Whether a requested metric needs weights of LPIPS.
    #[must_use]
    pub fn wants_lpips(&self) -> bool {
        [Metric::LpipsAlex, Metric::LpipsVgg].iter().any(|metric| self.wanted().contains(metric))
    }

    fn lpips_files(&self) -> Result<Vec<PathBuf>> {
        let lpips = [Metric::LpipsAlex, Metric::LpipsVgg].map(|metric| self.found(metric));
        if self.lpips_weights.is_empty() {
            return lpips.into_iter().filter_map(Result::transpose).collect();
        }
        unused("--lpips-weights", self.wants_lpips())?;
        Ok(self.lpips_weights.clone())
    }

    fn fid_file(&self) -> Result<Option<PathBuf>> {
        let Some(given) = &self.fid_weights else { return self.found(Metric::Rfid) };
        unused("--fid-weights", self.wanted().contains(&Metric::Rfid))?;
        Ok(Some(given.clone()))
    }

    /// The file of a requested metric in the folder of weights, if it exists.
    fn found(&self, metric: Metric) -> Result<Option<PathBuf>> {
        let file = match metric {
            Metric::LpipsAlex => weights::lpips_file(Backbone::Alex),
            Metric::LpipsVgg => weights::lpips_file(Backbone::Vgg),
            Metric::Rfid => weights::INCEPTION_FILE,
            _ => return Ok(None),
        };
        if self.wanted().contains(&metric) { weights::in_folder(file) } else { Ok(None) }
    }
}

/// Refuses weights that no requested metric uses.
fn unused(flag: &str, wanted: bool) -> Result<()> {
    if wanted {
        return Ok(());
    }
    Err(Misuse(format!("{flag} is given and --metrics has no metric for it; leave one of them out")).into())
}
