//! All that decides what an export's files hold, worked out before the first image.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::Device;

use super::ids::Ids;
use crate::cli::{EncodeArgs, FitChoice};
use crate::commands::Misuse;
use crate::commands::usable::Usable;
use pixtok_images::data::{self, Fit, ImageSize, Prepare, SampleSet};
use crate::export::{Batching, Part, SHARD_ROWS, ShardSize};
use pixtok_tokens::{
    Coder, Counts, Dtype, FormatKind, Grid, MAX_ID, Preprocessing, SideFiles, Sidecar, Source, StatedGrid,
    StatedVocabulary,
};

/// An export, ready to run.
pub(super) struct Plan<'a> {
    pub coder: Coder<'a>,
    pub map: Option<Vec<u8>>,
    pub prepare: Prepare,
    pub batching: Batching,
    /// As far as it is known.
    pub sidecar: Sidecar,
    /// What `job.json` says.
    pub job: Value,
    /// Ids in the vocabulary of the model that reads the files: as said, else up to the largest.
    pub ids_of_reader: u64,
}

impl<'a> Plan<'a> {
    pub fn new(
        args: &EncodeArgs,
        usable: &'a Usable,
        set: &SampleSet,
        part: Part,
        device: Device,
    ) -> Result<Self> {
        let downsample = usable.downsample();
        let data = data_config(args, usable)?;
        let ids = Ids::new(&args.ids, args.format, codes(args, usable)?, downsample)?;
        let coder = coder(args, usable, &ids)?;
        let fit = match args.images.fit {
            FitChoice::Centre => Fit::Centre,
            // So that the size of every grid can be told.
            FitChoice::Whole => Fit::Whole { factor: downsample * ids.framing.size.step() },
        };
        let sidecar = sidecar(args, usable, set, part, &data, &ids, &coder)?;
        args.format.format().check(&sidecar.layout())?;
        let batch_size = args.batch_size.map_or(usable.batch_size(), |size| size as usize);
        let views = u64::from(sidecar.views);
        let shard = match (args.shard_bytes, args.shard_rows) {
            (Some(bytes), _) => ShardSize::Bytes(bytes),
            (None, rows) => ShardSize::Images((rows.unwrap_or(SHARD_ROWS) / views).max(1)),
        };
        let positions = sidecar.grid.constant().map_or(1, Grid::positions) as u64;
        let ids_each = sidecar.length.map_or(u64::from(coder.numbers()), u64::from);
        let batching = Batching {
            batch_size,
            shard,
            bytes_per_position: (ids_each * sidecar.dtype.bytes() as u64 * views).div_ceil(positions),
            downsample,
            part,
            workers: data.workers,
            fit,
            format: args.format,
            mirrored: args.images.flip,
        };
        let ids_of_reader = sidecar.ids_of_reader(&ids.vocabulary);
        let job = json!({
            "pixtok": env!("CARGO_PKG_VERSION"),
            "set": sidecar,
            "sizes": set.sizes()?,
            "batch_size": batch_size,
            "shard": shard,
            "precision": args.model.precision,
            "device": if device == Device::Cpu { "cpu" } else { "cuda" },
            "threads": if device == Device::Cpu { tch::get_num_threads() } else { 0 },
        });
        let prepare = Prepare::new(&data, fit);
        Ok(Self { coder, map: ids.map, prepare, batching, sidecar, job, ids_of_reader })
    }
}

/// The tokenizer's own settings, with what the flags say in their place.
fn data_config(args: &EncodeArgs, usable: &Usable) -> Result<data::Config> {
    let mut data = usable.data();
    let downsample = usable.downsample();
    if let Some(side) = args.images.image_size {
        if args.images.fit == FitChoice::Whole {
            return Err(Misuse(
                "--image-size is for --fit centre; give whole pictures a short side with --resize".into(),
            )
            .into());
        }
        if side % downsample != 0 {
            let below = (side / downsample).max(1) * downsample;
            return Err(Misuse(format!(
                "--image-size {side} is no multiple of the tokenizer's downsampling by {downsample}; the nearest that are: {below} or {}",
                below + downsample
            ))
            .into());
        }
        data.image_size = ImageSize { height: side, width: side };
    }
    if args.images.resize.is_some() || args.images.image_size.is_some() || args.images.fit == FitChoice::Whole
    {
        data.resize = args.images.resize;
    }
    if args.images.fit == FitChoice::Centre {
        data.check()?;
    }
    Ok(data)
}

/// Different numbers that a stored code can be.
fn codes(args: &EncodeArgs, usable: &Usable) -> Result<u32> {
    let size = if args.ids.digits {
        let radix = usable.radix().ok_or_else(|| {
            Misuse("--digits is for quantizers whose indices are made of digits (fsq, lfq, bsq and residual or grouped ones of them)".into())
        })?;
        radix.levels().iter().copied().max().unwrap_or(1)
    } else {
        usable.codec().vocabulary().size
    };
    u32::try_from(size).context("the codebook is too large for 32 bits")
}

fn coder<'a>(args: &EncodeArgs, usable: &'a Usable, ids: &Ids) -> Result<Coder<'a>> {
    let coder = Coder {
        codebooks: u32::try_from(usable.codec().vocabulary().codebooks).context("too many codebooks")?,
        radix: if args.ids.digits { usable.radix() } else { None },
        arrangement: args.ids.arrange.unwrap_or_default(),
        vocabulary: ids.vocabulary.clone(),
        framing: ids.framing.clone(),
    };
    if args.ids.arrange.is_some() && coder.numbers() == 1 {
        return Err(Misuse(
            "--arrange is for several codebooks or --digits; here each position has one number".into(),
        )
        .into());
    }
    Ok(coder)
}

fn sidecar(
    args: &EncodeArgs,
    usable: &Usable,
    set: &SampleSet,
    part: Part,
    data: &data::Config,
    ids: &Ids,
    coder: &Coder,
) -> Result<Sidecar> {
    let downsample = usable.downsample();
    let ImageSize { height, width } = data.image_size;
    let centre = args.images.fit == FitChoice::Centre;
    let grid = centre.then_some(Grid { h: height / downsample, w: width / downsample });
    let stated_grid = StatedGrid { h: grid.map(|grid| grid.h), w: grid.map(|grid| grid.w), downsample };
    let side = stated_grid.longest_side();
    ids.framing.check_sizes(side, &ids.vocabulary, args.ids.vocab_size)?;
    let largest = largest_id(ids, side)?;
    let length = grid.map(|grid| coder.length(grid)).transpose()?.map(|length| length as u32);
    Ok(Sidecar {
        format_version: Sidecar::version(),
        pixtok: env!("CARGO_PKG_VERSION").to_owned(),
        format: args.format,
        tokenizer: usable.stated(args.ids.digits, coder.numbers(), coder.arrangement)?,
        dtype: dtype(args, largest)?,
        order: "row-major".into(),
        grid: stated_grid,
        image_size: centre.then_some([height, width]),
        preprocessing: preprocessing(data, centre)?,
        vocabulary: stated_vocabulary(ids, args.format),
        specials: ids.framing.clone(),
        vocab_size: args.ids.vocab_size,
        axes: coder.axes(),
        length,
        views: if args.images.flip { 2 } else { 1 },
        names: ids.names.clone(),
        document_index: args.ids.document_index,
        source: Source {
            kind: set.kind().to_owned(),
            path: args.data.display().to_string(),
            blake3: set.fingerprint(),
            part: (part.count > 1).then(|| part.to_string()),
            parts: vec![],
            key_prefix: args.key_prefix.map(|prefix| prefix.to_string()),
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

/// The number type of ids up to `largest`: the requested one, else the one that the format's
/// readers choose.
fn dtype(args: &EncodeArgs, largest: u64) -> Result<Dtype> {
    let format = args.format.format();
    let Some(dtype) = args.ids.dtype else {
        return Ok(format.dtype(largest + 1, args.ids.vocab_size));
    };
    if !format.takes_any_dtype() {
        return Err(Misuse(format!(
            "--dtype is for --format raw, npy and megatron; {} chooses its own number type, so leave it out",
            args.format
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
