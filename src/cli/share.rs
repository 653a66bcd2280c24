//! The commands that give a trained tokenizer away.

use std::path::PathBuf;

use clap::Args;

use super::ModelArgs;

pub(super) const EXPORT_HELP: &str = "\
Examples:
  pixtok export checkpoints/photos96-fsq --out photos96-fsq
  pixtok export checkpoints/photos96-fsq --checkpoint best --weights ema --out photos96-fsq

pixtok itself opens the folder as a run: pixtok eval photos96-fsq. The TorchScript modules are made on the
CPU, compared with the tokenizer on --device, and load on either.";

pub(super) const CODEBOOK_HELP: &str = "\
Examples:
  pixtok codebook checkpoints/photos96-vq --out codes.safetensors
  pixtok codebook checkpoints/photos96-fsq --out codes.npy";

/// Of `pixtok export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run folder that `pixtok train` wrote, or a folder with a config.toml and a model.safetensors
    #[arg(value_name = "RUN")]
    pub tokenizer: PathBuf,
    /// Which weights, and where the exported modules are tried out
    #[command(flatten)]
    pub model: ModelArgs,
    /// The folder, which is not there yet or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Of `pixtok codebook`.
#[derive(Debug, Args)]
pub struct CodebookArgs {
    /// A run folder that `pixtok train` wrote, or a folder with a config.toml and a model.safetensors
    #[arg(value_name = "RUN")]
    pub tokenizer: PathBuf,
    /// Which weights
    #[command(flatten)]
    pub model: ModelArgs,
    /// The file, .safetensors (as `codebook`) or .npy: float32 [K, D], row i is code i as it is before a projection to
    /// the latent; [codebooks, K, D] for several codebooks
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
