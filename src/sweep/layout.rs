//! What lies where in the folder of a comparison.
//!
//! ```text
//! OUT/
//!   protocol.toml              the base config: images, preparation and budget of all arms
//!   arms/NAME/seed-0.toml      the config of a training
//!   arms/NAME/seed-0.log       what the training and the evaluation said
//!   arms/NAME/seed-0/          its run folder
//!     diverged.json            if its training ended by numbers that are not finite
//!   arms/NAME/seed-0/evaluation/
//!     figures.json  per_image.csv  code_counts.csv  originals/  reconstructions/
//!     done.json                written last
//!   speeds.json  speeds.log    the speeds of all arms, measured in turn at the end
//!   results.json  results.csv  results.md  results.tex  summary.csv  report.html
//!   pictures.png               originals above the reconstructions of each arm
//!   plots/NAME.svg             the plots of the page
//! ```
//!
//! An arm that was there already has `arms/NAME/existing/evaluation/`.

use std::path::{Path, PathBuf};

/// The paths in a comparison's folder.
pub(super) struct Layout {
    out: PathBuf,
}

impl Layout {
    pub fn new(out: PathBuf) -> Self {
        Self { out }
    }

    pub fn out(&self) -> &Path {
        &self.out
    }

    pub fn protocol(&self) -> PathBuf {
        self.out.join("protocol.toml")
    }

    /// The speeds of all arms.
    pub fn speeds(&self) -> PathBuf {
        self.out.join("speeds.json")
    }

    /// The folder of the plots.
    pub fn plots(&self) -> PathBuf {
        self.out.join("plots")
    }

    /// The run folder of an arm and a seed; without a seed, the folder of its evaluation.
    pub fn run(&self, arm: &str, seed: Option<u64>) -> PathBuf {
        let name = seed.map_or_else(|| "existing".to_owned(), |seed| format!("seed-{seed}"));
        self.out.join("arms").join(arm).join(name)
    }
}

/// The path of an arm's file or folder for messages. It is the same in every comparison's folder.
pub(super) fn place(path: &Path) -> String {
    let last: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    format!("arms/{}/{}", last[1], last[0])
}

/// The file with the figures of a run folder's evaluation.
pub(super) fn figures(run: &Path) -> PathBuf {
    evaluation(run).join("figures.json")
}

/// The folder of the evaluation of a run folder.
pub(super) fn evaluation(run: &Path) -> PathBuf {
    run.join("evaluation")
}
