//! Decodes token files to images.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use tch::{Device, Tensor};

use super::{Coder, changes, padded};
use crate::batches::picture_of;
use crate::outputs::{Clash, Names, is_inside, make_empty, write_png};
use crate::run::{Compute, ModelChoice, Opened, Tell, Work};
use pixtok_base::Misuse;
use pixtok_images::data::ImageSize;
use pixtok_images::picture::{Picture, sheet};
use pixtok_tokens::{Grid, Row, Shard, StatedTokenizer, TokenSet};

/// Images along each side of a contact sheet.
const SHEET_SIDE: usize = 8;

/// The options of a decoding.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// The tokenizer that made the tokens.
    pub tokenizer: PathBuf,
    /// How the tokenizer is used.
    pub choice: ModelChoice,
    /// Where and how to compute.
    pub compute: Compute,
    /// A set of tokens, or one file of a set.
    pub tokens: PathBuf,
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

/// Writes the images of a set's rows and returns their number.
///
/// # Errors
/// When a different tokenizer made the tokens, when two rows would have the same file, or when the
/// tokenizer fails.
pub fn decode(options: &DecodeOptions, tell: Tell) -> Result<u64> {
    let sets = TokenSet::find(&options.tokens)?;
    let device = options.compute.start(tell)?;
    let opened = Opened::open(&options.tokenizer, options.choice, options.batch_size, device, tell)?;
    decode_by(&opened, device, &sets, options, tell)
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
        check(set, opened, options, tell)?;
        if let Some(missing) = set.sidecar.source.missing() {
            tell.say(&format!("{}: {missing}", set.folder.display()));
        }
    }
    if !options.sheets {
        let _checking = tell.work("checking the names of the images", None);
        check_names(sets, options.limit)?;
    }
    make_empty(&options.out)?;
    let rows: u64 = sets.iter().flat_map(|set| &set.shards).map(|shard| shard.rows).sum();
    let mut pictures = Pictures {
        out: &options.out,
        sheets: options.sheets,
        waiting: vec![],
        written: 0,
        sheet: 0,
        work: tell.work("decoding", Some(options.limit.map_or(rows, |limit| rows.min(limit)))),
    };
    let mut left = options.limit.unwrap_or(u64::MAX);
    for set in sets {
        let batch_size = options.batch_size.map_or(opened.batch_size(), |size| size as usize);
        let decoder = Decoder { opened, coder: coder(set, opened)?, batch_size, device };
        if let Some(words) = changes(set, read_whole(set, left)) {
            tell.say(&words);
        }
        left -= decoder.decode(set, left, &mut pictures)?;
    }
    pictures.finish()?;
    Ok(pictures.written)
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

/// Checks before the long work that each row has its own file. This reads all rows one more time.
fn check_names(sets: &[TokenSet], limit: Option<u64>) -> Result<()> {
    let (mut names, mut rows) = (Names::default(), 0);
    for (set, row) in sets.iter().flat_map(|set| set.rows().map(move |row| (set, row))) {
        if limit == Some(rows) {
            break;
        }
        rows += 1;
        let key = row?.key;
        if let Err(clash) = names.add(Path::new(&file_name(&key)?)) {
            let folder = set.folder.display();
            let (Clash::Same(earlier) | Clash::Folder(earlier)) = clash else {
                return Err(Misuse(format!(
                    "the key {key} of {folder} is too long for the name of a file; give --sheets"
                ))
                .into());
            };
            return Err(Misuse(format!(
                "the images of row {earlier} and of row {} ({key} of {folder}), counted from 0 over all sets, cannot have \
                 a file each; decode the sets separately, or give --sheets",
                rows - 1
            ))
            .into());
        }
    }
    Ok(())
}

/// The file of a key, relative to the folder for images.
fn file_name(key: &str) -> Result<String> {
    if key.is_empty() || !is_inside(Path::new(key)) || key.contains('\\') {
        return Err(anyhow!(
            "the key {key:?} leads out of the folder for images; the token file is not one of pixtok's"
        ));
    }
    Ok(format!("{key}.png"))
}

/// Refuses tokens of a different tokenizer, and warns of what may be wrong with them.
fn check(set: &TokenSet, opened: &Opened, options: &DecodeOptions, tell: Tell) -> Result<()> {
    let stated = &set.sidecar.tokenizer;
    let own = opened.stated(stated.digits, stated.numbers, stated.arrangement)?;
    let differences = differences(stated, &own);
    if differences.is_empty() {
        return Ok(());
    }
    if stated.codebooks != own.codebooks {
        return Err(Misuse(format!(
            "{} has tokens of {} codebook(s), and this tokenizer has {}; nothing can be decoded",
            set.folder.display(),
            stated.codebooks,
            own.codebooks
        ))
        .into());
    }
    let (tokens, tokenizer, differences) =
        (set.folder.display(), options.tokenizer.display(), differences.join("; "));
    if options.force {
        tell.say(&format!(
            "decoding although {tokens} were made by another tokenizer, so the images may be wrong: {differences}"
        ));
        return Ok(());
    }
    Err(Misuse(format!(
        "{tokens} was made by another tokenizer than {tokenizer}: {differences}; give that tokenizer (and its --checkpoint and --weights), or \
         --force to decode anyway"
    ))
    .into())
}

/// The differences between two tokenizers that affect their tokens.
fn differences(made_by: &StatedTokenizer, own: &StatedTokenizer) -> Vec<String> {
    let facts = |tokenizer: &StatedTokenizer| {
        let hash: String = tokenizer.tokens_blake3().chars().take(12).collect();
        json!({
            "weights": hash,
            "kind": tokenizer.kind,
            "codebooks": tokenizer.codebooks,
            "codebook_size": tokenizer.codebook_size,
            "digit_order": tokenizer.digit_order,
            "quantizer": tokenizer.quantizer,
        })
    };
    super::differences(&facts(made_by), &facts(own))
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

struct Decoder<'a> {
    opened: &'a Opened,
    coder: Coder<'a>,
    batch_size: usize,
    device: Device,
}

impl Decoder<'_> {
    /// Decodes up to `most` rows and returns their number.
    fn decode(&self, set: &TokenSet, most: u64, pictures: &mut Pictures) -> Result<u64> {
        let (mut batch, mut count): (Vec<(Row, Tensor)>, u64) = (vec![], 0);
        for row in set.rows().take(usize::try_from(most).unwrap_or(usize::MAX)) {
            let row = row?;
            let indices = self.indices(set, &row).map_err(|words| {
                anyhow!("row {count} ({}) of {} cannot be decoded: {words}", row.key, set.folder.display())
            })?;
            let another_size = batch.first().is_some_and(|(first, _)| first.grid != row.grid);
            if another_size || batch.len() == self.batch_size {
                self.flush(set, &mut batch, pictures)?;
            }
            batch.push((row, indices));
            count += 1;
        }
        self.flush(set, &mut batch, pictures)?;
        Ok(count)
    }

    fn indices(&self, set: &TokenSet, row: &Row) -> Result<Tensor, String> {
        let indices = self.coder.indices(set.sidecar.grid.shape(row.grid), &row.ids)?;
        let (largest, codes) = (indices.max().int64_value(&[]), self.opened.codec().vocabulary().size);
        if largest < codes {
            return Ok(indices);
        }
        Err(format!("it has code {largest}, and this tokenizer has {codes} codes"))
    }

    /// Decodes images of one size together, in batches padded in the same way as in an export.
    fn flush(&self, set: &TokenSet, batch: &mut Vec<(Row, Tensor)>, pictures: &mut Pictures) -> Result<()> {
        let Some((first, _)) = batch.first() else { return Ok(()) };
        let one_size: Option<Grid> = set.sidecar.grid.constant();
        let missing = padded(batch.len(), self.batch_size, one_size.is_some()) - batch.len();
        let rows: Vec<&Tensor> = batch.iter().map(|(_, indices)| indices).collect();
        let last = rows[rows.len() - 1];
        let all: Vec<&Tensor> = rows.iter().copied().chain(std::iter::repeat_n(last, missing)).collect();
        let indices = Tensor::cat(&all, 0).to_device(self.device);
        let [height, width] = set.sidecar.image_size_of(first.grid);
        let images = self.opened.codec().decode(&indices, ImageSize { height, width });
        let images =
            images.with_context(|| format!("cannot decode the batch that begins with {}", first.key))?;
        for (place, (row, _)) in (0..).zip(batch.drain(..)) {
            pictures.add(&row.key, picture_of(&images.get(place))?)?;
        }
        Ok(())
    }
}

/// Writes the images.
struct Pictures<'a> {
    out: &'a Path,
    sheets: bool,
    waiting: Vec<Picture>,
    written: u64,
    sheet: u64,
    work: Work,
}

impl Pictures<'_> {
    fn add(&mut self, key: &str, picture: Picture) -> Result<()> {
        self.written += 1;
        self.work.add(1);
        if self.sheets {
            self.waiting.push(picture);
            return if self.waiting.len() == SHEET_SIDE * SHEET_SIDE { self.finish() } else { Ok(()) };
        }
        write_png(&self.out.join(file_name(key)?), &picture)
    }

    /// Writes the images of an incomplete sheet.
    fn finish(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let rows: Vec<Vec<Picture>> = waiting.chunks(SHEET_SIDE).map(<[Picture]>::to_vec).collect();
        let path = self.out.join(format!("sheet-{:05}.png", self.sheet));
        self.sheet += 1;
        write_png(&path, &sheet(&rows))
    }
}
