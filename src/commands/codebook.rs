//! `pixtok codebook`: writes the codes of a tokenizer as one table, for other programs.

use anyhow::Result;

use super::{print, tell};
use crate::cli::CodebookArgs;
use crate::inference::{CodebookOptions, write_codebook};

/// Looks up all codes and writes them.
pub(super) fn run(args: CodebookArgs) -> Result<()> {
    let CodebookArgs { tokenizer, model, out } = args;
    let (choice, compute) = model.into();
    print(&write_codebook(&CodebookOptions { tokenizer, choice, compute, out }, tell())?)
}
