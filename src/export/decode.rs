//! Decodes token files, and ids that a model generated, to images.

mod generated;
mod pictures;
mod wrong;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use tch::{Device, Tensor};

use self::pictures::Pictures;
use super::{Coder, changes, padded};
use crate::batches::picture_of;
use crate::checkpoint::Which;
use crate::codec::{Codec, Prefix};
use crate::outputs::make_empty;
use crate::run::{Compute, Opened, Tell, WeightsChoice};
use pixtok_base::Misuse;
use pixtok_base::paths::absence;
use pixtok_images::data::ImageSize;
use pixtok_tokens::{Generated, Row, Shard, SideFiles, Sidecar, StatedGrid, TokenSet};

/// The options of a decoding.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// The tokenizer that made the tokens.
    pub tokenizer: PathBuf,
    /// How the tokenizer is used. Weights and positions that the user doesn't name are those that
    /// made the tokens.
    pub choice: WeightsChoice,
    /// Where and how to compute.
    pub compute: Compute,
    /// A set of tokens, one file of a set, or a file of ids that a model generated.
    pub tokens: PathBuf,
    /// The set on which the model was trained; `tokens` is then what it generated.
    pub like: Option<PathBuf>,
    /// Whether to leave out generated rows that cannot be decoded.
    pub skip_bad: bool,
    /// The folder for the images, new or empty.
    pub out: PathBuf,
    /// Whether to write contact sheets instead of single images.
    pub sheets: bool,
    /// The number of rows to decode, from the first one; absent: all.
    pub limit: Option<u64>,
    /// Rows in a batch, instead of the config's batch size.
    pub batch_size: Option<u32>,
    /// Whether to decode tokens that were made by a different tokenizer.
    pub force: bool,
}

/// Writes the images of the rows and returns their number.
///
/// # Errors
/// When a different tokenizer made the tokens, when two rows would have the same file, when a
/// generated row is no image and is not to be left out, or when the tokenizer fails.
pub fn decode(options: &DecodeOptions, tell: Tell) -> Result<u64> {
    let input = Input::find(options)?;
    let device = options.compute.start(tell)?;
    let choice = match input.sidecar() {
        Some(Sidecar { tokenizer, made_by, positions, .. }) => {
            let choice = options.choice.with_positions_of(&options.tokenizer, *positions);
            choice.or_of(choice.maker(&options.tokenizer, tokenizer, made_by.as_ref(), tell)?)
        }
        None => options.choice.or_of(None),
    };
    let opened = Opened::open(&options.tokenizer, choice, options.batch_size, device, tell)?;
    match &input {
        Input::Sets(sets) => decode_by(&opened, device, sets, options, tell),
        Input::Generated { like } => {
            generated::decode_generated(&opened, device, like.as_deref(), options, tell)
        }
    }
}

/// What is decoded.
enum Input {
    Sets(Vec<TokenSet>),
    /// What a model generated, in the form of a set's rows, or as codes alone.
    Generated {
        like: Option<Box<TokenSet>>,
    },
}

impl Input {
    fn find(options: &DecodeOptions) -> Result<Self> {
        let tokens = &options.tokens;
        if let Some(like) = &options.like {
            if !tokens.exists() {
                let (shown, absence) = (tokens.display(), absence(tokens));
                let remedy = "give the .npy, .bin or .jsonl that the model wrote";
                return Err(Misuse(format!("{shown} {absence}; {remedy}")).into());
            }
            if !tokens.is_file() {
                return Err(Misuse(format!(
                    "{} is not a file, and --like is for a file of ids that a model generated; give a .npy, .bin or .jsonl with \
                     --tokens, or leave out --like",
                    tokens.display()
                ))
                .into());
            }
            // All sets that are found together were made alike.
            return Ok(Self::Generated { like: TokenSet::find(like)?.into_iter().next().map(Box::new) });
        }
        let in_set = tokens.parent().is_some_and(|folder| SideFiles::in_folder(folder).is_some());
        if tokens.is_file() && !in_set && Generated::has_ending(tokens) {
            return Ok(Self::Generated { like: None });
        }
        if options.skip_bad {
            return Err(Misuse(format!(
                "--skip-bad is for ids that a model generated, and {} is read as a set; leave it out",
                tokens.display()
            ))
            .into());
        }
        Ok(Self::Sets(TokenSet::find(tokens)?))
    }

    /// The sidecar that says which tokenizer is needed.
    fn sidecar(&self) -> Option<&Sidecar> {
        match self {
            Self::Sets(sets) => sets.first().map(|set| &set.sidecar),
            Self::Generated { like } => like.as_ref().map(|set| &set.sidecar),
        }
    }
}

/// Decodes these sets with a tokenizer that is open on `device`.
///
/// # Errors
/// The same as [`decode`].
pub fn decode_by(
    opened: &Opened,
    device: Device,
    sets: &[TokenSet],
    options: &DecodeOptions,
    tell: Tell,
) -> Result<u64> {
    for set in sets {
        wrong::check(set, opened, options, tell)?;
        if let Some(missing) = set.sidecar.source.missing() {
            tell.say(&format!("{}: {missing}", set.folder.display()));
        }
    }
    tell_checkpoint(opened, tell);
    if !options.sheets {
        let _checking = tell.work("checking the names of the images", None);
        let rows = sets.iter().flat_map(|set| {
            set.rows().map(move |row| Ok::<_, anyhow::Error>((Some(row?.key), set.folder.display())))
        });
        pictures::check_names(rows, options.limit)?;
    }
    make_empty(&options.out)?;
    let rows: u64 = sets.iter().flat_map(|set| &set.shards).map(|shard| shard.rows).sum();
    let work = tell.work("decoding", Some(options.limit.map_or(rows, |limit| rows.min(limit))));
    let mut pictures = Pictures::new(&options.out, options.sheets, work);
    let mut left = options.limit.unwrap_or(u64::MAX);
    for set in sets {
        let decoder = Decoder {
            codec: codec(set, opened)?,
            coder: coder(set, opened)?,
            shapes: Shapes { grid: set.sidecar.grid, image_size: set.sidecar.image_size },
            origin: set.folder.display().to_string(),
            batch_size: batch_size(options, opened),
            device,
        };
        if let Some(words) = changes(set, read_whole(set, left)) {
            tell.say(&words);
        }
        let rows = (0..left).zip(set.rows()).map(|(number, row)| Ok::<_, anyhow::Error>((number, row?)));
        left -= decoder.decode(rows, &mut pictures)?;
    }
    pictures.finish()
}

/// Says which weights of a run decode.
fn tell_checkpoint(opened: &Opened, tell: Tell) {
    if let Some((step, weights)) = opened.checkpoint() {
        tell.note(&format!("decoding with {}, {} weights", Which::Step(step), weights.name()));
    }
}

fn batch_size(options: &DecodeOptions, opened: &Opened) -> usize {
    options.batch_size.map_or(opened.batch_size(), |size| size as usize)
}

/// The shards of a set whose rows all lie among its first `most` rows.
fn read_whole(set: &TokenSet, most: u64) -> &[Shard] {
    let mut left = Some(most);
    let whole = set.shards.iter().take_while(|shard| {
        left = left.and_then(|left| left.checked_sub(shard.rows));
        left.is_some()
    });
    &set.shards[..whole.count()]
}

/// The codec that decodes the set's tokens, which may be the first of each image's.
fn codec<'a>(set: &TokenSet, opened: &'a Opened) -> Result<Box<dyn Codec + 'a>> {
    let codec = opened.codec();
    let Some((length, prefix)) = set.sidecar.kept() else { return Ok(codec) };
    if codec.prefixes() == Some(prefix) {
        return Ok(Box::new(Prefix::new(codec, length)?));
    }
    let own = match codec.prefixes() {
        Some(own) => format!("decodes the first of {} {}", own.of, own.axis),
        None => "decodes an image only from all of its tokens".to_owned(),
    };
    let (tokens, words) = (set.folder.display(), prefix.words(length));
    Err(Misuse(format!("{tokens} holds {words}, and this tokenizer {own}; give the tokenizer that made it"))
        .into())
}

/// The coder that converts the set's ids to indices.
fn coder<'a>(set: &TokenSet, opened: &'a Opened) -> Result<Coder<'a>> {
    let stated = &set.sidecar.tokenizer;
    let radix = if stated.digits {
        let radix = opened.radix();
        Some(radix.ok_or_else(|| {
            Misuse("the tokens are digits, and this tokenizer's indices are not made of any".into())
        })?)
    } else {
        None
    };
    Ok(Coder {
        codebooks: stated.codebooks,
        radix,
        arrangement: stated.arrangement,
        vocabulary: set.sidecar.vocabulary(&set.folder)?,
        framing: set.sidecar.specials.clone(),
    })
}

/// The shapes of rows and of their images.
struct Shapes {
    grid: StatedGrid,
    /// Height and width of all images; `None` if they differ.
    image_size: Option<[u32; 2]>,
}

struct Decoder<'a> {
    codec: Box<dyn Codec + 'a>,
    coder: Coder<'a>,
    shapes: Shapes,
    /// Where the rows are from, for messages.
    origin: String,
    batch_size: usize,
    device: Device,
}

impl Decoder<'_> {
    /// Decodes rows, each with its number, and returns how many there were.
    fn decode(&self, rows: impl Iterator<Item = Result<(u64, Row)>>, pictures: &mut Pictures) -> Result<u64> {
        let (mut batch, mut count): (Vec<(Row, Tensor)>, u64) = (vec![], 0);
        for row in rows {
            let (number, row) = row?;
            let indices = self.indices(&row).map_err(|words| {
                anyhow!("row {number} ({}) of {} cannot be decoded: {words}", row.key, self.origin)
            })?;
            let another_size = batch.first().is_some_and(|(first, _)| first.grid != row.grid);
            if another_size || batch.len() == self.batch_size {
                self.flush(&mut batch, pictures)?;
            }
            batch.push((row, indices));
            count += 1;
        }
        self.flush(&mut batch, pictures)?;
        Ok(count)
    }

    fn indices(&self, row: &Row) -> Result<Tensor, String> {
        let indices = self.coder.indices(self.shapes.grid.shape(row.grid), &row.ids)?;
        let (largest, codes) = (indices.max().int64_value(&[]), self.codec.vocabulary().size);
        if largest < codes {
            return Ok(indices);
        }
        Err(format!("it has code {largest}, and this tokenizer has {codes} codes"))
    }

    /// Decodes images of one size together, in batches padded in the same way as in an export.
    fn flush(&self, batch: &mut Vec<(Row, Tensor)>, pictures: &mut Pictures) -> Result<()> {
        let Some((first, _)) = batch.first() else { return Ok(()) };
        let Shapes { grid, image_size } = &self.shapes;
        let one_size = grid.constant().is_some();
        let missing = padded(batch.len(), self.batch_size, one_size) - batch.len();
        let rows: Vec<&Tensor> = batch.iter().map(|(_, indices)| indices).collect();
        let last = rows[rows.len() - 1];
        let all: Vec<&Tensor> = rows.iter().copied().chain(std::iter::repeat_n(last, missing)).collect();
        let indices = Tensor::cat(&all, 0).to_device(self.device);
        let [height, width] = image_size.unwrap_or_else(|| grid.pixels(first.grid));
        let images = self.codec.decode(&indices, ImageSize { height, width });
        let images =
            images.with_context(|| format!("cannot decode the batch that begins with {}", first.key))?;
        for (place, (row, _)) in (0..).zip(batch.drain(..)) {
            pictures.add(&row.key, picture_of(&images.get(place))?)?;
        }
        Ok(())
    }
}
