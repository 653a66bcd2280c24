//! `pixtok inspect`: describes a token file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::print;
use crate::cli::InspectArgs;
use crate::export::{changes, preparation, share_of_area, share_of_row};
use pixtok_tokens::{Division, Row, Sidecar, StatedVocabulary, TokenSet, Vocabulary};

/// The number of ids of the first row that are shown.
const SHOWN: usize = 24;
/// The number of most frequent codes, and of special ids, that are shown.
const FREQUENT: usize = 8;

/// Prints sidecar, counts, grid, frequencies of codes and special ids, and the first row of each
/// set at the path.
pub(super) fn run(args: &InspectArgs) -> Result<()> {
    for (number, set) in TokenSet::find_with_splits(&args.tokens)?.into_iter().enumerate() {
        let mut text = if number > 0 { "\n".to_owned() } else { String::new() };
        text += &stated(&set);
        let vocabulary = set.sidecar.vocabulary(&set.folder)?;
        let mut first: Option<Row> = None;
        let (mut rows, mut tokens, mut counts) = (0u64, 0u64, BTreeMap::<u32, u64>::new());
        // What a model generated was cut from no picture.
        let (mut pictures, mut kept) = (0u64, 0.0);
        for row in set.rows() {
            let row = row?;
            rows += 1;
            tokens += row.ids.len() as u64;
            if is_of_picture(&row) {
                pictures += 1;
                kept += share_of_row(&set.sidecar, &row);
            }
            for &id in &row.ids {
                *counts.entry(id).or_default() += 1;
            }
            first.get_or_insert(row);
        }
        let shards = set.shards.len();
        line(&mut text, "rows", &format!("{rows} in {shards} shard(s), {tokens} tokens"));
        if pictures > 0 {
            line(&mut text, "kept", &share_of_area(&set.sidecar, kept / pictures as f64));
        }
        in_use(&mut text, counts, &set.sidecar, &vocabulary);
        if let Some(row) = first {
            first_row(&mut text, &row, &set.sidecar.source.classes);
        }
        if let Some(words) = changes(&set, &set.shards) {
            line(&mut text, "changed", &words);
        }
        print(&text)?;
    }
    Ok(())
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name:<13} {value}");
}

/// What the sidecar says.
pub(crate) fn stated(set: &TokenSet) -> String {
    let sidecar = &set.sidecar;
    let mut text = String::new();
    line(&mut text, "set", &set.folder.display().to_string());
    line(&mut text, "format", &format!("{}, {}, {}", sidecar.format, sidecar.dtype, sidecar.order));
    let tokenizer = &sidecar.tokenizer;
    let levels = tokenizer.levels.as_ref().map_or(String::new(), |levels| format!(", levels {levels:?}"));
    let books = if tokenizer.codebooks > 1 { format!("{} × ", tokenizer.codebooks) } else { String::new() };
    line(
        &mut text,
        "tokenizer",
        &format!("{}, {books}{} codes{levels}", tokenizer.kind, tokenizer.codebook_size),
    );
    line(&mut text, "weights", &format!("blake3 {}", tokenizer.weights_blake3));
    if let Some(positions) = sidecar.positions {
        line(&mut text, "positions", &format!("{positions}, at sizes beyond the trained one"));
    }
    if let Some(hash) = &tokenizer.keeps_tokens_of {
        line(
            &mut text,
            "tokens of",
            &format!("the weights with blake3 {hash}: the decoder alone was tuned since"),
        );
    }
    let pixels =
        sidecar.grid.downsample.map(|pixels| format!("{pixels} pixels a position")).unwrap_or_default();
    line(
        &mut text,
        "grid",
        &match (sidecar.grid.constant(), sidecar.image_size) {
            (Some(grid), Some([height, width])) if sidecar.grid.is_sequence() => {
                format!("none: a sequence of {} for images of {height}×{width} pixels", grid.w)
            }
            (Some(grid), Some([height, width])) => {
                format!("{}×{} of images of {height}×{width} pixels, {pixels}", grid.h, grid.w)
            }
            _ => format!("each image its own, {pixels}"),
        },
    );
    if let Some((length, prefix)) = sidecar.kept() {
        line(&mut text, "prefix", &prefix.words(length));
    }
    line(&mut text, "pictures", &preparation(sidecar));
    if tokenizer.numbers > 1 {
        let what = if tokenizer.digits { "digits" } else { "codebooks" };
        let order = format!("{:?}", tokenizer.arrangement).to_lowercase();
        line(&mut text, "each position", &format!("{} numbers ({what}), {order}", tokenizer.numbers));
    }
    let ids = match &sidecar.vocabulary {
        StatedVocabulary::Offset { offset } => format!("code i is id {offset} + i"),
        StatedVocabulary::Map { map, .. } => format!("code i is the i-th id of {map}"),
    };
    let of = sidecar.vocab_size.map_or_else(String::new, |size| format!(", in a vocabulary of {size} ids"));
    line(&mut text, "ids", &(ids + &of));
    // Without its map, a vocabulary has no ranges; reading the rows says what is wrong with it.
    if let Ok(vocabulary) = sidecar.vocabulary(&set.folder) {
        let ids = sidecar.ids(&vocabulary);
        let range = |[first, last]: [u32; 2]| format!("{first} to {last}");
        let specials = match ids.specials {
            None => "special ids none".to_owned(),
            Some([first, last]) if first == last => format!("special id {first}"),
            Some(ids) => format!("special ids {}", range(ids)),
        };
        let (all, codes) = (ids.vocabulary, range(ids.codes));
        line(&mut text, "vocabulary", &format!("{all} ids: codes {codes}, {specials}"));
    }
    if !sidecar.specials.is_bare() {
        let specials = serde_json::to_string(&sidecar.specials).unwrap_or_default();
        line(&mut text, "framing", &specials);
    }
    let source = &sidecar.source;
    let by = if source.division == Division::Files { " by files" } else { "" };
    let part = source.part.as_ref().map_or(String::new(), |part| format!(", part {part}{by}"));
    let split = source.split.as_ref().map_or_else(String::new, |split| {
        format!(", the images for {} (--val-share {})", split.name, split.val_share)
    });
    line(&mut text, "source", &format!("{} ({}){part}{split}", source.path, source.kind));
    for note in source.missing().iter().chain(&source.notes) {
        line(&mut text, "", note);
    }
    for origin in &sidecar.sources {
        line(&mut text, "", &format!("{} ({})", origin.path, origin.kind));
        origin.notes.iter().for_each(|note| line(&mut text, "", note));
    }
    let skipped: u64 = sidecar.counts.skipped.values().sum();
    let views = if sidecar.views > 1 { format!(" in {} views each", sidecar.views) } else { String::new() };
    line(&mut text, "images", &format!("{}{views}, {skipped} skipped", sidecar.counts.images));
    for (reason, count) in &sidecar.counts.skipped {
        line(&mut text, "", &format!("{count} × {reason}"));
    }
    text
}

/// How often ids occur: codes, special ids, and ids that are neither, each by themselves.
fn in_use(text: &mut String, counts: BTreeMap<u32, u64>, sidecar: &Sidecar, vocabulary: &Vocabulary) {
    let side = sidecar.grid.longest_side();
    let (codes, others): (BTreeMap<u32, u64>, BTreeMap<u32, u64>) =
        counts.into_iter().partition(|(id, _)| vocabulary.code(*id).is_some());
    let (specials, unknown): (BTreeMap<u32, u64>, BTreeMap<u32, u64>) =
        others.into_iter().partition(|(id, _)| sidecar.specials.name_of(*id, side).is_some());
    if let Some(total) = total(&codes) {
        let entropy: f64 = codes
            .values()
            .map(|&count| {
                let share = count as f64 / total as f64;
                -share * share.log2()
            })
            .sum();
        let (used, all) = (codes.len(), vocabulary.codes());
        let what = if sidecar.tokenizer.digits { "digits" } else { "codes" };
        let range = codes.first_key_value().zip(codes.last_key_value());
        let range =
            range.map_or_else(String::new, |((first, _), (last, _))| format!(", ids {first} to {last}"));
        line(
            text,
            what,
            &format!(
                "{total}, {used} different out of {all}{range}, {entropy:.2} bits each (perplexity {:.1})",
                entropy.exp2()
            ),
        );
        line(text, "most often", &frequent(&codes, total, &|id: u32| id.to_string()));
    }
    if let Some(total) = total(&specials) {
        let name = |id: u32| {
            sidecar.specials.name_of(id, side).map_or_else(String::new, |name| format!("{name} {id}"))
        };
        let different =
            if specials.len() == 1 { String::new() } else { format!(", {} different", specials.len()) };
        line(text, "special ids", &format!("{total}{different}: {}", frequent(&specials, total, &name)));
    }
    if let Some(total) = total(&unknown) {
        let words = frequent(&unknown, total, &|id: u32| id.to_string());
        line(text, "unknown ids", &format!("{total} that are neither codes nor special: {words}"));
    }
}

/// The number of all tokens; `None` if there are none.
fn total(counts: &BTreeMap<u32, u64>) -> Option<u64> {
    Some(counts.values().sum()).filter(|&sum| sum > 0)
}

/// The most frequent ids with their shares of `total`.
fn frequent(counts: &BTreeMap<u32, u64>, total: u64, name: &dyn Fn(u32) -> String) -> String {
    let mut frequent: Vec<(&u32, &u64)> = counts.iter().collect();
    frequent.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let shown = frequent
        .iter()
        .take(FREQUENT)
        .map(|(id, count)| format!("{} ({:.1} %)", name(**id), 100.0 * **count as f64 / total as f64));
    let more = if counts.len() > FREQUENT { ", …" } else { "" };
    shown.collect::<Vec<_>>().join(", ") + more
}

/// Whether a row was made from a picture. What a model generated has no picture's size.
fn is_of_picture(row: &Row) -> bool {
    row.width > 0 && row.height > 0
}

fn first_row(text: &mut String, row: &Row, classes: &[String]) {
    let picture = if is_of_picture(row) {
        format!("picture of {}×{} pixels (width × height)", row.width, row.height)
    } else {
        "generated".to_owned()
    };
    let (key, grid, ids) = (&row.key, row.grid, row.ids.len());
    line(text, "first row", &format!("{key}, {}×{} positions, {ids} ids, {picture}", grid.h, grid.w));
    if let Some(label) = row.label {
        let class = usize::try_from(label).ok().and_then(|label| classes.get(label));
        line(
            text,
            "",
            &format!("label {label}{}", class.map_or_else(String::new, |class| format!(", {class}"))),
        );
    }
    if let Some(caption) = &row.text {
        line(text, "", &format!("text {caption:?}"));
    }
    let shown: Vec<String> = row.ids.iter().take(SHOWN).map(u32::to_string).collect();
    let more = if row.ids.len() > SHOWN { " …" } else { "" };
    line(text, "", &format!("{}{more}", shown.join(" ")));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sidecar() -> Sidecar {
        let sidecar = json!({
            "format_version": 1, "pixtok": "0.1.0", "format": "jsonl",
            "tokenizer": {
                "kind": "fsq", "weights_blake3": "", "codebooks": 1, "codebook_size": 50, "digits": false,
                "numbers": 1, "arrangement": "interleaved", "quantizer": {},
            },
            "dtype": "u16", "order": "row-major", "grid": { "h": 2, "w": 3, "downsample": 8 },
            "image_size": [16, 24],
            "preprocessing": {
                "resize": null, "filter": "lanczos", "crop": "centre", "exif": "applied",
                "background": [255, 255, 255], "lenient_jpeg": false, "normalisation": "x / 127.5 - 1",
            },
            "vocabulary": { "offset": 100 },
            "specials": { "bos": 1, "eol": 4, "size": { "kind": "grid", "base": 10, "div": 1 } },
            "axes": { "kind": "sequence" }, "length": 11, "views": 1,
            "source": {
                "kind": "folder", "path": "images", "blake3": "", "split": { "name": "val", "val_share": 0.25 },
            },
            "shard_rows": [], "counts": { "images": 0, "rows": 0, "tokens": 0, "skipped": {} },
        });
        serde_json::from_value(sidecar).unwrap()
    }

    #[test]
    fn codes_and_special_ids_are_counted_apart() {
        let sidecar = sidecar();
        let vocabulary = Vocabulary::offset(100, 50).unwrap();
        // Two rows, and an id that nothing explains.
        let ids =
            [1, 12, 13, 100, 101, 100, 4, 100, 101, 149, 4, 1, 12, 13, 100, 101, 100, 4, 100, 101, 99, 4];
        let mut counts = BTreeMap::new();
        ids.iter().for_each(|&id| *counts.entry(id).or_default() += 1);
        let mut text = String::new();
        in_use(&mut text, counts, &sidecar, &vocabulary);
        for part in [
            "codes         11, 3 different out of 50, ids 100 to 149, 1.32 bits each",
            "most often    100 (54.5 %), 101 (36.4 %), 149 (9.1 %)\n",
            "special ids   10, 4 different: eol 4 (40.0 %), bos 1 (20.0 %), size 12 (20.0 %), size 13 (20.0 %)\n",
            "unknown ids   1 that are neither codes nor special: 99 (100.0 %)\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
        let set = TokenSet { folder: "nowhere".into(), shards: vec![], sidecar };
        let text = stated(&set);
        for part in [
            "format        jsonl, u16, row-major",
            "pictures      resized to cover the crop, then cropped at the centre to 16×24 pixels",
            "vocabulary    150 ids: codes 100 to 149, special ids 1 to 13",
            "images (folder), the images for val (--val-share 0.25)",
        ] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
    }

    #[test]
    fn one_special_id_is_one_and_a_label_has_its_class() {
        let mut sidecar = sidecar();
        sidecar.specials = pixtok_tokens::Framing { bos: Some(1), ..Default::default() };
        let vocabulary = Vocabulary::offset(100, 50).unwrap();
        let mut text = String::new();
        in_use(&mut text, [(1, 2), (100, 12)].into(), &sidecar, &vocabulary);
        assert!(text.contains("special ids   2: bos 1 (100.0 %)\n"), "{text}");
        let stated = stated(&TokenSet { folder: "nowhere".into(), shards: vec![], sidecar });
        assert!(stated.contains("codes 100 to 149, special id 1\n"), "{stated}");
        let grid = pixtok_tokens::Grid { h: 1, w: 1 };
        let (key, ids) = ("a".to_owned(), vec![100]);
        let mut row = Row { key, grid, width: 8, height: 8, ids, label: Some(1), text: None, json: None };
        for (label, words) in [(1, " label 1, dog\n"), (2, " label 2\n")] {
            row.label = Some(label);
            let mut text = String::new();
            first_row(&mut text, &row, &["cat".to_owned(), "dog".to_owned()]);
            assert!(text.contains(words), "{text}");
        }
    }
}
