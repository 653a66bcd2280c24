//! The command line: types alone, no logic.

mod completions;
mod prepare;
mod share;
mod tokens;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use completions::COMPLETIONS_HELP;
pub use completions::CompletionsArgs;
use prepare::PREPARE_HELP;
pub use prepare::{OriginalFit, PrepareArgs};
use share::{CODEBOOK_HELP, EXPORT_HELP};
pub use share::{CodebookArgs, ExportArgs};
use tokens::{DECODE_HELP, ENCODE_HELP};
pub use tokens::{
    DecodeArgs, EncodeArgs, FitChoice, IdArgs, ImageArgs, InspectArgs, KeyPrefix, MergeArgs, TakeArgs,
};

use crate::checkpoint::Which;
use crate::evaluate::Metric;
use crate::sweep::WORK_COMMAND;
use crate::train::Weights;
use pixtok_torch::{DeviceChoice, Precision};

/// Train, compare and run discrete image tokenizers.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    /// Say neither notes nor progress: only warnings, what is passed over, and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Also say what is computed with (libtorch, device, threads, kernels, a training's precision)
    /// and, of a comparison, the command of each training and evaluation
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
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
    /// Measure a tokenizer, ours or another's, on images
    #[command(after_help = EVAL_HELP)]
    Eval(EvalArgs),
    /// Train and measure several tokenizers on equal terms, and make a report of it
    #[command(after_help = COMPARE_HELP)]
    Compare(CompareArgs),
    /// Pass images through a trained tokenizer and write what comes back
    #[command(after_help = RECONSTRUCT_HELP)]
    Reconstruct(ReconstructArgs),
    /// Write images as an evaluation sees them, for other programs to reconstruct
    #[command(after_help = PREPARE_HELP)]
    Prepare(PrepareArgs),
    /// Turn images into token files that training stacks read
    #[command(after_help = ENCODE_HELP)]
    Encode(EncodeArgs),
    /// Turn token files back into images
    #[command(after_help = DECODE_HELP)]
    Decode(DecodeArgs),
    /// Say what a token file is
    Inspect(InspectArgs),
    /// Join the parts of a divided job, or whole sets of tokens, into one set with one index
    Merge(MergeArgs),
    /// Write a trained tokenizer as a folder to share: weights, TorchScript, configs, a model card
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
    /// Write the codes of a trained tokenizer as a table
    #[command(after_help = CODEBOOK_HELP)]
    Codebook(CodebookArgs),
    /// Say what this machine offers, what is missing and how to fix it
    Doctor(DoctorArgs),
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
    /// Do what a comparison says on standard input
    #[command(name = WORK_COMMAND, hide = true)]
    Work,
}

const TRAIN_HELP: &str = "\
Examples:
  pixtok train configs/photos96-fsq.toml
  pixtok train configs/photos96-vq.toml --data ~/pictures --run checkpoints/pictures
  pixtok train configs/photos96-fsq.toml --set train.steps=2000 --set 'quantizer.levels=[8,8,8]'
  pixtok train configs/photos96-fsq.toml --set 'quantizer={kind=\"vq\",codebook_size=512}'
  pixtok train --resume checkpoints/photos96-fsq
  pixtok train --resume checkpoints/photos96-fsq --set train.steps=4000
  pixtok train --resume checkpoints/photos96-fsq --set optimizer.lr=5e-4

Exit codes: 0 done, 1 failed, 2 misuse or bad config, 3 run folder in use, 4 a save failed,
5 non-finite loss or weights, 6 too many bad images; 129, 130, 138, 140, 143 and 152 stopped by
SIGHUP, Ctrl-C, SIGUSR1, SIGUSR2, SIGTERM and SIGXCPU after saving.";

const EVAL_HELP: &str = "\
Examples:
  pixtok eval checkpoints/photos96-fsq
  pixtok eval checkpoints/photos96-fsq --data ~/pictures --checkpoint best --json figures.json
  pixtok eval checkpoints/photos96-fsq --stability --per-image images.csv
  pixtok eval cosmos.toml --data ~/pictures
  pixtok eval reconstructed --data originals";

const COMPARE_HELP: &str = "\
Examples:
  pixtok compare configs/compare/fsq-vs-vq.toml --dry-run
  pixtok compare configs/compare/fsq-vs-vq.toml
  pixtok compare mine.toml --out checkpoints/mine-compared --devices cuda:0,cuda:1

The same command again goes on where it was stopped; what is finished is not run again.";

const RECONSTRUCT_HELP: &str = "\
Examples:
  pixtok reconstruct checkpoints/photos96-fsq photo.jpg
  pixtok reconstruct checkpoints/photos96-fsq ~/pictures --out reconstructed --sheet sheet.png";

/// Of `pixtok train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The config: one TOML file is one run. Not needed with --resume
    #[arg(required_unless_present = "resume")]
    pub config: Option<PathBuf>,
    /// Override a value of the config, as `key=value` with dots between tables; the value is TOML, or else text.
    /// Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Training images, in place of data.train: a folder, a WebDataset .tar, a Hugging Face
    /// .parquet, or a folder of such. The config's data.val is dropped unless --set gives it:
    /// without --val-data or --val-split, a share of these images (data.val_share) is kept for
    /// validation
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Validation images, in place of data.val
    #[arg(long, value_name = "PATH")]
    pub val_data: Option<PathBuf>,
    /// Which of the training images to use, in place of data.split and data.image_column
    #[command(flatten)]
    pub pick: PickArgs,
    /// The split to validate on, if Parquet files have several, in place of data.val_split
    #[arg(long, value_name = "NAME")]
    pub val_split: Option<String>,
    /// Run folder [default: checkpoints/ and the config's name]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Resume the run in this folder from its newest whole checkpoint. The result is the same bit
    /// for bit on the same processor and versions, on CUDA only with train.deterministic. Config,
    /// device and thread count are those of the run. Flags and a config given as well must agree
    /// with them, except for keys that may change (train.steps, data.train, optimizer.lr,
    /// optimizer.clip_norm and others)
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
    /// With --resume: if the run has no whole checkpoint, start over at step 0 and discard its logs
    #[arg(long, requires = "resume")]
    pub restart: bool,
    /// With --resume: accept another thread count or kind of device than the run's, which round differently
    #[arg(long, requires = "resume")]
    pub accept_inexact: bool,
    /// Start from the last raw weights of another run, or from a model folder that `pixtok export` or scripts/import_weights.py made, at
    /// step 0 with fresh optimizer moments
    #[arg(long, value_name = "TOKENIZER", conflicts_with = "resume")]
    pub init_from: Option<PathBuf>,
    /// Weights of LPIPS for loss.lpips and loss.features, as scripts/convert_weights.py makes them [default:
    /// lpips-vgg.safetensors or lpips-alex.safetensors, by loss.network, in the folder that PIXTOK_WEIGHTS names]
    #[arg(long, value_name = "FILE")]
    pub lpips_weights: Option<PathBuf>,
    /// Check the config, print it resolved and what the run will be, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Where and how to compute
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Which images of Parquet files, tars or lists to use.
#[derive(Debug, Clone, Args)]
pub struct PickArgs {
    /// The split to use, if Parquet files have several (train-…, validation-…, test-…, or folders
    /// of these names)
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// The column with the images; for tars their ending, for lists the field with their paths
    /// [default: image, img, jpg, png or the like]
    #[arg(long, value_name = "NAME")]
    pub image_column: Option<String>,
}

/// Of every command that computes.
#[derive(Debug, Clone, Args)]
pub struct ComputeArgs {
    /// cpu, cuda, cuda:N, or auto for the first CUDA device that is there
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads of libtorch on the CPU [default: its own choice, one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096))]
    pub threads: Option<i32>,
}

/// How a trained tokenizer is used.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Of a run: last, best or step-N. best is the step whose raw weights were best
    /// (train.best_metric), also with --weights ema
    #[arg(long, default_value = "last")]
    pub checkpoint: Which,
    /// Of a run: raw, or ema for the moving average (with train.ema_decay)
    #[arg(long, default_value = "raw")]
    pub weights: Weights,
    /// fp32 or bf16
    #[arg(long, default_value = "fp32")]
    pub precision: Precision,
    /// Where and how to compute
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// What is measured.
#[derive(Debug, Clone, Args)]
pub struct MeasureArgs {
    /// What to measure of the images, separated by commas [default: all that can be]. Codebook figures always are
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub metrics: Vec<Metric>,
    /// Weights of LPIPS, for AlexNet or VGG16, as scripts/convert_weights.py makes them; give it twice for both [default:
    /// lpips-alex.safetensors and lpips-vgg.safetensors in the folder that PIXTOK_WEIGHTS names]
    #[arg(long, value_name = "FILE")]
    pub lpips_weights: Vec<PathBuf>,
    /// Weights of the Inception of rfid, as scripts/convert_weights.py makes them [default: inception-fid.safetensors in
    /// the folder that PIXTOK_WEIGHTS names]
    #[arg(long, value_name = "FILE")]
    pub fid_weights: Option<PathBuf>,
    /// Also count the tokens that stay when the image is shifted by a pixel, saved as JPEG, flipped, or replaced by its
    /// reconstruction
    #[arg(long)]
    pub stability: bool,
}

/// Of `pixtok eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A run folder, a folder with a config.toml and a model.safetensors, an adapter (.toml) of a TorchScript pair,
    /// or a folder of reconstructions made elsewhere, named as the originals in --data
    pub tokenizer: PathBuf,
    /// How the tokenizer is used
    #[command(flatten)]
    pub model: ModelArgs,
    /// Images, all of which are evaluated: a folder, a WebDataset .tar, a Hugging Face .parquet, or
    /// a folder of such files [default: the run's validation images]
    #[arg(long, value_name = "PATH", visible_alias = "val-data")]
    pub data: Option<PathBuf>,
    /// Which images of --data to use
    #[command(flatten)]
    pub pick: PickArgs,
    /// Prepare images, and choose them where --data does not, as this config says in place of the tokenizer's own
    #[arg(long, value_name = "CONFIG")]
    pub protocol: Option<PathBuf>,
    /// Images at a time, in place of the config's eval.batch_size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: Option<u32>,
    /// Colour under transparent pixels of originals and reconstructions, instead of the config's
    /// data.background [default: white]
    #[arg(long, value_name = "R,G,B", value_parser = colour)]
    pub background: Option<[u8; 3]>,
    /// What is measured
    #[command(flatten)]
    pub measures: MeasureArgs,
    /// Also write the figures as one flat JSON object; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write the values of each image, as .csv or .parquet
    #[arg(long, value_name = "FILE")]
    pub per_image: Option<PathBuf>,
    /// Also write how often each code that occurs was hit, as .csv; with several codebooks, code k
    /// of codebook c is c·K + k
    #[arg(long, value_name = "FILE")]
    pub code_counts: Option<PathBuf>,
    /// Also write some originals and reconstructions into originals/ and reconstructions/ of this folder
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
}

/// Of `pixtok compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// The sweep: a base config, arms, seeds
    pub sweep: PathBuf,
    /// Folder of the comparison [default: checkpoints/ and the sweep's name]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Check everything, print what would be run, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Trainings at a time, each a process of its own [default: one per device]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: Option<u32>,
    /// Devices that the trainings are spread over, separated by commas
    #[arg(long, value_name = "DEVICES", value_delimiter = ',', default_value = "auto")]
    pub devices: Vec<DeviceChoice>,
    /// Threads of libtorch on the CPU for each training [default: the processors over the jobs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096))]
    pub threads: Option<i32>,
    /// What is measured
    #[command(flatten)]
    pub measures: MeasureArgs,
}

/// Of `pixtok reconstruct`.
#[derive(Debug, Args)]
pub struct ReconstructArgs {
    /// A run folder that `pixtok train` wrote, or a folder with a config.toml and a model.safetensors
    pub tokenizer: PathBuf,
    /// How the tokenizer is used
    #[command(flatten)]
    pub model: ModelArgs,
    /// An image, or a folder of them. Each is taken whole, cut at its borders to a multiple of the downsampling
    #[arg(value_name = "IMAGE_OR_FOLDER")]
    pub input: PathBuf,
    /// Folder for the reconstructions, as PNG [default: reconstructions/ in the run folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// original: a name that ends in .png is kept, others get .png after them; png: every name gets
    /// .png after it, so that a.jpg and a.jpg.png do not collide
    #[arg(long, value_name = "HOW", default_value = "original")]
    pub names: OutputNames,
    /// Also write a picture with up to 8 originals above their reconstructions
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
}

/// `R,G,B`, each from 0 to 255.
fn colour(text: &str) -> Result<[u8; 3], String> {
    let values: Vec<u8> = text.split(',').map_while(|value| value.trim().parse().ok()).collect();
    let colour = <[u8; 3]>::try_from(values).ok().filter(|_| text.split(',').count() == 3);
    colour.ok_or_else(|| "give three numbers from 0 to 255, like 255,255,255".to_owned())
}

/// How reconstructions and prepared originals are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputNames {
    /// The original's name if it ends in .png, otherwise with .png after it.
    Original,
    /// The original's name, always with .png after it.
    Png,
}

/// Of `pixtok doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where to compute
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}
