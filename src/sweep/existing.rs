//! Checks whether an existing tokenizer can be evaluated.

use std::path::Path;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::codec::Codec;
use crate::config::Config;
use crate::evaluate::Reconstructions;
use crate::model::size_of;
use crate::run::{Found, ModelChoice, Opened, Tell};
use pixtok_base::Misuse;
use pixtok_images::data::Dataset;

/// Tries an existing tokenizer: passes images of the `protocol`'s size through it (through a
/// foreign pair, a full batch of the protocol). For a folder, looks for reconstructions of the
/// images of `dataset` that are evaluated. Returns the number of codes of each codebook, if it has
/// codebooks.
pub(super) fn try_out(
    path: &Path,
    dataset: Option<&Dataset>,
    protocol: &Config,
    device: Device,
    tell: Tell,
) -> Result<Option<i64>> {
    let (height, width) = protocol.image_size();
    let through = |codec: &dyn Codec| -> Result<Option<i64>> {
        let grey = Tensor::full([1, 3, height, width], 128, (Kind::Uint8, device));
        let recon = codec.decode(&codec.encode(&grey)?, size_of(&grey))?;
        if recon.size() != grey.size() {
            let size = recon.size();
            return Err(Misuse(format!(
                "it makes {}×{} pixels of this comparison's {height}×{width}; choose a data.image_size that suits it",
                size[2], size[3]
            ))
            .into());
        }
        Ok(Some(codec.vocabulary().size))
    };
    match Found::open(path, ModelChoice::default(), device, tell)? {
        Found::Tokenizer(Opened::Own(trained)) => through(&trained.codec()),
        Found::Tokenizer(Opened::Foreign(mut pair)) => {
            let batch_size = protocol.eval.batch_size;
            pair.try_on_ramp(batch_size, (height, width), batch_size, device)?;
            Ok(Some(pair.vocabulary().size))
        }
        Found::Reconstructions(folder) => {
            let bound = protocol.eval.bound();
            dataset.map(|dataset| Reconstructions::find(&folder, dataset, bound)).transpose()?;
            Ok(None)
        }
    }
}
