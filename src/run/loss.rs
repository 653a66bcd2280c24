//! The loss of a training, and the weights of the network that some losses use.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::Device;

use super::training::absolute;
use super::weights;
use crate::loss::{self, Loss};
use crate::pretrained::Lpips;
use crate::tasks::tokenizer::LossWeights;
use pixtok_base::Misuse;

/// The path of the weights of the loss's network, if the loss uses one.
pub(super) fn loss_weights(config: &loss::Config, given: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(network) = config.needed_network() else {
        if let Some(given) = given {
            return Err(Misuse(format!(
                "--lpips-weights is {}, and no term of [loss] needs weights; leave it out, or set loss.lpips",
                given.display()
            ))
            .into());
        }
        return Ok(None);
    };
    let file = weights::lpips_file(network);
    let found = match given {
        Some(given) => Some(given.to_owned()),
        None => weights::in_folder(file)?,
    };
    let keys = config.network_keys();
    let path = found.ok_or_else(|| {
        Misuse(format!(
            "{keys} needs the weights of LPIPS with {network}: make {file} of the published files with \
             scripts/convert_weights.py (docs/evaluation.md says how), and name it with --lpips-weights or its folder in {}; \
             or train without, with {keys} = 0",
            weights::FOLDER
        ))
    })?;
    Ok(Some(path))
}

/// The file with the weights of the loss's network, if it uses one: the file of `given` that
/// belongs to this network, or else the file in the folder of weights.
///
/// # Errors
/// When there is no such file, or a file of `given` cannot be read.
pub fn loss_weights_among(given: &[PathBuf], config: &loss::Config) -> Result<Option<PathBuf>> {
    let Some(network) = config.needed_network() else { return Ok(None) };
    for path in given {
        if Lpips::load(path, Device::Cpu)?.backbone() == network {
            return loss_weights(config, Some(path));
        }
    }
    loss_weights(config, None)
}

/// Builds the loss and its network from the weights at `path`. Also returns what a run records
/// about the weights.
pub(super) fn loss(
    config: &loss::Config,
    path: Option<PathBuf>,
    device: Device,
) -> Result<(Loss, Option<LossWeights>)> {
    let (Some(network), Some(path)) = (config.needed_network(), path) else {
        return Ok((Loss::new(config.clone(), None)?, None));
    };
    let lpips = Lpips::load(&path, device)?;
    if lpips.backbone() != network {
        return Err(Misuse(format!(
            "{} has the weights of LPIPS with {}, and loss.network is that with {network}; give {}, or set loss.network",
            path.display(),
            lpips.backbone(),
            weights::lpips_file(network)
        ))
        .into());
    }
    let blake3 = weights::hash(&path)?;
    let noted = LossWeights { file: absolute(&path), blake3 };
    Ok((Loss::new(config.clone(), Some(lpips))?, Some(noted)))
}
