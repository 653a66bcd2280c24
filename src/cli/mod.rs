//! The command line: only types, no logic.

mod completions;
mod configs;
mod prepare;
mod share;
mod tokens;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use completions::COMPLETIONS_HELP;
pub use completions::CompletionsArgs;
use configs::CONFIGS_HELP;
pub use configs::ConfigsArgs;
use prepare::PREPARE_HELP;
pub use prepare::{OriginalFit, PrepareArgs};
use share::{CODEBOOK_HELP, EXPORT_HELP};
pub use share::{CodebookArgs, ExportArgs};
use tokens::{DECODE_HELP, ENCODE_HELP, ENCODE_LONG_HELP};
pub use tokens::{
    DecodeArgs, EncodeArgs, FitChoice, IdArgs, ImageArgs, InspectArgs, KeyPrefix, MergeArgs, TakeArgs,
};

use crate::checkpoint::Which;
use crate::evaluate::Metric;
use crate::layers::Extension;
use crate::sweep::WORK_COMMAND;
use crate::train::Weights;
use pixtok_torch::{DeviceChoice, Precision};

/// Headings of flags that several commands share, in the order of every help text.
const INPUT: &str = "Input";
const MEASURES: &str = "Measures";
const OUTPUT: &str = "Output";
const JOB: &str = "Job";
const WEIGHTS: &str = "Weights";
const DEVICE: &str = "Device";

/// Train, compare and run discrete image tokenizers.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    /// Print only warnings, errors and what is skipped; no notes, no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Also print versions, device, threads and kernels; compare: also each command
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands; one variant for each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a tokenizer from a config
    #[command(after_help = TRAIN_HELP)]
    Train(TrainArgs),
    /// Measure a tokenizer, from pixtok or elsewhere, on images
    #[command(after_help = EVAL_HELP)]
    Eval(EvalArgs),
    /// Compare tokenizers on equal terms, as they are or trained by a sweep, and write a report
    #[command(after_help = COMPARE_HELP)]
    Compare(CompareArgs),
    /// Reconstruct images with a trained tokenizer
    #[command(after_help = RECONSTRUCT_HELP)]
    Reconstruct(ReconstructArgs),
    /// Write images as an evaluation sees them, so that other programs can reconstruct them
    #[command(after_help = PREPARE_HELP)]
    Prepare(PrepareArgs),
    /// Encode images into token files for training stacks
    #[command(after_help = ENCODE_HELP, after_long_help = ENCODE_LONG_HELP)]
    Encode(EncodeArgs),
    /// Decode token files back into images
    #[command(after_help = DECODE_HELP)]
    Decode(DecodeArgs),
    /// Describe a token file
    Inspect(InspectArgs),
    /// Merge the parts of a divided job, or whole token sets, into one set with one index
    Merge(MergeArgs),
    /// Export a trained tokenizer as a folder to share: weights, TorchScript, configs, a model card
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
    /// Write the codebook of a trained tokenizer as a table
    #[command(after_help = CODEBOOK_HELP)]
    Codebook(CodebookArgs),
    /// Report what this machine offers, what is missing and how to fix it
    Doctor(DoctorArgs),
    /// List the configs that come with pixtok, which work by name
    #[command(after_help = CONFIGS_HELP)]
    Configs(ConfigsArgs),
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
    /// Do one job of a comparison, which it reads from standard input
    #[command(name = WORK_COMMAND, hide = true)]
    Work,
}

const TRAIN_HELP: &str = "\
Examples:
  pixtok train quickstart-fsq --data ~/pictures --run checkpoints/pictures
  pixtok train quickstart-fsq --data ~/pictures --dry-run --check-data
  pixtok train mine.toml --set train.steps=2000 --set 'quantizer.levels=[8,8,8]'
  pixtok train mine.toml --set 'quantizer={kind=\"vq\",codebook_size=512}'
  pixtok train --resume checkpoints/pictures
  pixtok train --resume checkpoints/pictures --set train.steps=4000

Exit codes: 0 done, 1 failed, 2 misuse or bad config, 3 run folder in use, 4 a save failed,
5 non-finite loss or weights, 6 too many bad images; 129, 130, 138, 140, 143 and 152 stopped by
SIGHUP, Ctrl-C, SIGUSR1, SIGUSR2, SIGTERM and SIGXCPU after saving.";

const EVAL_HELP: &str = "\
Examples:
  pixtok eval checkpoints/photos96-fsq
  pixtok eval checkpoints/photos96-fsq --data ~/pictures --checkpoint best --json figures.json
  pixtok eval checkpoints/photos96-fsq --stability --per-image images.csv
  pixtok eval checkpoints/photos96-residual-fsq --prefix 1
  pixtok eval cosmos.toml --data ~/pictures
  pixtok eval reconstructed --data originals";

const COMPARE_HELP: &str = "\
Examples:
  pixtok compare checkpoints/mine checkpoints/other cosmos.toml reconstructed --data ~/pictures
  pixtok compare cosmos.toml reconstructed --protocol checkpoints/mine
  pixtok compare configs/compare/fsq-vs-vq.toml --dry-run
  pixtok compare configs/compare/fsq-vs-vq.toml --data ~/pictures --seeds 0,1 --set train.steps=900
  pixtok compare mine.toml --out checkpoints/mine-compared --devices cuda:0,cuda:1

Run the same command again to continue after an interruption. Finished work is not repeated.";

const RECONSTRUCT_HELP: &str = "\
Examples:
  pixtok reconstruct checkpoints/photos96-fsq photo.jpg
  pixtok reconstruct checkpoints/photos96-fsq ~/pictures --out reconstructed --sheet sheet.png";

/// The heading of the flags of `pixtok train` about the run.
const RUN: &str = "Run";

/// Arguments of `pixtok train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// A config (TOML), or the name of one of pixtok's own (`pixtok configs`)
    ///
    /// Not needed with --resume. A file or folder of that name comes first.
    #[arg(required_unless_present = "resume")]
    pub config: Option<PathBuf>,
    /// Training images, instead of data.train: a folder, tars or Parquet files
    ///
    /// A folder, a WebDataset .tar, a Hugging Face .parquet, or a folder of these. The config's
    /// validation images are then not used: give --val-data, or a share of these images
    /// (data.val_share) is kept for validation.
    #[arg(long, value_name = "PATH", help_heading = INPUT)]
    pub data: Option<PathBuf>,
    /// Validation images, instead of data.val
    #[arg(long, value_name = "PATH", help_heading = INPUT)]
    pub val_data: Option<PathBuf>,
    /// Which of the training images to use, instead of data.split and data.image_column.
    #[command(flatten, next_help_heading = INPUT)]
    pub pick: PickArgs,
    /// The split to validate on, instead of data.val_split
    #[arg(long, value_name = "NAME", help_heading = INPUT)]
    pub val_split: Option<String>,
    /// Decode every image once before the training, and list those that cannot be used
    ///
    /// Training and validation images. With --dry-run nothing is trained; then the exit code is 6
    /// if an image cannot be used.
    #[arg(long, help_heading = INPUT)]
    pub check_data: bool,
    /// Override a value of the config: `key=value`, with dots between tables
    ///
    /// The value is TOML, or text if it is not valid TOML. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", help_heading = RUN)]
    pub overrides: Vec<String>,
    /// The run folder [default: checkpoints/ and the config's name]
    #[arg(long, value_name = "DIR", help_heading = RUN)]
    pub run: Option<PathBuf>,
    /// Go on with the run in this folder from its newest complete checkpoint
    ///
    /// The result is identical bit for bit on the same processor and versions; on CUDA only with
    /// train.deterministic. Config, device and thread count are taken from the run. A config or
    /// flags given as well must agree with it, except for keys that may change (train.steps,
    /// data.train, optimizer.lr, optimizer.clip_norm and others).
    #[arg(long, value_name = "RUN", help_heading = RUN)]
    pub resume: Option<PathBuf>,
    /// Resume the run if its folder has one already, start it otherwise
    ///
    /// For jobs that restart automatically with the same command. A run that was stopped before its
    /// first checkpoint starts over. A restart by torchrun resumes without this flag.
    #[arg(long, conflicts_with = "resume", help_heading = RUN)]
    pub or_resume: bool,
    /// With --resume: start over if the run has no complete checkpoint
    ///
    /// It starts over at step 0 and discards its logs.
    #[arg(long, requires = "resume", help_heading = RUN)]
    pub restart: bool,
    /// With --resume: accept what rounds differently
    ///
    /// A thread count or kind of device that differs from the run's, and a checkpoint of an earlier
    /// version, which drew other noise.
    #[arg(long, requires = "resume", help_heading = RUN)]
    pub accept_inexact: bool,
    /// Start from the weights of another run or of a model folder
    ///
    /// From step 0, with fresh optimizer moments. The weights are the last raw ones of a run, or
    /// those of a folder that `pixtok export` or scripts/import_weights.py wrote.
    #[arg(long, value_name = "TOKENIZER", conflicts_with = "resume", help_heading = RUN)]
    pub init_from: Option<PathBuf>,
    /// LPIPS weights for loss.lpips and loss.features [default: in PIXTOK_WEIGHTS]
    ///
    /// scripts/convert_weights.py makes them. The default is lpips-vgg.safetensors or
    /// lpips-alex.safetensors, by loss.network, in the folder that PIXTOK_WEIGHTS names.
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    pub lpips_weights: Option<PathBuf>,
    /// Describe the run and the memory that it needs, and stop
    #[arg(long, help_heading = RUN)]
    pub dry_run: bool,
    /// With --dry-run: also print the config with all defaults filled in
    ///
    /// The whole output is then a config, in which the description is a comment.
    #[arg(long, requires = "dry_run", help_heading = RUN)]
    pub print_config: bool,
    /// Where and how to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Which images of Parquet files, tars or lists to use.
#[derive(Debug, Clone, Args)]
pub struct PickArgs {
    /// The split to use if Parquet files have several
    ///
    /// Their names begin with it (train-…, validation-…, test-…), or are in folders of these names.
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Column, ending or field of the images [default: image, jpg or similar]
    ///
    /// The column of Parquet files, the file extension in tars, the field with the paths in lists.
    #[arg(long, value_name = "NAME")]
    pub image_column: Option<String>,
}

/// Arguments of every command that computes.
#[derive(Debug, Clone, Args)]
pub struct ComputeArgs {
    /// cpu, cuda, cuda:N, or auto (CUDA if there is a device)
    #[arg(long, default_value = "auto", help_heading = DEVICE)]
    pub device: DeviceChoice,
    /// CPU threads for libtorch [default: its own choice, one per core]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(i32).range(1..=4096),
        help_heading = DEVICE
    )]
    pub threads: Option<i32>,
}

/// Arguments of the commands that use a trained tokenizer: which weights, and how to compute.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Which checkpoint of a run: last, best or step-N
    ///
    /// best is chosen by train.best_metric of the raw weights, even with --weights ema.
    #[arg(long, value_name = "WHICH", default_value = "last", help_heading = WEIGHTS)]
    pub checkpoint: Which,
    /// Weights of a run: raw, or ema for the moving average
    ///
    /// The moving average needs train.ema_decay.
    #[arg(long, value_name = "WHICH", default_value = "raw", help_heading = WEIGHTS)]
    pub weights: Weights,
    /// Precision of the computation: fp32 or bf16
    #[arg(long, value_name = "TYPE", default_value = "fp32", help_heading = WEIGHTS)]
    pub precision: Precision,
    /// Where and how to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Arguments of the commands that pass images or tokens through a trained tokenizer.
#[derive(Debug, Clone, Copy, Args)]
pub struct PositionsArgs {
    /// Positions at sizes beyond the trained one: none, interpolate or ntk [default: the config's]
    ///
    /// For networks with rotary or learned positions. none: they count on. interpolate: they are
    /// scaled down to the trained range. ntk: the base of the rotation is raised instead.
    #[arg(long, value_name = "HOW", help_heading = WEIGHTS, hide_short_help = true)]
    pub positions: Option<Extension>,
}

/// Arguments that choose what is measured.
#[derive(Debug, Clone, Args)]
pub struct MeasureArgs {
    /// Image metrics, separated by commas [default: all that can be computed]
    ///
    /// Figures of the codebook are always computed.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub metrics: Vec<Metric>,
    /// LPIPS weights of AlexNet or VGG16; repeatable [default: in PIXTOK_WEIGHTS]
    ///
    /// scripts/convert_weights.py makes them. The default is lpips-alex.safetensors and
    /// lpips-vgg.safetensors in the folder that PIXTOK_WEIGHTS names.
    #[arg(long, value_name = "FILE")]
    pub lpips_weights: Vec<PathBuf>,
    /// Inception weights for rfid [default: in PIXTOK_WEIGHTS]
    ///
    /// scripts/convert_weights.py makes them. The default is inception-fid.safetensors in the folder
    /// that PIXTOK_WEIGHTS names.
    #[arg(long, value_name = "FILE")]
    pub fid_weights: Option<PathBuf>,
    /// Also measure which share of the tokens stays when the image changes a little
    ///
    /// The image is shifted by a pixel, saved as JPEG, flipped, or replaced by its reconstruction.
    #[arg(long)]
    pub stability: bool,
    /// Also decode only the first tokens of each image, as many as each of these numbers
    ///
    /// Separated by commas. The figures stand beside those of all tokens. For tokens in a sequence
    /// that was trained with model.tail_drop; of a residual quantizer it is the first stages.
    #[arg(
        long = "prefix",
        value_name = "NUMBERS",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub prefixes: Vec<u32>,
}

/// Arguments of `pixtok eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A run or model folder, an adapter (.toml), or a folder of reconstructions
    ///
    /// A model folder has a config.toml and a model.safetensors. An adapter describes a TorchScript
    /// pair. Reconstructions are those of another program, with the names of the originals in --data.
    pub tokenizer: PathBuf,
    /// Images to evaluate, all of them [default: the run's validation images]
    ///
    /// A folder, a WebDataset .tar, a Hugging Face .parquet, or a folder of these.
    #[arg(long, value_name = "PATH", visible_alias = "val-data", help_heading = INPUT)]
    pub data: Option<PathBuf>,
    /// Which images of --data to use.
    #[command(flatten, next_help_heading = INPUT)]
    pub pick: PickArgs,
    /// Prepare images as this config or run does, instead of the tokenizer's
    ///
    /// A config, the name of one of pixtok's own (`pixtok configs`), or a run or model folder. Without --data, the images
    /// are those of this config too.
    #[arg(long, value_name = "CONFIG", help_heading = INPUT)]
    pub protocol: Option<PathBuf>,
    /// Images per batch [default: the config's eval.batch_size]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = INPUT
    )]
    pub batch_size: Option<u32>,
    /// Colour behind transparent pixels [default: the config's data.background]
    ///
    /// Of originals and of reconstructions. Without a config it is white.
    #[arg(long, value_name = "R,G,B", value_parser = colour, help_heading = INPUT)]
    pub background: Option<[u8; 3]>,
    /// What is measured.
    #[command(flatten, next_help_heading = MEASURES)]
    pub measures: MeasureArgs,
    /// Also write the figures as one flat JSON object
    ///
    /// - writes it to standard output instead of the table.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub json: Option<PathBuf>,
    /// Also write the values of each image, as .csv or .parquet
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub per_image: Option<PathBuf>,
    /// Also write how often each code occurs, as .csv
    ///
    /// Codes that never occur are left out. With several codebooks of K codes, code k of codebook c
    /// is listed as c·K + k.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub code_counts: Option<PathBuf>,
    /// Also write some originals and reconstructions as pictures
    ///
    /// They go to originals/ and reconstructions/ in this folder.
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub pictures: Option<PathBuf>,
    /// Positions at other sizes.
    #[command(flatten)]
    pub positions: PositionsArgs,
    /// Which weights, and how to compute.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// The heading of the flags of `pixtok compare` that change a sweep.
const SWEEP: &str = "Only with a sweep";

/// Arguments of `pixtok compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Run folders, model folders, adapters (.toml) and folders of reconstructions; or one sweep
    ///
    /// A model folder has a config.toml and a model.safetensors. An adapter describes a TorchScript
    /// pair. These are compared as they are, at least one. A sweep is a TOML file with a base
    /// config, arms and seeds, or the name of a shipped one: its arms are trained first.
    #[arg(required = true, value_name = "TOKENIZER_OR_SWEEP")]
    pub subjects: Vec<PathBuf>,
    /// Images to measure on; with a sweep, the training images [default: the protocol's]
    ///
    /// A folder, a WebDataset .tar, a Hugging Face .parquet, or a folder of these. All of them are
    /// measured. Without it, the images are the validation images of the protocol, as many as its
    /// eval.max_images says. With a sweep it replaces data.train, as in `pixtok train`.
    #[arg(long, value_name = "PATH", help_heading = INPUT)]
    pub data: Option<PathBuf>,
    /// Which images of --data to use.
    #[command(flatten, next_help_heading = INPUT)]
    pub pick: PickArgs,
    /// Prepare images as this config or run does [default: as the first run that is given]
    ///
    /// It also states the batch size and, without --data, which images are measured. A sweep has its
    /// base instead.
    #[arg(long, value_name = "CONFIG", help_heading = INPUT)]
    pub protocol: Option<PathBuf>,
    /// Images on the report's pictures, separated by commas [default: up to 8 with much detail]
    ///
    /// By their names, as in --per-image of `pixtok eval`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = INPUT)]
    pub images: Vec<String>,
    /// Validation images, instead of data.val
    #[arg(long, value_name = "PATH", help_heading = SWEEP)]
    pub val_data: Option<PathBuf>,
    /// Override a value of the base for all arms, as in `pixtok train`; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE", help_heading = SWEEP)]
    pub overrides: Vec<String>,
    /// Seeds, separated by commas, instead of the sweep's own
    #[arg(long, value_name = "SEEDS", value_delimiter = ',', help_heading = SWEEP)]
    pub seeds: Vec<u64>,
    /// What is measured.
    #[command(flatten, next_help_heading = MEASURES)]
    pub measures: MeasureArgs,
    /// Folder of the comparison [default: checkpoints/ and a name]
    ///
    /// The name is that of the sweep, or `compared-` and the names of the tokenizers.
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: Option<PathBuf>,
    /// Check everything, print what would run, and stop
    #[arg(long, help_heading = JOB)]
    pub dry_run: bool,
    /// Jobs that run at the same time, each in its own process [default: one per device]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256), help_heading = JOB)]
    pub jobs: Option<u32>,
    /// Devices, separated by commas
    #[arg(long, value_name = "DEVICES", value_delimiter = ',', default_value = "auto", help_heading = JOB)]
    pub devices: Vec<DeviceChoice>,
    /// CPU threads of libtorch in each process [default: processors divided by --jobs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096), help_heading = JOB)]
    pub threads: Option<i32>,
}

/// Arguments of `pixtok reconstruct`.
#[derive(Debug, Args)]
pub struct ReconstructArgs {
    /// A run folder or a model folder
    ///
    /// A model folder has a config.toml and a model.safetensors, as `pixtok export` writes it.
    pub tokenizer: PathBuf,
    /// An image or a folder of images, each used at full size
    ///
    /// Borders are cut to a multiple of the downsampling factor. For a tokenizer that takes a single
    /// size, pictures are resized and cropped to it.
    #[arg(value_name = "IMAGE_OR_FOLDER")]
    pub input: PathBuf,
    /// Folder for the reconstructions, as PNG [default: reconstructions/ in the run folder]
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: Option<PathBuf>,
    /// How the files are named.
    #[command(flatten)]
    pub naming: NamesArgs,
    /// Also write one picture with up to 8 originals, their reconstructions and the errors
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub sheet: Option<PathBuf>,
    /// Positions at other sizes.
    #[command(flatten)]
    pub positions: PositionsArgs,
    /// Which weights, and how to compute.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Parses `R,G,B`, each from 0 to 255.
fn colour(text: &str) -> Result<[u8; 3], String> {
    let values: Vec<u8> = text.split(',').map_while(|value| value.trim().parse().ok()).collect();
    let colour = <[u8; 3]>::try_from(values).ok().filter(|_| text.split(',').count() == 3);
    colour.ok_or_else(|| "give three numbers from 0 to 255, like 255,255,255".to_owned())
}

/// Arguments of the commands that write a picture for each image.
#[derive(Debug, Clone, Args)]
pub struct NamesArgs {
    /// How the files are named: original or png
    ///
    /// original: keep a name that ends in .png, and append .png to others. png: append .png to every
    /// name, so that a.jpg and a.jpg.png do not collide.
    #[arg(
        long,
        value_name = "HOW",
        default_value = "original",
        hide_possible_values = true,
        help_heading = OUTPUT
    )]
    pub names: OutputNames,
}

/// How reconstructions and prepared originals are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputNames {
    /// The original's name if it ends in .png, otherwise that name and .png.
    Original,
    /// The original's name and .png, always.
    Png,
}

/// Arguments of `pixtok doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The device to examine: cpu, cuda, cuda:N, or auto
    #[arg(long, default_value = "auto", help_heading = DEVICE)]
    pub device: DeviceChoice,
}
