//! Everything that decides what an export's files hold, worked out before the first image.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::Device;

use super::ids::{IdOptions, Ids};
use super::{Batching, Coder, ExportSplit, Part, SHARD_ROWS, ShardSize, Subset};
use crate::codec::Codec;
use crate::model::nearest_multiples;
use crate::run::{Compute, ModelChoice, Opened, Pick};
use pixtok_base::Misuse;
use pixtok_images::data::{self, Fit, ImageSize, Prepare, SampleSet};
use pixtok_tokens::{
    Counts, Division, Dtype, FormatKind, Grid, MAX_ID, Preprocessing, SideFiles, Sidecar, Source, StatedGrid,
    StatedPrefix, StatedVocabulary,
};

/// The options of an export.
#[derive(Debug, Clone)]
pub struct EncodeOptions {
    /// A run or a model folder, or an adapter.
    pub tokenizer: PathBuf,
    /// How the tokenizer is used.
    pub choice: ModelChoice,
    /// Where and how to compute.
    pub compute: Compute,
    /// The images.
    pub data: PathBuf,
    /// What to take from the images.
    pub take: TakeOptions,
    /// The folder for the token files.
    pub out: PathBuf,
    /// The format of the token files.
    pub format: FormatKind,
    /// Whether to encode whole pictures in their own shape instead of cutting them to one size.
    pub whole: bool,
    /// The side of the images in pixels, instead of the config's.
    pub image_size: Option<u32>,
    /// The short side that pictures are first resized to; absent: the smallest that covers the
    /// image, not the config's.
    pub resize: Option<u32>,
    /// Whether to encode the mirror image of each image too.
    pub flip: bool,
    /// How many of the first tokens of an image are stored, or of the stages of a residual quantizer;
    /// absent: all.
    pub prefix: Option<u32>,
    /// How codes are stored.
    pub ids: IdOptions,
    /// Rows in a shard.
    pub shard_rows: Option<u64>,
    /// Bytes of ids in a shard, instead of a number of rows.
    pub shard_bytes: Option<u64>,
    /// The part to encode; absent: the part that a launcher's environment states.
    pub part: Option<Part>,
    /// The share of the images, above 0 and below 1, that go to a second set for validation.
    pub val_share: Option<f64>,
    /// Whether to start each key with the name of its tar.
    pub prefix_keys: bool,
    /// Images in a batch, instead of the config's.
    pub batch_size: Option<u32>,
    /// Whether to read rows back and compare them with what their images give.
    pub verify: bool,
}

/// What to take from the images and from the data beside them.
#[derive(Debug, Clone, Default)]
pub struct TakeOptions {
    /// The selection of images.
    pub pick: Pick,
    /// The column with the labels.
    pub label_column: Option<String>,
    /// The column with the captions.
    pub text_column: Option<String>,
    /// A file with the class names in order.
    pub classes: Option<PathBuf>,
}

/// The name that the user writes for a prefix of keys.
pub(super) const KEY_PREFIX: &str = "shard";

/// An export that is ready to run.
pub(super) struct Plan<'a> {
    pub coder: Coder<'a>,
    pub map: Option<Vec<u8>>,
    pub prepare: Prepare,
    pub batching: Batching,
    /// The sidecar, as far as it is known.
    pub sidecar: Sidecar,
    /// The content of `job.json`.
    pub job: Value,
    /// What differs from how the tokenizer's own images are prepared.
    pub note: Option<String>,
    /// The size of the vocabulary of the model that reads the files: as given, or else up to the
    /// largest id.
    pub ids_of_reader: u64,
}

impl<'a> Plan<'a> {
    pub fn new(
        options: &EncodeOptions,
        opened: &'a Opened,
        set: &SampleSet,
        subset: Subset,
        device: Device,
    ) -> Result<Self> {
        let data = data_config(options, opened)?;
        let (codec, prefix) = opened.first(options.prefix)?;
        let grid = stated_grid(options, (opened, &*codec), &data)?;
        let ids = Ids::new(&options.ids, options.format, codes(options, opened)?, grid.downsample)?;
        let coder = coder(options, opened, &*codec, &ids)?;
        let fit = if options.whole {
            // So that ids can state the size of every grid.
            Fit::Whole { factor: opened.side_multiple() * ids.framing.size.step() }
        } else {
            Fit::Centre
        };
        let tokenizer = (opened, &*codec, prefix);
        let sidecar = sidecar(options, tokenizer, set, subset, (&data, grid), &ids, &coder)?;
        options.format.format().check(&sidecar.layout())?;
        let batch_size = options.batch_size.map_or(opened.batch_size(), |size| size as usize);
        let views = u64::from(sidecar.views);
        let shard = match (options.shard_bytes, options.shard_rows) {
            (Some(bytes), _) => ShardSize::Bytes(bytes),
            (None, rows) => ShardSize::Images((rows.unwrap_or(SHARD_ROWS) / views).max(1)),
        };
        let positions = sidecar.grid.constant().map_or(1, Grid::positions) as u64;
        let ids_each = sidecar.length.map_or(u64::from(coder.numbers()), u64::from);
        let batching = Batching {
            batch_size,
            shard,
            bytes_per_position: (ids_each * sidecar.dtype.bytes() as u64 * views).div_ceil(positions),
            grid: sidecar.grid,
            subset,
            workers: data.workers,
            fit,
            format: options.format,
            mirrored: options.flip,
        };
        let ids_of_reader = sidecar.ids_of_reader(&ids.vocabulary);
        let job = json!({
            "pixtok": env!("CARGO_PKG_VERSION"),
            "set": sidecar,
            "sizes": set.sizes()?,
            "batch_size": batch_size,
            "shard": shard,
            "precision": options.choice.precision,
            "device": if device == Device::Cpu { "cpu" } else { "cuda" },
            "threads": if device == Device::Cpu { tch::get_num_threads() } else { 0 },
        });
        let prepare = Prepare::new(&data, fit);
        let note = other_resize(options, opened, &data);
        Ok(Self { coder, map: ids.map, prepare, batching, sidecar, job, note, ids_of_reader })
    }
}

/// The tokenizer's own settings, with the values that flags override.
fn data_config(options: &EncodeOptions, opened: &Opened) -> Result<data::Config> {
    // Buckets are for training. They would forbid another size and a resize.
    let mut data = data::Config { buckets: None, ..opened.data() };
    let multiple = opened.side_multiple();
    if let Some(side) = options.image_size {
        if options.whole {
            return Err(Misuse(
                "--image-size is for --fit centre; give whole pictures a short side with --resize".into(),
            )
            .into());
        }
        if let Some(only) = opened.only_size().filter(|only| only.height != side || only.width != side) {
            return Err(of_one_size(&format!("--image-size is {side}"), only));
        }
        if side % multiple != 0 {
            return Err(Misuse(format!(
                "--image-size {side} is no multiple of the tokenizer's downsampling by {multiple}; the nearest that are: {}",
                nearest_multiples(i64::from(side), i64::from(multiple))
            ))
            .into());
        }
        data.image_size = ImageSize { height: side, width: side };
    }
    let replaced = options.image_size.is_some() || options.whole;
    // Without --resize as little as possible is cut. Where the config's resize does just that, it
    // stays stated, so that sets of older versions can be joined and their jobs continued.
    let ImageSize { height, width } = data.image_size;
    let covers = |&short: &u32| !replaced && short == height && short == width;
    data.resize = options.resize.or(data.resize.filter(covers));
    if !options.whole {
        data.check()?;
    }
    Ok(data)
}

/// A note if pictures are resized otherwise than for the tokenizer's evaluations, and no flag asked
/// for that.
fn other_resize(options: &EncodeOptions, opened: &Opened, data: &data::Config) -> Option<String> {
    let asked = options.resize.is_some() || options.image_size.is_some() || options.whole;
    let own = opened.data().resize.filter(|_| !asked && data.resize.is_none())?;
    Some(format!(
        "the tokenizer's config has data.resize = {own}, which cuts more of each picture; --resize {own} prepares them \
         as `pixtok eval` and `pixtok prepare` do"
    ))
}

/// The number of different values of a stored code.
fn codes(options: &EncodeOptions, opened: &Opened) -> Result<u32> {
    let size = if options.ids.digits {
        let radix = opened.radix().ok_or_else(|| {
            Misuse("--digits is for quantizers whose indices are made of digits (fsq, lfq, bsq and residual or grouped ones of them)".into())
        })?;
        radix.levels().iter().copied().max().unwrap_or(1)
    } else {
        opened.codec().vocabulary().size
    };
    u32::try_from(size).context("the codebook is too large for 32 bits")
}

fn coder<'a>(options: &EncodeOptions, opened: &'a Opened, codec: &dyn Codec, ids: &Ids) -> Result<Coder<'a>> {
    let coder = Coder {
        codebooks: u32::try_from(codec.vocabulary().codebooks).context("too many codebooks")?,
        radix: if options.ids.digits { opened.radix() } else { None },
        arrangement: options.ids.arrange.unwrap_or_default(),
        vocabulary: ids.vocabulary.clone(),
        framing: ids.framing.clone(),
    };
    if options.ids.arrange.is_some() && coder.numbers() == 1 {
        return Err(Misuse(
            "--arrange is for several codebooks or --digits; here each position has one number".into(),
        )
        .into());
    }
    Ok(coder)
}

/// The shape of the images' tokens.
fn stated_grid(
    options: &EncodeOptions,
    (opened, codec): (&Opened, &dyn Codec),
    data: &data::Config,
) -> Result<StatedGrid> {
    let size = data.image_size;
    let shape = codec.shape(size)?;
    let same = StatedGrid::of(shape, [size.height, size.width])?;
    if !options.whole {
        return Ok(same);
    }
    if same.is_sequence() {
        return Err(Misuse(
            "--fit whole is for tokens in a grid, whose size follows the picture's; the tokens of this tokenizer are a \
             sequence, so give --fit centre"
                .into(),
        )
        .into());
    }
    if let Some(only) = opened.only_size() {
        return Err(of_one_size("--fit whole keeps the shape of each picture", only));
    }
    Ok(StatedGrid { h: None, w: None, ..same })
}

/// The error that a flag asks for images of other sizes than the only one.
fn of_one_size(flag: &str, ImageSize { height, width }: ImageSize) -> anyhow::Error {
    Misuse(format!(
        "{flag}, and this tokenizer takes images of exactly {height}×{width} pixels; leave it out"
    ))
    .into()
}

fn sidecar(
    options: &EncodeOptions,
    (opened, codec, prefix): (&Opened, &dyn Codec, Option<StatedPrefix>),
    set: &SampleSet,
    subset: Subset,
    (data, stated_grid): (&data::Config, StatedGrid),
    ids: &Ids,
    coder: &Coder,
) -> Result<Sidecar> {
    let ImageSize { height, width } = data.image_size;
    let centre = !options.whole;
    let shape = stated_grid.constant().map(|grid| stated_grid.shape(grid));
    let side = stated_grid.longest_side();
    ids.framing.check_sizes(side, &ids.vocabulary, options.ids.vocab_size)?;
    let largest = largest_id(ids, side)?;
    let length = shape.map(|shape| coder.length(shape)).transpose()?.map(|length| length as u32);
    Ok(Sidecar {
        format_version: Sidecar::version(),
        pixtok: env!("CARGO_PKG_VERSION").to_owned(),
        format: options.format,
        tokenizer: opened.stated(codec, options.ids.digits, coder.numbers(), coder.arrangement)?,
        made_by: opened.made_by(&options.tokenizer),
        positions: opened.stated_positions(),
        dtype: dtype(options, largest)?,
        order: "row-major".into(),
        grid: stated_grid,
        prefix,
        image_size: centre.then_some([height, width]),
        preprocessing: preprocessing(data, centre)?,
        vocabulary: stated_vocabulary(ids, options.format),
        specials: ids.framing.clone(),
        vocab_size: options.ids.vocab_size,
        // Worked out when the set is finished.
        ids: None,
        axes: coder.axes(stated_grid.is_sequence()),
        length,
        views: if options.flip { 2 } else { 1 },
        names: ids.names.clone(),
        document_index: options.ids.document_index,
        source: Source {
            kind: set.kind().to_owned(),
            path: options.data.display().to_string(),
            blake3: set.fingerprint(),
            part: (subset.part.count > 1).then(|| subset.part.to_string()),
            division: subset.division,
            labels_used: set.labels_used().filter(|_| subset.division == Division::Files),
            parts: vec![],
            key_prefix: options.prefix_keys.then(|| KEY_PREFIX.to_owned()),
            split: subset.split.map(ExportSplit::stated),
            classes: set.classes().to_vec(),
            notes: set.notes().to_vec(),
        },
        sources: vec![],
        shard_rows: vec![],
        counts: Counts::default(),
    })
}

/// The largest id that can be stored for grids with sides up to `side`.
fn largest_id(ids: &Ids, side: u32) -> Result<u64> {
    let largest = u64::from(ids.vocabulary.largest().max(ids.framing.largest(side)));
    if largest > MAX_ID {
        return Err(
            Misuse(format!("the largest id is {largest}, which is not below 2^31; move ids down")).into()
        );
    }
    Ok(largest)
}

/// The number type of ids up to `largest`: the requested one, or else the one that the format's
/// readers choose.
fn dtype(options: &EncodeOptions, largest: u64) -> Result<Dtype> {
    let format = options.format.format();
    let Some(dtype) = options.ids.dtype else {
        return Ok(format.dtype(largest + 1, options.ids.vocab_size));
    };
    if !format.takes_any_dtype() {
        return Err(Misuse(format!(
            "--dtype is for --format {}; {} chooses its own number type, so leave it out",
            FormatKind::list(|format| format.takes_any_dtype(), "and"),
            options.format
        ))
        .into());
    }
    let most = u64::from(dtype.largest());
    if largest > most {
        return Err(Misuse(format!(
            "--dtype u16 holds ids up to {most}, and the largest that can occur is {largest}; give --dtype i32, or move the ids down"
        ))
        .into());
    }
    Ok(dtype)
}

fn preprocessing(data: &data::Config, centre: bool) -> Result<Preprocessing> {
    let filter = serde_json::to_value(data.filter).context("cannot state the filter")?;
    Ok(Preprocessing {
        resize: data.resize,
        filter: filter.as_str().unwrap_or_default().to_owned(),
        crop: if centre { "centre" } else { "whole" }.into(),
        exif: "applied".into(),
        background: data.background,
        lenient_jpeg: data.lenient_jpeg,
        normalisation: "x / 127.5 - 1".into(),
    })
}

fn stated_vocabulary(ids: &Ids, format: FormatKind) -> StatedVocabulary {
    match (&ids.map, ids.vocabulary.first_id()) {
        (Some(map), _) => StatedVocabulary::Map {
            map: SideFiles::of(format).map.into(),
            map_blake3: blake3::hash(map).to_hex().to_string(),
        },
        (None, first) => StatedVocabulary::Offset { offset: first.unwrap_or(0) },
    }
}
