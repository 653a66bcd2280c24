//! The command that writes originals for other programs to reconstruct.

use std::path::PathBuf;

use clap::Args;

use super::{OutputNames, PickArgs};

pub(super) const PREPARE_HELP: &str = "\
Examples:
  pixtok prepare checkpoints/photos96-fsq --data ~/pictures --out originals
  pixtok prepare configs/imagenet256-f16-fsq.toml --data ILSVRC/val --out originals
  pixtok prepare checkpoints/photos96-fsq --data ~/pictures --fit whole --out originals

Let any program reconstruct the images in originals/ under their names; then
  pixtok eval reconstructed --data originals";

/// Arguments of `pixtok prepare`.
#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// How to prepare the images: a config, a run folder, a folder with a config.toml and a
    /// model.safetensors, or an adapter (.toml) of a TorchScript pair
    #[arg(value_name = "CONFIG_OR_RUN")]
    pub recipe: PathBuf,
    /// Images: a folder, a WebDataset .tar, a Hugging Face .parquet, or a folder of these [default:
    /// the config's validation images]
    #[arg(long, value_name = "PATH", visible_alias = "val-data")]
    pub data: Option<PathBuf>,
    /// Which of the images of --data
    #[command(flatten)]
    pub pick: PickArgs,
    /// Folder for the images, as PNG; it must be new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// centre: resized and cropped at the centre, as in an evaluation; whole: at their own scale,
    /// cut at the borders to multiples of the downsampling, as `pixtok reconstruct` takes them;
    /// scaled: each side scaled to the nearest multiple of the downsampling, as `pixtok encode
    /// --fit whole` takes them
    #[arg(long, value_name = "HOW", default_value = "centre")]
    pub fit: OriginalFit,
    /// original: a PNG keeps its name, others get .png after it; png: all names get .png after
    /// them, so that a.jpg and a.jpg.png do not clash
    #[arg(long, value_name = "HOW", default_value = "original")]
    pub names: OutputNames,
}

/// Which part of a picture becomes the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OriginalFit {
    /// Resized and cropped at the centre to one size.
    Centre,
    /// All of it except the borders, at its own scale.
    Whole,
    /// All of it, each side scaled.
    Scaled,
}
