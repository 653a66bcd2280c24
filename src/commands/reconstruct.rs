//! `pixtok reconstruct`: passes images through the tokenizer.

use anyhow::Result;

use super::{print, tell};
use crate::cli::ReconstructArgs;
use crate::inference::{ReconstructOptions, reconstruct};

/// Writes a PNG for each image, and the sheet if asked for.
pub(super) fn run(args: ReconstructArgs) -> Result<()> {
    let ReconstructArgs { tokenizer, model, input, out, naming, sheet } = args;
    let (choice, compute) = model.into();
    let options =
        ReconstructOptions { tokenizer, choice, compute, input, out, names: naming.names.into(), sheet };
    print(&reconstruct(&options, tell())?)
}
