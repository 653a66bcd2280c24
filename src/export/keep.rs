//! Keeps the checkpoint that makes tokens, so that they can be decoded when its run has trained on.

use std::path::Path;

use anyhow::{Error, Result};

use crate::checkpoint::{self, RunFolder, Which};
use crate::run::{Opened, Tell};

/// Marks the checkpoint that `opened` is from, of the run at `tokenizer`, as the one that makes the
/// tokens in the folder `tokens`. Tells how to keep a copy if nothing can be written there. The mark
/// stays even if the encode fails later: whoever took it back could release the checkpoint while
/// another encode marks it.
///
/// # Errors
/// When the checkpoint was deleted since it was opened.
pub(super) fn keep(opened: &Opened, tokenizer: &Path, tokens: &Path, tell: Tell) -> Result<()> {
    // Nothing deletes the weights of model folders and of other programs.
    let Some((step, weights)) = opened.checkpoint() else { return Ok(()) };
    match RunFolder::open(tokenizer)?.keep(step, tokens) {
        Err(error @ checkpoint::Error::Gone { .. }) => Err(error.into()),
        Err(error) => {
            let (checkpoint, run) = (Which::Step(step), tokenizer.display());
            tell.say(&format!(
                "{checkpoint} of {run} cannot be marked as the tokenizer of these tokens ({}), so a training that goes on there \
                 may delete it; to keep a copy that decodes them: pixtok export {run} --checkpoint {checkpoint} --weights {} --out \
                 FOLDER",
                Error::from(error).root_cause(),
                weights.name()
            ));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
