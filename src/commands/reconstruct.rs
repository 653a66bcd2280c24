//! `pixtok reconstruct`: passes images through the tokenizer.

use std::env;

use anyhow::Result;

use super::options::chosen;
use super::{print, tell};
use crate::cli::ReconstructArgs;
use crate::inference::{ReconstructOptions, reconstruct};
use crate::world::World;

/// Writes a PNG for each image, and the sheet if asked for. The processes of a launcher share the
/// images.
pub(super) fn run(args: ReconstructArgs) -> Result<()> {
    let ReconstructArgs { tokenizer, positions, model, input, out, naming, sheet } = args;
    let (choice, compute) = chosen(model, positions);
    let options =
        ReconstructOptions { tokenizer, choice, compute, input, out, names: naming.names.into(), sheet };
    print(&reconstruct(&options, &World::apart(|name| env::var(name).ok())?, tell())?)
}
