//! The commands that turn images into token files and back.

use std::path::PathBuf;

use clap::Args;

use super::{ComputeArgs, INPUT, JOB, ModelArgs, OUTPUT, PickArgs, PositionsArgs, WEIGHTS};
use crate::checkpoint::Which;
use crate::export::{Part, SHARD_ROWS};
use crate::layers::Extension;
use crate::train::Weights;
use pixtok_base::MAX_SIDE;
use pixtok_tokens::{Arrangement, Dtype, FormatKind, Preset, SizeTokens};
use pixtok_torch::Precision;

/// Headings that only `pixtok encode` has.
const PICTURES: &str = "Pictures";
const IDS: &str = "Ids";

pub(super) const ENCODE_HELP: &str = "\
Examples:
  pixtok encode checkpoints/photos96-fsq --data ~/pictures --out tokens --format parquet
  pixtok encode RUN --data list.jsonl --out tokens --format raw --vocab-offset 32000 --append-eod 2
The same command goes on where it was stopped. --help lists all flags, with more examples.";

pub(super) const ENCODE_LONG_HELP: &str = "\
Examples:
  pixtok encode checkpoints/photos96-fsq --data ~/pictures --out tokens --format parquet
  pixtok encode checkpoints/photos96-fsq --data cc12m/ --out tokens --format webdataset --verify
  pixtok encode checkpoints/photos96-fsq --data list.jsonl --out tokens --format megatron --vocab-offset 32000 --append-eod 2
  pixtok encode checkpoints/photos96-fsq --data ~/pictures --out tokens --format jsonl --fit whole --preset show-o
  pixtok encode checkpoints/photos96-fsq --data ~/pictures --out tokens --format raw --val-share 0.01
  torchrun --no-python --nproc-per-node 8 pixtok encode RUN --data cc12m/ --out tokens --format mds

Run the same command again to continue after an interruption. Finished shards are kept.";

pub(super) const DECODE_HELP: &str = "\
Examples:
  pixtok decode checkpoints/photos96-fsq --tokens tokens --out pictures
  pixtok decode checkpoints/photos96-fsq --tokens tokens --out pictures --limit 64 --sheets
  pixtok decode checkpoints/photos96-fsq --tokens generated.npy --like tokens --out generated
  pixtok decode checkpoints/photos96-fsq --tokens codes.npy --out pictures

Generated ids are rows like those of the set: in a .jsonl one list a line, in a .npy an array
[N, ids], in a .bin the same without a header. The first and the last ids of the framing may be
missing, and the ids between the rows of the grid.";

/// Arguments of `pixtok encode`.
#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// A run folder, a model folder, or an adapter (.toml) of a TorchScript pair
    ///
    /// A model folder has a config.toml and a model.safetensors, as `pixtok export` writes it.
    pub tokenizer: PathBuf,
    /// Images: a folder, tars, Parquet files or a .jsonl list
    ///
    /// A folder of images, a WebDataset .tar or a folder of them, a Hugging Face .parquet or a
    /// folder of them, or a .jsonl list of paths.
    #[arg(long, value_name = "PATH", help_heading = INPUT)]
    pub data: PathBuf,
    /// Which images, labels and captions to use.
    #[command(flatten, next_help_heading = INPUT)]
    pub take: TakeArgs,
    /// shard: begin each key with the name of its tar
    ///
    /// The name is followed by a slash. It is for tars that each number their keys from 0.
    #[arg(
        long,
        value_name = "WHAT",
        help_heading = INPUT,
        hide_possible_values = true,
        hide_short_help = true
    )]
    pub key_prefix: Option<KeyPrefix>,
    /// How images are prepared.
    #[command(flatten, next_help_heading = PICTURES)]
    pub images: ImageArgs,
    /// How codes become stored ids.
    #[command(flatten, next_help_heading = IDS)]
    pub ids: IdArgs,
    /// Store only the first N tokens of each image
    ///
    /// For tokens in a sequence that was trained with model.tail_drop. Of a residual quantizer it is
    /// the first N stages of each token. `pixtok decode` knows from the set how many there are.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = IDS,
        hide_short_help = true
    )]
    pub prefix: Option<u32>,
    /// Folder for the token files
    ///
    /// With --val-share, each of the two sets has its own folder in it; with --shard, each part.
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: PathBuf,
    /// Format of the token files.
    #[arg(long, value_name = "FORMAT", help_heading = OUTPUT, help = format_help())]
    pub format: FormatKind,
    /// Write two sets, OUT/train and OUT/val, this share of the images in val
    ///
    /// A number above 0 and below 1, for instance 0.01. A hash of its key decides where an image
    /// goes, so that it stays there when others are added. Its mirror image goes to the same set.
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = OUTPUT)]
    pub val_share: Option<f64>,
    /// Rows per shard [default: 10000]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        conflicts_with = "shard_bytes",
        help_heading = OUTPUT
    )]
    pub shard_rows: Option<u64>,
    /// Approximate bytes of ids per shard, instead of --shard-rows
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = OUTPUT,
        hide_short_help = true
    )]
    pub shard_bytes: Option<u64>,
    /// Encode only part I of N, counted from 0 [default: by the launcher]
    ///
    /// If there are at least N tars or Parquet files, a part is whole files: file i, in the order
    /// of their names, belongs to part i modulo N. With fewer files, the keys of the images decide.
    /// Without the flag, each process of torchrun, srun, mpirun or an indexed Kubernetes job takes
    /// one part; a process that no launcher started encodes everything.
    #[arg(long, value_name = "I/N", help_heading = JOB)]
    pub shard: Option<Part>,
    /// Images per batch [default: the config's eval.batch_size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = JOB)]
    pub batch_size: Option<u32>,
    /// Read rows of the files back and compare them with their images' codes
    #[arg(long, help_heading = JOB)]
    pub verify: bool,
    /// Positions at other sizes.
    #[command(flatten)]
    pub positions: PositionsArgs,
    /// Which weights, and how to compute.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Parses a share above 0 and below 1.
fn share(text: &str) -> Result<f64, String> {
    let share = text.trim().parse().ok().filter(|&share: &f64| share > 0.0 && share < 1.0);
    share.ok_or_else(|| "give a number above 0 and below 1, like 0.01".to_owned())
}

/// What keys begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyPrefix {
    /// The name of the tar.
    Shard,
}

/// Arguments that choose images, labels and captions.
#[derive(Debug, Args)]
pub struct TakeArgs {
    /// Which images to use.
    #[command(flatten)]
    pub pick: PickArgs,
    /// Column, ending or field of the labels [default: label, cls or similar]
    ///
    /// The column of Parquet files, the file extension in tars, the field in lists and metadata.
    /// Labels that are not whole numbers are class names, which are numbered in sorted order.
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
    /// Column, ending or field of the captions [default: text, caption, …]
    ///
    /// By default, in each row the first of text, caption, txt and captions that is present.
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// Class names, one per line, numbered in this order
    ///
    /// Without it, names are numbered in sorted order.
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
}

/// Arguments for how a picture is prepared before it is encoded.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// centre: cropped to the image size; whole: all of it
    ///
    /// centre: resize the short side to the image size, and crop at the centre. whole: keep the
    /// whole picture and its shape, with each side rounded to a multiple of the downsampling factor.
    #[arg(long, value_name = "HOW", default_value = "centre", hide_possible_values = true)]
    pub fit: FitChoice,
    /// Side of the images, instead of the config's data.image_size
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    pub image_size: Option<u32>,
    /// Resize the short side to this first [default: the image size]
    ///
    /// By default as little as possible is cut. With the config's data.resize, pictures are prepared
    /// as `pixtok eval` and `pixtok prepare` do. With --fit whole, the default is the picture's own
    /// size.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    pub resize: Option<u32>,
    /// Also encode the mirror image of each picture, under KEY~flip
    #[arg(long)]
    pub flip: bool,
}

/// Which part of a picture is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FitChoice {
    /// Cropped at the centre to one size.
    Centre,
    /// All of it.
    Whole,
}

/// Arguments for how codes become stored ids.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// Vocabulary and framing of a published model, such as show-o or emu3
    ///
    /// raw, llamagen, janus, show-o, emu3, chameleon, lumina-mgpt or unified-io-2. Other flags
    /// override single ids of it.
    #[arg(long, value_name = "MODEL")]
    pub preset: Option<Preset>,
    /// Code i becomes id N + i
    #[arg(long, value_name = "N", conflicts_with = "vocab_map")]
    pub vocab_offset: Option<u32>,
    /// Code i becomes the i-th id of this file, a JSON array
    #[arg(long, value_name = "FILE")]
    pub vocab_map: Option<PathBuf>,
    /// Refuse ids that are not below this
    ///
    /// --format raw also chooses its number type by it, as OLMo-core does.
    #[arg(long, value_name = "N")]
    pub vocab_size: Option<u64>,
    /// u16 or i32, where the format leaves the choice [default: u16 if ids fit]
    ///
    /// The number type of ids. i32 reads the same as uint32. The default is u16 if the largest id is
    /// below 65499; with raw and --vocab-size, u16 if that size is at most 65536.
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
    /// Id at the very beginning (beginning of sequence)
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub bos: Option<u32>,
    /// Id where the image begins
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub boi: Option<u32>,
    /// Id before the first code, after the size
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub img: Option<u32>,
    /// Id after every row of the grid, including the last
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub eol: Option<u32>,
    /// Id after the last row
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub eof: Option<u32>,
    /// Id where the image ends
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub eoi: Option<u32>,
    /// Id at the very end (end of sequence)
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub eos: Option<u32>,
    /// Id that ends the document (--help: ids at other places)
    #[arg(long, value_name = "ID", long_help = "Id that ends the document")]
    pub append_eod: Option<u32>,
    /// How ids state the size of the grid
    ///
    /// none; grid:BASE[:DIV] for BASE + h/DIV and BASE + w/DIV; text:ID,… for h*w spelt with the ids
    /// of 0 to 9 and of *.
    #[arg(long, value_name = "HOW", hide_short_help = true)]
    pub size_tokens: Option<SizeTokens>,
    /// Store the digits of each index (FSQ, LFQ, BSQ) instead of the index
    #[arg(long, hide_short_help = true)]
    pub digits: bool,
    /// Order of several codebooks or digits: interleaved or stacked
    ///
    /// interleaved: all those of one position together; stacked: one grid after the other [default:
    /// interleaved].
    #[arg(long, value_name = "ORDER", hide_short_help = true)]
    pub arrange: Option<Arrangement>,
    /// With --format jsonl: write tokens as one string of names
    ///
    /// For instance '<|visual token {:06}|>'. added_tokens.json maps the names to ids.
    #[arg(long, value_name = "PATTERN", hide_short_help = true)]
    pub token_names: Option<String>,
    /// With --format raw: also write where each document ends
    #[arg(long, hide_short_help = true)]
    pub document_index: bool,
}

/// Arguments of `pixtok decode`.
#[derive(Debug, Args)]
pub struct DecodeArgs {
    /// The tokenizer that made the tokens: a run or model folder, or an adapter (.toml)
    ///
    /// A model folder has a config.toml and a model.safetensors. An adapter describes a TorchScript
    /// pair.
    pub tokenizer: PathBuf,
    /// A folder that `pixtok encode` made, or a file in it; or generated ids
    ///
    /// Ids that a model generated are a .npy, .bin or .jsonl file.
    #[arg(long, value_name = "PATH", help_heading = INPUT)]
    pub tokens: PathBuf,
    /// --tokens was generated by a model that was trained on this set
    ///
    /// Vocabulary, framing, number type and shape are those of the set. Without it, a .npy or .jsonl
    /// holds codes alone.
    #[arg(long, value_name = "SET", help_heading = INPUT)]
    pub like: Option<PathBuf>,
    /// Leave out generated rows that cannot be decoded, and list them
    #[arg(long, help_heading = INPUT)]
    pub skip_bad: bool,
    /// Decode only the first N rows
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = INPUT
    )]
    pub limit: Option<u64>,
    /// Folder for the images, as PNG
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: PathBuf,
    /// Write contact sheets of 64 images instead of single images
    #[arg(long, help_heading = OUTPUT)]
    pub sheets: bool,
    /// Rows per batch [default: the config's eval.batch_size]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = JOB
    )]
    pub batch_size: Option<u32>,
    /// Decode even if another tokenizer made the tokens
    #[arg(long, help_heading = JOB)]
    pub force: bool,
    /// Which checkpoint of a run: last, best or step-N [default: the one that made the tokens]
    #[arg(long, value_name = "WHICH", help_heading = WEIGHTS)]
    pub checkpoint: Option<Which>,
    /// Weights of a run: raw, or ema for the moving average [default: those that made the tokens]
    #[arg(long, value_name = "WHICH", help_heading = WEIGHTS)]
    pub weights: Option<Weights>,
    /// Precision of the computation: fp32 or bf16
    #[arg(long, value_name = "TYPE", default_value = "fp32", help_heading = WEIGHTS)]
    pub precision: Precision,
    /// Positions at sizes beyond the trained one: none, interpolate or ntk [default: the set's]
    ///
    /// By default those with which the tokens were made.
    #[arg(long, value_name = "HOW", help_heading = WEIGHTS, hide_short_help = true)]
    pub positions: Option<Extension>,
    /// Where and how to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Arguments of `pixtok inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A folder that `pixtok encode` made, or a file in it
    pub tokens: PathBuf,
}

/// Arguments of `pixtok merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// All parts of one division, folders that hold them, or whole sets
    ///
    /// The rows follow each other in this order.
    #[arg(required = true)]
    pub parts: Vec<PathBuf>,
    /// Merge some parts of a division although others are missing
    ///
    /// The sidecar lists the missing ones.
    #[arg(long, help_heading = INPUT)]
    pub partial: bool,
    /// Folder for the merged set
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: PathBuf,
    /// Rows per shard.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = OUTPUT,
        help = merged_rows_help()
    )]
    pub shard_rows: Option<u64>,
}

/// Every format, with its other names.
fn format_help() -> String {
    let named = |kind: &FormatKind| match kind.aliases().collect::<Vec<_>>() {
        aliases if aliases.is_empty() => kind.to_string(),
        aliases => format!("{kind} (also called {})", aliases.join(", ")),
    };
    let names: Vec<String> = FormatKind::ALL.iter().map(named).collect();
    names.join(", ")
}

fn merged_rows_help() -> String {
    let formats = FormatKind::list(|format| format.merges_into_one(), "and");
    format!("Rows per shard [default: one shard for {formats}, otherwise {SHARD_ROWS}]")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// The help that `-h` prints on a terminal of 100 columns.
    fn short(name: &str) -> String {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        cli.find_subcommand_mut(name).unwrap().render_help().to_string()
    }

    #[test]
    fn the_short_help_of_encode_is_grouped_and_fits_a_screen() {
        let help = short("encode");
        assert!(help.lines().count() <= 60, "{} lines:\n{help}", help.lines().count());
        let places: Vec<usize> = ["Input", "Pictures", "Ids", "Output", "Job", "Weights", "Device"]
            .iter()
            .map(|heading| {
                help.find(&format!("\n{heading}:\n")).unwrap_or_else(|| panic!("{heading}: {help}"))
            })
            .collect();
        assert!(places.is_sorted(), "{help}");
        for flag in
            ["--data", "--label-column", "--fit", "--vocab-offset", "--out", "--val-share", "--verify"]
        {
            assert!(help.contains(flag), "{flag} is missing:\n{help}");
        }
        // One line a flag.
        let options = help.lines().filter(|line| line.trim_start().starts_with('-'));
        assert!(options.count() >= 30, "{help}");
        assert!(!help.contains("--bos"), "{help}");
    }

    #[test]
    fn the_short_help_of_every_command_fits_a_screen_in_one_order() {
        let order = ["Options", "Input", "Run", "Pictures", "Ids", "Only with a sweep", "Measures"];
        let order: Vec<&str> = order.into_iter().chain(["Output", "Job", "Weights", "Device"]).collect();
        for command in Cli::command().get_subcommands() {
            let (name, help) = (command.get_name(), short(command.get_name()));
            assert!(help.lines().count() <= 60, "{name}: {} lines:\n{help}", help.lines().count());
            assert!(help.lines().all(|line| line.chars().count() <= 100), "{name}:\n{help}");
            let headings = order.iter().filter_map(|heading| help.find(&format!("\n{heading}:\n")));
            assert!(headings.is_sorted(), "{name}:\n{help}");
        }
    }

    #[test]
    fn help_has_every_format() {
        let joined = |name: &str| short(name).split_whitespace().collect::<Vec<_>>().join(" ");
        let encode = joined("encode");
        assert!(encode.contains("npy, raw (also called nanogpt, bin), jsonl, "), "{encode}");
        for kind in FormatKind::ALL {
            assert!(encode.contains(&kind.to_string()), "{kind} is missing: {encode}");
        }
        let merge = joined("merge");
        for part in ["[default: one shard for npy, raw, jsonl", ", otherwise 10000]"] {
            assert!(merge.contains(part), "{merge}");
        }
    }

    #[test]
    fn shares_lie_between_0_and_1() {
        for (text, expected) in
            [("0.01", Some(0.01)), (" .5", Some(0.5)), ("0", None), ("1", None), ("NaN", None)]
        {
            assert_eq!(share(text).ok(), expected, "{text}");
        }
    }
}
