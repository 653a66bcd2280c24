//! The command that writes originals for other programs to reconstruct.

use std::path::PathBuf;

use clap::Args;

use super::{INPUT, NamesArgs, OUTPUT, PickArgs};

pub(super) const PREPARE_HELP: &str = "\
Examples:
  pixtok prepare checkpoints/photos96-fsq --data ~/pictures --out originals
  pixtok prepare configs/imagenet256-f16-fsq.toml --data ILSVRC/val --out originals
  pixtok prepare checkpoints/photos96-fsq --data ~/pictures --fit whole --out originals

Let any program reconstruct the images in originals/ and keep their names. Then run
  pixtok eval reconstructed --data originals";

/// Arguments of `pixtok prepare`.
#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// A config or its name (`pixtok configs`), a run or model folder, or an adapter (.toml)
    ///
    /// Images are prepared as it says. A model folder has a config.toml and a model.safetensors. An
    /// adapter describes a TorchScript pair.
    #[arg(value_name = "CONFIG_OR_RUN")]
    pub recipe: PathBuf,
    /// Images to prepare [default: the config's validation images]
    ///
    /// A folder, a WebDataset .tar, a Hugging Face .parquet, or a folder of these.
    #[arg(long, value_name = "PATH", visible_alias = "val-data", help_heading = INPUT)]
    pub data: Option<PathBuf>,
    /// Which images of --data to use.
    #[command(flatten, next_help_heading = INPUT)]
    pub pick: PickArgs,
    /// Folder for the images, as PNG; it must be new or empty
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: PathBuf,
    /// centre: cropped to the image size; whole or scaled: all of it
    ///
    /// centre: resize, and crop at the centre, as an evaluation does. whole: keep the scale, and cut
    /// the borders to multiples of the downsampling factor, as `pixtok reconstruct` does. scaled:
    /// scale each side to the nearest multiple of the downsampling factor, as `pixtok encode --fit
    /// whole` does.
    #[arg(
        long,
        value_name = "HOW",
        default_value = "centre",
        hide_possible_values = true,
        help_heading = OUTPUT
    )]
    pub fit: OriginalFit,
    /// How the files are named.
    #[command(flatten)]
    pub naming: NamesArgs,
}

/// Which part of a picture becomes the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OriginalFit {
    /// Resized, and cropped at the centre to one size.
    Centre,
    /// All of it except cut borders, at its own scale.
    Whole,
    /// All of it, with each side scaled.
    Scaled,
}
