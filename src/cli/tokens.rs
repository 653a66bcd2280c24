//! The commands that turn images into token files and back.

use std::path::PathBuf;

use clap::Args;

use super::{ComputeArgs, ModelArgs, PickArgs};
use crate::checkpoint::Which;
use crate::export::{Part, SHARD_ROWS};
use crate::train::Weights;
use pixtok_base::MAX_SIDE;
use pixtok_tokens::{Arrangement, Dtype, FormatKind, Preset, SizeTokens};
use pixtok_torch::Precision;

pub(super) const ENCODE_HELP: &str = "\
Examples:
  pixtok encode checkpoints/photos96-fsq --data ~/pictures --out tokens --format parquet
  pixtok encode checkpoints/photos96-fsq --data cc12m/ --out tokens --format webdataset --verify
  pixtok encode checkpoints/photos96-fsq --data list.jsonl --out tokens --format megatron --vocab-offset 32000 --append-eod 2
  pixtok encode checkpoints/photos96-fsq --data ~/pictures --out tokens --format jsonl --fit whole --preset show-o
  torchrun --no-python --nproc-per-node 8 pixtok encode RUN --data cc12m/ --out tokens --format mds

Run the same command again to continue after an interruption. Finished shards are kept.";

pub(super) const DECODE_HELP: &str = "\
Examples:
  pixtok decode checkpoints/photos96-fsq --tokens tokens --out pictures
  pixtok decode checkpoints/photos96-fsq --tokens tokens/train-00000-of-00002.parquet --out pictures --limit 64 --sheets
  pixtok decode checkpoints/photos96-fsq --tokens generated.npy --like tokens --out generated
  pixtok decode checkpoints/photos96-fsq --tokens codes.npy --out pictures

Generated ids are rows of the set: a list of ids a line in a .jsonl, an array [N, ids] in a .npy, the same without a
header in a .bin. The first ids of the framing may be missing, the last ones too, and the ends of rows altogether.";

/// Arguments of `pixtok encode`.
#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// A run folder, a folder with a config.toml and a model.safetensors, or an adapter (.toml) of
    /// a TorchScript pair
    pub tokenizer: PathBuf,
    /// Which weights, and how to compute.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Images: a folder, a WebDataset .tar or a folder of them, a Hugging Face .parquet or a folder
    /// of them, or a .jsonl list of paths
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Which images, labels and captions to use.
    #[command(flatten)]
    pub take: TakeArgs,
    /// Folder for the token files. With --shard, each part writes to its own folder in it
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Format of the token files.
    #[arg(long, help = format_help())]
    pub format: FormatKind,
    /// How images are prepared.
    #[command(flatten)]
    pub images: ImageArgs,
    /// How codes become stored ids.
    #[command(flatten)]
    pub ids: IdArgs,
    /// Rows per shard [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "shard_bytes")]
    pub shard_rows: Option<u64>,
    /// Approximate bytes of ids per shard, instead of --shard-rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_bytes: Option<u64>,
    /// Encode only part I of N, counted from 0. The key of an image decides which part it belongs
    /// to [default: taken from the environment of torchrun, srun, mpirun or an indexed Kubernetes
    /// job, otherwise everything]
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Part>,
    /// shard: begin each key with the name of its tar and a slash, for tars that each number their
    /// keys from 0
    #[arg(long, value_name = "WHAT")]
    pub key_prefix: Option<KeyPrefix>,
    /// Images per batch [default: the config's eval.batch_size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: Option<u32>,
    /// Read rows of the finished files back and compare them with the codes of their images
    #[arg(long)]
    pub verify: bool,
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
    /// The column with the labels; in tars the file extension, in lists and metadata the field
    /// [default: label, cls or similar]. Labels that are not whole numbers are class names, which
    /// are numbered in sorted order
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
    /// The column, file extension or field with the captions [default: in each row the first of
    /// text, caption, txt and captions that is present]
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// A file with the class names, one per line. They are numbered in this order instead of in
    /// sorted order
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
}

/// Arguments for how a picture is prepared before it is encoded.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// centre: resize, and crop at the centre to the image size; whole: keep the whole picture and
    /// its shape, with each side rounded to a multiple of the downsampling factor
    #[arg(long, value_name = "HOW", default_value = "centre")]
    pub fit: FitChoice,
    /// Side of the images in pixels, instead of the config's data.image_size. The picture is then
    /// resized before the crop only if --resize is given
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    pub image_size: Option<u32>,
    /// Resize the picture's short side to this before the crop, instead of the config's
    /// data.resize; ignored with --fit whole
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    pub resize: Option<u32>,
    /// Also encode the mirror image of each picture, with ~flip appended to its key
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
    /// Vocabulary and framing of a published model: raw, llamagen, janus, show-o, emu3, chameleon,
    /// lumina-mgpt or unified-io-2. Other flags override single ids of it
    #[arg(long, value_name = "MODEL")]
    pub preset: Option<Preset>,
    /// Code i becomes id N + i
    #[arg(long, value_name = "N", conflicts_with = "vocab_map")]
    pub vocab_offset: Option<u32>,
    /// Code i becomes the i-th id of this file, a JSON array
    #[arg(long, value_name = "FILE")]
    pub vocab_map: Option<PathBuf>,
    /// Refuse ids that are not below this. --format raw also chooses its number type by it, as
    /// OLMo-core does
    #[arg(long, value_name = "N")]
    pub vocab_size: Option<u64>,
    /// Number type of the ids, in formats that leave the choice: u16, or i32, which reads the same
    /// as uint32 [default: u16 if the largest id is below 65499; with raw and --vocab-size, u16 if
    /// that size is at most 65536]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
    /// Id at the very beginning (beginning of sequence)
    #[arg(long, value_name = "ID")]
    pub bos: Option<u32>,
    /// Id where the image begins
    #[arg(long, value_name = "ID")]
    pub boi: Option<u32>,
    /// Id before the first code, after the size
    #[arg(long, value_name = "ID")]
    pub img: Option<u32>,
    /// Id after every row of the grid, including the last
    #[arg(long, value_name = "ID")]
    pub eol: Option<u32>,
    /// Id after the last row
    #[arg(long, value_name = "ID")]
    pub eof: Option<u32>,
    /// Id where the image ends
    #[arg(long, value_name = "ID")]
    pub eoi: Option<u32>,
    /// Id at the very end (end of sequence)
    #[arg(long, value_name = "ID")]
    pub eos: Option<u32>,
    /// Id that ends the document
    #[arg(long, value_name = "ID")]
    pub append_eod: Option<u32>,
    /// How ids state the size of the grid: none; grid:BASE[:DIV] for BASE + h/DIV and BASE + w/DIV;
    /// text:ID,… for h*w spelt with the ids of 0 to 9 and of *
    #[arg(long, value_name = "HOW")]
    pub size_tokens: Option<SizeTokens>,
    /// Store the digits of each index (FSQ, LFQ, BSQ) instead of the index
    #[arg(long)]
    pub digits: bool,
    /// Order of several codebooks or digits: interleaved (all those of one position together) or
    /// stacked (one grid after the other) [default: interleaved]
    #[arg(long, value_name = "ORDER")]
    pub arrange: Option<Arrangement>,
    /// With --format jsonl: write tokens as one string of names, for instance '<|visual token
    /// {:06}|>', and write added_tokens.json
    #[arg(long, value_name = "PATTERN")]
    pub token_names: Option<String>,
    /// With --format raw: also write where each document ends
    #[arg(long)]
    pub document_index: bool,
}

/// Arguments of `pixtok decode`.
#[derive(Debug, Args)]
pub struct DecodeArgs {
    /// The tokenizer that made the tokens: a run folder, a model folder, or an adapter of a
    /// TorchScript pair
    pub tokenizer: PathBuf,
    /// Which checkpoint of a run: last, best or step-N [default: the one that made the tokens]
    #[arg(long, value_name = "WHICH")]
    pub checkpoint: Option<Which>,
    /// Which weights of a run: raw, or ema for the moving average [default: those that made the
    /// tokens]
    #[arg(long, value_name = "WHICH")]
    pub weights: Option<Weights>,
    /// Precision of the computation: fp32 or bf16
    #[arg(long, default_value = "fp32")]
    pub precision: Precision,
    /// Where and how to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// A folder that `pixtok encode` made, or a file in it; or a file of ids that a model
    /// generated: .npy, .bin or .jsonl
    #[arg(long, value_name = "PATH")]
    pub tokens: PathBuf,
    /// The set that the model was trained on: --tokens is then what it generated, with that set's
    /// vocabulary, framing and shape. Without it, a .npy or .jsonl holds codes alone
    #[arg(long, value_name = "SET")]
    pub like: Option<PathBuf>,
    /// Leave out generated rows that cannot be decoded, and list them
    #[arg(long)]
    pub skip_bad: bool,
    /// Folder for the images, as PNG
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write contact sheets of 64 images instead of single images
    #[arg(long)]
    pub sheets: bool,
    /// Decode only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Rows per batch [default: the config's eval.batch_size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: Option<u32>,
    /// Decode even if another tokenizer made the tokens
    #[arg(long)]
    pub force: bool,
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
    /// The folders of all parts of one division, folders that hold them, or whole sets. Their rows
    /// follow each other in this order
    #[arg(required = true)]
    pub parts: Vec<PathBuf>,
    /// Merge some parts of a division although others are missing. The sidecar lists the missing
    /// ones
    #[arg(long)]
    pub partial: bool,
    /// Folder for the merged set
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Rows per shard.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help = merged_rows_help())]
    pub shard_rows: Option<u64>,
}

/// Every format, with its other names.
fn format_help() -> String {
    let named = |kind: &FormatKind| match kind.aliases().collect::<Vec<_>>() {
        aliases if aliases.is_empty() => kind.to_string(),
        aliases => format!("{kind} (also called {})", aliases.join(", ")),
    };
    let names: Vec<String> = FormatKind::ALL.iter().map(named).collect();
    format!("Format of the token files: {}", names.join(", "))
}

fn merged_rows_help() -> String {
    let formats = FormatKind::list(|format| format.merges_into_one(), "and");
    format!("Rows per shard [default: one shard for {formats}, otherwise {SHARD_ROWS}]")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Cli;
    use super::*;

    #[test]
    fn help_has_every_format() {
        let help = |verb: &str| {
            let printed = Cli::try_parse_from(["pixtok", verb, "-h"]).unwrap_err().to_string();
            printed.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let encode = help("encode");
        assert!(encode.contains("token files: npy, raw (also called nanogpt, bin), jsonl, "), "{encode}");
        for kind in FormatKind::ALL {
            assert!(encode.contains(&kind.to_string()), "{kind} is missing: {encode}");
        }
        let merge = help("merge");
        for part in ["[default: one shard for npy, raw, jsonl", ", otherwise 10000]"] {
            assert!(merge.contains(part), "{merge}");
        }
    }
}
