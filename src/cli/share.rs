//! The commands that export a trained tokenizer or its codebook.

use std::path::PathBuf;

use clap::Args;

use super::{ModelArgs, OUTPUT, PositionsArgs};

pub(super) const EXPORT_HELP: &str = "\
Examples:
  pixtok export checkpoints/photos96-fsq --out photos96-fsq
  pixtok export checkpoints/photos96-fsq --checkpoint best --weights ema --out photos96-fsq

The folder can be used like a run: pixtok eval photos96-fsq. The TorchScript modules are traced on
the CPU and compared with the tokenizer on --device. They load on both.";

pub(super) const CODEBOOK_HELP: &str = "\
Examples:
  pixtok codebook checkpoints/photos96-vq --out codes.safetensors
  pixtok codebook checkpoints/photos96-fsq --out codes.npy";

/// Arguments of `pixtok export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run folder or a model folder
    ///
    /// A model folder has a config.toml and a model.safetensors, as `pixtok export` writes it.
    #[arg(value_name = "RUN")]
    pub tokenizer: PathBuf,
    /// The folder to write; it must be new or empty
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: PathBuf,
    /// Positions at other sizes, which the exported tokenizer keeps.
    #[command(flatten)]
    pub positions: PositionsArgs,
    /// Which weights, and where the exported modules are checked.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Arguments of `pixtok codebook`.
#[derive(Debug, Args)]
pub struct CodebookArgs {
    /// A run folder or a model folder
    ///
    /// A model folder has a config.toml and a model.safetensors, as `pixtok export` writes it.
    #[arg(value_name = "RUN")]
    pub tokenizer: PathBuf,
    /// The file to write: .safetensors (tensor `codebook`) or .npy
    ///
    /// float32 [K, D]; with several codebooks, [codebooks, K, D]. Row i is code i before any
    /// projection to the latent.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub out: PathBuf,
    /// Which weights.
    #[command(flatten)]
    pub model: ModelArgs,
}
