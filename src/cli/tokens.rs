//! The commands that turn images into token files and back.

use std::path::PathBuf;

use clap::Args;

use super::{ModelArgs, PickArgs};
use crate::export::Part;
use pixtok_base::MAX_SIDE;
use pixtok_tokens::{Arrangement, Dtype, FormatKind, Preset, SizeTokens};

pub(super) const ENCODE_HELP: &str = "\
Examples:
  pixtok encode checkpoints/photos96-fsq --data ~/pictures --out tokens --format parquet
  pixtok encode checkpoints/photos96-fsq --data cc12m/ --out tokens --format webdataset --verify
  pixtok encode checkpoints/photos96-fsq --data list.jsonl --out tokens --format megatron --vocab-offset 32000 --append-eod 2
  pixtok encode checkpoints/photos96-fsq --data ~/pictures --out tokens --format jsonl --fit whole --preset show-o
  torchrun --no-python --nproc-per-node 8 pixtok encode RUN --data cc12m/ --out tokens --format mds

The same command again goes on where it was stopped; finished shards are not made again.";

pub(super) const DECODE_HELP: &str = "\
Examples:
  pixtok decode checkpoints/photos96-fsq --tokens tokens --out pictures
  pixtok decode checkpoints/photos96-fsq --tokens tokens/train-00000-of-00002.parquet --out pictures --limit 64 --sheets";

/// Of `pixtok encode`.
#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// A run folder, a folder with a config.toml and a model.safetensors, or an adapter (.toml) of a TorchScript pair
    pub tokenizer: PathBuf,
    /// How the tokenizer is used
    #[command(flatten)]
    pub model: ModelArgs,
    /// Images: a folder, a WebDataset .tar or a folder of them, a Hugging Face .parquet or a folder of them, or a .jsonl list
    /// of paths
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// What to take from them
    #[command(flatten)]
    pub take: TakeArgs,
    /// Folder for the token files. One of several parts gets a folder in it
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// npy, raw, jsonl, parquet, webdataset, megatron, mds, litdata or llamagen
    #[arg(long)]
    pub format: FormatKind,
    /// What becomes of a picture
    #[command(flatten)]
    pub images: ImageArgs,
    /// What is stored of its codes
    #[command(flatten)]
    pub ids: IdArgs,
    /// Rows in a shard [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "shard_bytes")]
    pub shard_rows: Option<u64>,
    /// Bytes of ids in a shard, about, in place of --shard-rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_bytes: Option<u64>,
    /// Encode part i of n alone, from 0; which images those are, their keys decide [default: as the environment of torchrun,
    /// srun, mpirun or an indexed Kubernetes job says, else everything]
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Part>,
    /// shard: begin each key with the name of its tar and a slash, for tars that each count their
    /// keys from 0
    #[arg(long, value_name = "WHAT")]
    pub key_prefix: Option<KeyPrefix>,
    /// Images in a batch [default: the config's eval.batch_size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: Option<u32>,
    /// Read rows of the finished files back and compare them with what their images give
    #[arg(long)]
    pub verify: bool,
}

/// What keys begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyPrefix {
    /// The name of the tar.
    Shard,
}

/// What to take from the images and from what is known of them.
#[derive(Debug, Args)]
pub struct TakeArgs {
    /// Which images to use
    #[command(flatten)]
    pub pick: PickArgs,
    /// The column with the labels; for tars their ending, for lists and metadata their field
    /// [default: label, cls or the like]. Labels that are not whole numbers are class names,
    /// numbered in sorted order
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
    /// The column, ending or field with the captions [default: in each row the first of text,
    /// caption, txt and captions that has one]
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// A file with the class names, one per line, which are numbered in this order instead of the
    /// sorted one
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
}

/// What becomes of a picture before it is encoded.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// centre: resized and cut at the centre to the size of images; whole: all of it at its own shape, each side rounded to a
    /// multiple of the downsampling
    #[arg(long, value_name = "HOW", default_value = "centre")]
    pub fit: FitChoice,
    /// Side in pixels of the images, in place of the config's data.image_size; what is resized before the cut is then only what
    /// --resize says
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    pub image_size: Option<u32>,
    /// Resize the picture's short side to this first, in place of the config's data.resize (which whole pictures ignore)
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    pub resize: Option<u32>,
    /// Also encode the mirror image of each, under the key with ~flip after it
    #[arg(long)]
    pub flip: bool,
}

/// Which part of a picture is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FitChoice {
    /// Cut at the centre to one size.
    Centre,
    /// All of it.
    Whole,
}

/// From codes to stored ids.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// Vocabulary and framing of a published model: raw, llamagen, janus, show-o, emu3, chameleon, lumina-mgpt or
    /// unified-io-2. Other flags change single ids of it
    #[arg(long, value_name = "MODEL")]
    pub preset: Option<Preset>,
    /// Code i becomes id N + i
    #[arg(long, value_name = "N", conflicts_with = "vocab_map")]
    pub vocab_offset: Option<u32>,
    /// Code i becomes the i-th id of a JSON array
    #[arg(long, value_name = "FILE")]
    pub vocab_map: Option<PathBuf>,
    /// Refuse ids that are not below this; the number type of --format raw follows it, as in
    /// OLMo-core
    #[arg(long, value_name = "N")]
    pub vocab_size: Option<u64>,
    /// Number type of the ids in raw, npy and megatron: u16, or i32, which reads the same as uint32
    /// [default: u16 if the largest id is below 65499; with raw and --vocab-size, u16 if that size
    /// is at most 65536]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
    /// Id before everything
    #[arg(long, value_name = "ID")]
    pub bos: Option<u32>,
    /// Id where the image begins
    #[arg(long, value_name = "ID")]
    pub boi: Option<u32>,
    /// Id before the first code, after the size
    #[arg(long, value_name = "ID")]
    pub img: Option<u32>,
    /// Id after every row of the grid, the last too
    #[arg(long, value_name = "ID")]
    pub eol: Option<u32>,
    /// Id after the last row
    #[arg(long, value_name = "ID")]
    pub eof: Option<u32>,
    /// Id where the image ends
    #[arg(long, value_name = "ID")]
    pub eoi: Option<u32>,
    /// Id after everything
    #[arg(long, value_name = "ID")]
    pub eos: Option<u32>,
    /// Id that ends the document
    #[arg(long, value_name = "ID")]
    pub append_eod: Option<u32>,
    /// How ids tell the size of the grid: none; grid:BASE[:DIV] for BASE + h/DIV and BASE + w/DIV; text:ID,… for h*w spelt
    /// with the ids of 0 to 9 and of *
    #[arg(long, value_name = "HOW")]
    pub size_tokens: Option<SizeTokens>,
    /// Store the digits of each index (FSQ, LFQ, BSQ) in place of the index
    #[arg(long)]
    pub digits: bool,
    /// Of several codebooks or digits: interleaved (those of a position side by side) or stacked (one grid after the other)
    /// [default: interleaved]
    #[arg(long, value_name = "ORDER")]
    pub arrange: Option<Arrangement>,
    /// With --format jsonl: write tokens as one string of names, for instance '<|visual token {:06}|>', and added_tokens.json
    #[arg(long, value_name = "PATTERN")]
    pub token_names: Option<String>,
    /// With --format raw: also write where each document ends
    #[arg(long)]
    pub document_index: bool,
}

/// Of `pixtok decode`.
#[derive(Debug, Args)]
pub struct DecodeArgs {
    /// The tokenizer that made the tokens: a run folder, a model folder, or an adapter of a TorchScript pair
    pub tokenizer: PathBuf,
    /// How the tokenizer is used
    #[command(flatten)]
    pub model: ModelArgs,
    /// A folder that `pixtok encode` made, or a file in it
    #[arg(long, value_name = "PATH")]
    pub tokens: PathBuf,
    /// Folder for the images, as PNG
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write contact sheets of 64 images in place of single ones
    #[arg(long)]
    pub sheets: bool,
    /// Decode the first N rows alone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Rows decoded at a time [default: the config's eval.batch_size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: Option<u32>,
    /// Decode although the tokens are another tokenizer's
    #[arg(long)]
    pub force: bool,
}

/// Of `pixtok inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A folder that `pixtok encode` made, or a file in it
    pub tokens: PathBuf,
}

/// Of `pixtok merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Folders of all parts of one division, or folders that hold them, or whole sets; rows follow
    /// each other in this order
    #[arg(required = true)]
    pub parts: Vec<PathBuf>,
    /// Join some parts of a division although others are missing; the sidecar lists them
    #[arg(long)]
    pub partial: bool,
    /// Folder for the joined set
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Rows in a shard [default: all in one for npy, raw, jsonl and megatron, else 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_rows: Option<u64>,
}
