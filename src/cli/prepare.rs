//! The command that writes originals for other programs to reconstruct.

use std::path::PathBuf;

use clap::Args;

use super::{OutputNames, PickArgs};

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
    /// Where the image preparation is taken from: a config or its name (`pixtok configs`), a run
    /// folder, a folder with a config.toml and a model.safetensors, or an adapter (.toml) of a
    /// TorchScript pair
    #[arg(value_name = "CONFIG_OR_RUN")]
    pub recipe: PathBuf,
    /// Images: a folder, a WebDataset .tar, a Hugging Face .parquet, or a folder of these [default:
    /// the config's validation images]
    #[arg(long, value_name = "PATH", visible_alias = "val-data")]
    pub data: Option<PathBuf>,
    /// Which images of --data to use.
    #[command(flatten)]
    pub pick: PickArgs,
    /// Folder for the images, as PNG; it must be new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// centre: resize, and crop at the centre, as an evaluation does; whole: keep the scale, and
    /// cut the borders to multiples of the downsampling factor, as `pixtok reconstruct` does;
    /// scaled: scale each side to the nearest multiple of the downsampling factor, as `pixtok
    /// encode --fit whole` does
    #[arg(long, value_name = "HOW", default_value = "centre")]
    pub fit: OriginalFit,
    /// original: keep a name that ends in .png, and append .png to others; png: append .png to
    /// every name, so that a.jpg and a.jpg.png do not collide
    #[arg(long, value_name = "HOW", default_value = "original")]
    pub names: OutputNames,
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
