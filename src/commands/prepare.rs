//! `pixtok prepare`: writes originals as the metrics see them, for other programs to reconstruct.

use anyhow::Result;

use super::{print, tell};
use crate::cli::{self, PrepareArgs};
use crate::inference::{OriginalFit, PrepareOptions, prepare};

/// Writes a PNG for each image.
pub(super) fn run(args: PrepareArgs) -> Result<()> {
    let PrepareArgs { recipe, data, pick, out, fit, naming } = args;
    let fit = match fit {
        cli::OriginalFit::Centre => OriginalFit::Centre,
        cli::OriginalFit::Whole => OriginalFit::Whole,
        cli::OriginalFit::Scaled => OriginalFit::Scaled,
    };
    let options = PrepareOptions { recipe, data, pick: pick.into(), out, fit, names: naming.names.into() };
    print(&prepare(&options, tell())?)
}
