//! The command line: types alone, no logic.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::checkpoint::Which;
use crate::torch::{DeviceChoice, Precision};
use crate::train::Weights;

/// Train, compare and run discrete image tokenizers.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One verb each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a tokenizer as a config says
    #[command(after_help = TRAIN_HELP)]
    Train(TrainArgs),
    /// Measure a trained tokenizer on a folder of images
    #[command(after_help = EVAL_HELP)]
    Eval(EvalArgs),
    /// Pass images through a trained tokenizer and write what comes back
    #[command(after_help = RECONSTRUCT_HELP)]
    Reconstruct(ReconstructArgs),
    /// Say what this machine offers, what is missing and how to mend it
    Doctor(DoctorArgs),
}

const TRAIN_HELP: &str = "\
Examples:
  pixtok train configs/photos96-fsq.toml
  pixtok train configs/photos96-vq.toml --data ~/pictures --run checkpoints/pictures
  pixtok train configs/photos96-fsq.toml --set train.steps=2000 --set 'quantizer.levels=[8,8,8]'
  pixtok train configs/photos96-fsq.toml --set 'quantizer={kind=\"vq\",codebook_size=512}'
  pixtok train configs/photos96-fsq.toml --resume

Exit codes: 0 done, 1 failed, 2 misuse or bad config, 3 run folder in use, 4 a save failed,
5 non-finite loss, 6 too many bad images, 130 and 143 stopped by a signal after saving.";

const EVAL_HELP: &str = "\
Examples:
  pixtok eval checkpoints/photos96-fsq
  pixtok eval checkpoints/photos96-fsq --data ~/pictures --checkpoint best --json figures.json";

const RECONSTRUCT_HELP: &str = "\
Examples:
  pixtok reconstruct checkpoints/photos96-fsq photo.jpg
  pixtok reconstruct checkpoints/photos96-fsq ~/pictures --out reconstructed --sheet sheet.png";

/// Of `pixtok train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The config: one TOML file is one run
    pub config: PathBuf,
    /// Override a value of the config, as `key=value` with dots between tables; the value is TOML, or else text.
    /// Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Folder of training images, in place of data.train. Without --val-data, a share of it (data.val_share) is
    /// kept for validation
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of validation images, in place of data.val
    #[arg(long, value_name = "DIR")]
    pub val_data: Option<PathBuf>,
    /// Run folder [default: checkpoints/ and the config's name]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Go on from the newest whole checkpoint of the run folder, bit for bit
    #[arg(long)]
    pub resume: bool,
    /// With --resume: accept another thread count or kind of device than the run's, which round differently
    #[arg(long, requires = "resume")]
    pub accept_inexact: bool,
    /// Start from the last weights of another run, at step 0 with fresh optimizer moments
    #[arg(long, value_name = "RUN", conflicts_with = "resume")]
    pub init_from: Option<PathBuf>,
    /// Check the config, print it resolved and what the run will be, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Where and how to compute
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Of every command that computes.
#[derive(Debug, Args)]
pub struct ComputeArgs {
    /// cpu, cuda, cuda:N, or auto for the first CUDA device that is there
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads of libtorch on the CPU [default: its own choice, one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096))]
    pub threads: Option<i32>,
}

/// Of every command that takes a trained tokenizer.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A run folder that `pixtok train` wrote
    pub run: PathBuf,
    /// last, best or step-N
    #[arg(long, default_value = "last")]
    pub checkpoint: Which,
    /// raw, or ema for the moving average (with train.ema_decay)
    #[arg(long, default_value = "raw")]
    pub weights: Weights,
    /// fp32 or bf16
    #[arg(long, default_value = "fp32")]
    pub precision: Precision,
    /// Where and how to compute
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Of `pixtok eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The tokenizer
    #[command(flatten)]
    pub tokenizer: RunArgs,
    /// Folder of images, all of which are evaluated [default: the run's validation images]
    #[arg(long, value_name = "DIR", visible_alias = "val-data")]
    pub data: Option<PathBuf>,
    /// Images at a time, in place of the run's eval.batch_size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: Option<u32>,
    /// Also write the figures as one flat JSON object; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Of `pixtok reconstruct`.
#[derive(Debug, Args)]
pub struct ReconstructArgs {
    /// The tokenizer
    #[command(flatten)]
    pub tokenizer: RunArgs,
    /// An image, or a folder of them. Each is taken whole, cut at its borders to a multiple of the downsampling
    #[arg(value_name = "IMAGE_OR_FOLDER")]
    pub input: PathBuf,
    /// Folder for the reconstructions, as PNG [default: reconstructions/ in the run folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Also write a picture with up to 8 originals above their reconstructions
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
}

/// Of `pixtok doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where to compute
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}
