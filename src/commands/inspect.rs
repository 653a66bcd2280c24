//! `pixtok inspect`: describes a token file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::print;
use crate::cli::InspectArgs;
use crate::export::changes;
use pixtok_tokens::{Row, Sidecar, StatedVocabulary, TokenSet};

/// The number of ids of the first row that are shown.
const SHOWN: usize = 24;
/// The number of most frequent ids that are shown.
const FREQUENT: usize = 8;

/// Prints sidecar, counts, grid, frequencies of ids, and the first row of each set at the path.
pub(super) fn run(args: &InspectArgs) -> Result<()> {
    for (number, set) in TokenSet::find(&args.tokens)?.into_iter().enumerate() {
        let mut text = if number > 0 { "\n".to_owned() } else { String::new() };
        text += &stated(&set);
        let mut first: Option<Row> = None;
        let (mut rows, mut tokens, mut counts) = (0u64, 0u64, BTreeMap::<u32, u64>::new());
        for row in set.rows() {
            let row = row?;
            rows += 1;
            tokens += row.ids.len() as u64;
            for &id in &row.ids {
                *counts.entry(id).or_default() += 1;
            }
            first.get_or_insert(row);
        }
        let shards = set.shards.len();
        line(&mut text, "rows", &format!("{rows} in {shards} shard(s), {tokens} tokens"));
        histogram(&mut text, &counts, tokens, &set.sidecar);
        if let Some(row) = first {
            first_row(&mut text, &row);
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
    line(&mut text, "format", &format!("{}, {}, {}", sidecar.format, sidecar.dtype.name(), sidecar.order));
    let tokenizer = &sidecar.tokenizer;
    let levels = tokenizer.levels.as_ref().map_or(String::new(), |levels| format!(", levels {levels:?}"));
    let books = if tokenizer.codebooks > 1 { format!("{} × ", tokenizer.codebooks) } else { String::new() };
    line(
        &mut text,
        "tokenizer",
        &format!("{}, {books}{} codes{levels}", tokenizer.kind, tokenizer.codebook_size),
    );
    line(&mut text, "weights", &format!("blake3 {}", tokenizer.weights_blake3));
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
    if !sidecar.specials.is_bare() {
        let specials = serde_json::to_string(&sidecar.specials).unwrap_or_default();
        line(&mut text, "framing", &specials);
    }
    let source = &sidecar.source;
    let part = source.part.as_ref().map_or(String::new(), |part| format!(", part {part}"));
    line(&mut text, "source", &format!("{} ({}){part}", source.path, source.kind));
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

fn histogram(text: &mut String, counts: &BTreeMap<u32, u64>, tokens: u64, sidecar: &Sidecar) {
    let Some(((least, _), (largest, _))) = counts.first_key_value().zip(counts.last_key_value()) else {
        return;
    };
    let entropy: f64 = counts
        .values()
        .map(|&count| {
            let share = count as f64 / tokens as f64;
            -share * share.log2()
        })
        .sum();
    let codes = if sidecar.tokenizer.digits {
        String::new()
    } else {
        format!(" of {} codes", sidecar.tokenizer.codebook_size)
    };
    line(
        text,
        "in use",
        &format!(
            "{} different ids{codes}, from {least} to {largest}, {entropy:.2} bits each (perplexity {:.1})",
            counts.len(),
            entropy.exp2()
        ),
    );
    let mut frequent: Vec<(&u32, &u64)> = counts.iter().collect();
    frequent.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let shown: Vec<String> = frequent
        .iter()
        .take(FREQUENT)
        .map(|(id, count)| format!("{id} ({:.1} %)", 100.0 * **count as f64 / tokens as f64))
        .collect();
    line(text, "most often", &shown.join(", "));
}

fn first_row(text: &mut String, row: &Row) {
    line(
        text,
        "first row",
        &format!(
            "{}, {}×{} positions, {} ids, picture of {}×{} pixels (width × height)",
            row.key,
            row.grid.h,
            row.grid.w,
            row.ids.len(),
            row.width,
            row.height
        ),
    );
    if let Some(label) = row.label {
        line(text, "", &format!("label {label}"));
    }
    if let Some(caption) = &row.text {
        line(text, "", &format!("text {caption:?}"));
    }
    let shown: Vec<String> = row.ids.iter().take(SHOWN).map(u32::to_string).collect();
    let more = if row.ids.len() > SHOWN { " …" } else { "" };
    line(text, "", &format!("{}{more}", shown.join(" ")));
}
