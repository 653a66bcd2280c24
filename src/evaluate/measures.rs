//! Which qualities of images an evaluation measures.

use std::fmt;
use std::str::FromStr;

use crate::metrics::{ImageMetric, L1, MsSsim, Psnr, Ssim, Ssimulacra2};

/// A quality of images by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Peak signal-to-noise ratio.
    PsnrDb,
    /// Structural similarity.
    Ssim,
    /// The same over five scales.
    MsSsim,
    /// Mean absolute error.
    L1,
    /// SSIMULACRA 2.
    Ssimulacra2,
}

impl Metric {
    /// In the order of the tables.
    pub const ALL: [Self; 5] = [Self::PsnrDb, Self::Ssim, Self::MsSsim, Self::L1, Self::Ssimulacra2];

    /// As in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PsnrDb => "psnr_db",
            Self::Ssim => "ssim",
            Self::MsSsim => "ms_ssim",
            Self::L1 => "l1",
            Self::Ssimulacra2 => "ssimulacra2",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|metric| metric.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("\"{text}\" is no metric; there are {names}")
        })
    }
}

/// What is measured.
#[derive(Default)]
pub struct Measures {
    /// Of each image.
    pub images: Vec<Box<dyn ImageMetric>>,
    /// What cannot be measured, and why.
    pub missing: Vec<(&'static str, String)>,
}

impl Measures {
    /// What costs next to nothing beside encoding and decoding: for evaluations while training.
    #[must_use]
    pub fn cheap() -> Self {
        Self { images: vec![Box::new(Psnr), Box::new(Ssim), Box::new(L1)], missing: vec![] }
    }

    /// These metrics.
    #[must_use]
    pub fn of(metrics: &[Metric]) -> Self {
        let image_metric = |metric: &Metric| -> Box<dyn ImageMetric> {
            match metric {
                Metric::PsnrDb => Box::new(Psnr),
                Metric::Ssim => Box::new(Ssim),
                Metric::MsSsim => Box::new(MsSsim),
                Metric::L1 => Box::new(L1),
                Metric::Ssimulacra2 => Box::new(Ssimulacra2),
            }
        };
        Self { images: metrics.iter().map(image_metric).collect(), missing: vec![] }
    }
}
