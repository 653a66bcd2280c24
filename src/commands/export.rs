//! `pixtok export`: publishes a tokenizer as a folder that others can use, with or without pixtok.

use std::fmt::Write as _;

use anyhow::Result;
use indicatif::DecimalBytes;

use super::options::chosen;
use super::{print, tell};
use crate::cli::ExportArgs;
use crate::model::ImageSize;
use crate::run::{DECODER, ENCODER, Run};

/// Writes the folder and describes its content.
pub(super) fn run(args: ExportArgs) -> Result<()> {
    let ExportArgs { tokenizer, positions, model, out } = args;
    let (choice, compute) = chosen(model, positions);
    let exporting = tell().work("exporting", None);
    let published = Run::find(&tokenizer)?.publish(choice, &compute, &out, tell())?;
    drop(exporting);
    let mut text = format!("{}, {}, is now {}:\n", tokenizer.display(), published.weights, out.display());
    for (name, bytes) in published.files {
        let _ = writeln!(text, "  {name:<18} {:>10}", DecimalBytes(bytes).to_string());
    }
    let found = published.agreement;
    let ties = if found.ties > 0 { format!(" but for {} ties", found.ties) } else { String::new() };
    let _ = writeln!(
        text,
        "{ENCODER} and {DECODER} give the tokenizer's own {} tokens{ties} of grey and random images",
        found.positions
    );
    if let Some(ImageSize { height, width }) = published.only_size {
        let tokenizer = if published.modules_alone {
            "; the tokenizer takes others too, in pixtok and in pixtok_reader"
        } else {
            ", as the tokenizer does"
        };
        let _ = writeln!(text, "they take images of exactly {height}×{width} pixels{tokenizer}");
    }
    text += "before you publish it: set the license in README.md, and see which folders of images README.md and config.toml name\n";
    print(&text)
}
