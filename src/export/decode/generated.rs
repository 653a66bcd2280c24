//! Decodes ids that a model generated.

use std::path::Path;

use anyhow::{Context, Result};
use tch::Device;

use super::pictures::{Pictures, check_names};
use super::{DecodeOptions, Decoder, Shapes, batch_size, codec, coder, tell_checkpoint, wrong};
use crate::codec::Codec;
use crate::export::Coder;
use crate::outputs::make_empty;
use crate::run::{Opened, Tell};
use pixtok_base::Misuse;
use pixtok_images::data::ImageSize;
use pixtok_tokens::{
    Arrangement, BadRow, Framing, Generated, GeneratedForm, Row, StatedGrid, TokenSet, Vocabulary,
};

/// The number of bad rows that are named.
const NAMED: usize = 20;

/// Decodes a file of generated ids with a tokenizer that is open on `device`.
///
/// # Errors
/// The same as [`decode`](super::decode).
pub(super) fn decode_generated(
    opened: &Opened,
    device: Device,
    like: Option<&TokenSet>,
    options: &DecodeOptions,
    tell: Tell,
) -> Result<u64> {
    let (form, codec, coder, shapes) = match like {
        Some(set) => {
            wrong::check(set, opened, options, tell)?;
            let shapes = Shapes { grid: set.sidecar.grid, image_size: set.sidecar.image_size };
            (GeneratedForm::like(set)?, codec(set, opened)?, coder(set, opened)?, shapes)
        }
        None => plain(opened)?,
    };
    let generated = Generated::new(&options.tokens, form)?;
    let limit = options.limit.unwrap_or(u64::MAX);
    check_rows(&generated, opened, options, tell)?;
    tell_checkpoint(opened, tell);
    make_empty(&options.out)?;
    let work = tell.work("decoding", options.limit);
    let mut pictures = Pictures::new(&options.out, options.sheets, work);
    let origin = options.tokens.display().to_string();
    let decoder = Decoder { codec, coder, shapes, origin, batch_size: batch_size(options, opened), device };
    let good = (0..limit).zip(generated.rows()?).filter_map(|(number, row)| match row {
        Ok(Ok(row)) => Some(Ok((number, row))),
        // They were reported.
        Ok(Err(_)) => None,
        Err(error) => Some(Err(error.into())),
    });
    decoder.decode(good, &mut pictures)?;
    pictures.finish()
}

/// How codes alone are read and decoded, without a set that says what they mean.
fn plain(opened: &Opened) -> Result<(GeneratedForm, Box<dyn Codec + '_>, Coder<'_>, Shapes)> {
    let codec = opened.codec();
    let ImageSize { height, width } = opened.data().image_size;
    let shape = codec.shape(ImageSize { height, width })?;
    let vocabulary = codec.vocabulary();
    let codes = u32::try_from(vocabulary.size).context("the codebook is too large for 32 bits")?;
    let codebooks = u32::try_from(vocabulary.codebooks).context("too many codebooks")?;
    let coder = Coder {
        codebooks,
        radix: None,
        arrangement: Arrangement::Interleaved,
        vocabulary: Vocabulary::offset(0, codes)?,
        framing: Framing::default(),
    };
    let grid = StatedGrid::of(shape, [height, width])?.of_any_size();
    let image_size = grid.is_sequence().then_some([height, width]);
    Ok((GeneratedForm::codes(shape, codebooks, codes)?, codec, coder, Shapes { grid, image_size }))
}

/// Checks all rows before the long work: that each can be decoded or is to be left out, and that
/// each of the others has its own file.
fn check_rows(generated: &Generated, opened: &Opened, options: &DecodeOptions, tell: Tell) -> Result<()> {
    let (mut total, mut bad, mut count) = (0, vec![], 0_u64);
    let codec = opened.codec();
    let (path, codes) = (generated.path().display(), codec.vocabulary().size);
    let good =
        generated.rows()?.take(usize::try_from(options.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX));
    let mut keys = good.map(|row| {
        total += 1;
        match row {
            Ok(Ok(Row { key, .. })) => Ok((Some(key), &path)),
            Ok(Err(row)) if options.skip_bad => {
                count += 1;
                if bad.len() < NAMED {
                    bad.push(row);
                }
                Ok((None, &path))
            }
            Ok(Err(row)) => Err(refusal(&row, generated.path(), options.like.is_some()).into()),
            Err(error) => Err(error.into()),
        }
    });
    if options.sheets {
        keys.try_for_each(|key| key.map(drop))?;
    } else {
        check_names(keys, None)?;
    }
    if total == 0 {
        return Err(Misuse(format!("{path} has no rows; give the file that the model wrote")).into());
    }
    if count > 0 {
        let rows: Vec<String> = bad.iter().map(|row| format!("\n  {row}")).collect();
        let more = if count > NAMED as u64 { "\n  …" } else { "" };
        tell.say(&format!(
            "left out {count} of {total} rows of {path} (rows and places count from 0):{}{more}",
            rows.concat()
        ));
    }
    if count == total {
        return Err(Misuse(format!(
            "none of the {total} rows of {path} can be decoded; compare them with a row of the set, which `pixtok inspect` \
             shows, or with the {codes} codes of the tokenizer"
        ))
        .into());
    }
    Ok(())
}

fn refusal(row: &BadRow, path: &Path, has_form: bool) -> Misuse {
    let like = if has_form { "" } else { "give the set that the model was trained on with --like, " };
    Misuse(format!(
        "{}, {row} (rows and places count from 0); correct it, {like}or leave out such rows with --skip-bad",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_no_set_is_told_of_like() {
        let row = BadRow { number: 3, line: None, reason: "it has 257 ids".into() };
        let refusal = |has_form: bool| refusal(&row, Path::new("gen.npy"), has_form).to_string();
        assert!(refusal(false).contains("row 3: it has 257 ids") && refusal(false).contains("--like"));
        assert!(!refusal(true).contains("--like"));
    }
}
