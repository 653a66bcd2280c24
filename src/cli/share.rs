//! The commands that export a trained tokenizer or its codebook.

use std::path::PathBuf;

use clap::Args;

use super::ModelArgs;

pub(super) const EXPORT_HELP: &str = "\
Examples:
  pixtok export checkpoints/photos96-fsq --out photos96-fsq
  pixtok export checkpoints/photos96-fsq --checkpoint best --weights ema --out photos96-fsq

pixtok opens the folder like a run: pixtok eval photos96-fsq. The TorchScript modules are traced on the
CPU and compared with the tokenizer on --device. They load on both.";

pub(super) const CODEBOOK_HELP: &str = "\
Examples:
  pixtok codebook checkpoints/photos96-vq --out codes.safetensors
  pixtok codebook checkpoints/photos96-fsq --out codes.npy";

/// Arguments of `pixtok export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run folder that `pixtok train` wrote, or a folder with a config.toml and a
    /// model.safetensors
    #[arg(value_name = "RUN")]
    pub tokenizer: PathBuf,
    /// Which weights, and where the exported modules are checked.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The folder to write; it must be new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Arguments of `pixtok codebook`.
#[derive(Debug, Args)]
pub struct CodebookArgs {
    /// A run folder that `pixtok train` wrote, or a folder with a config.toml and a
    /// model.safetensors
    #[arg(value_name = "RUN")]
    pub tokenizer: PathBuf,
    /// Which weights.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The file to write: .safetensors (tensor `codebook`) or .npy. float32 [K, D]; row i is code i
    /// before any projection to the latent. [codebooks, K, D] with several codebooks
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
