//! `pixtok decode`: decodes token files to images.

use anyhow::Result;

use super::{print, tell};
use crate::cli::DecodeArgs;
use crate::export::{DecodeOptions, decode};

/// Writes the images of the rows.
pub(super) fn run(args: DecodeArgs) -> Result<()> {
    let DecodeArgs { tokenizer, model, tokens, out, sheets, limit, batch_size, force } = args;
    let (choice, compute) = model.into();
    let options = DecodeOptions { tokenizer, choice, compute, tokens, out, sheets, limit, batch_size, force };
    let written = decode(&options, tell())?;
    print(&format!("{written} image(s) in {}\n", options.out.display()))
}
