//! `pixtok decode`: decodes token files, and ids that a model generated, to images.

use anyhow::Result;

use super::{launched, print, tell};
use crate::cli::DecodeArgs;
use crate::export::{DecodeOptions, decode};
use crate::run::WeightsChoice;

/// Writes the images of the rows.
pub(super) fn run(args: DecodeArgs) -> Result<()> {
    if let Some((launcher, 0, size)) = launched() {
        tell().say(&format!(
            "{launcher} started {size} processes, and each decodes all tokens that it is given; start one \
             process, or give each its own --tokens and --out"
        ));
    }
    let DecodeArgs { checkpoint, weights, precision, positions, .. } = args;
    let options = DecodeOptions {
        tokenizer: args.tokenizer,
        choice: WeightsChoice { checkpoint, weights, precision, positions },
        compute: args.compute.into(),
        tokens: args.tokens,
        like: args.like,
        skip_bad: args.skip_bad,
        out: args.out,
        sheets: args.sheets,
        limit: args.limit,
        batch_size: args.batch_size,
        force: args.force,
    };
    let written = decode(&options, tell())?;
    print(&format!("{written} image(s) in {}\n", options.out.display()))
}
