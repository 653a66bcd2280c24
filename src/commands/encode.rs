//! `pixtok encode`: encodes images to token files.

use std::fmt::Write as _;

use anyhow::Result;
use indicatif::DecimalBytes;

use super::options::chosen;
use super::progress::Bar;
use super::{print, tell};
use crate::cli::{EncodeArgs, FitChoice, IdArgs, TakeArgs};
use crate::export::{self, EncodeOptions, Encoded, IdOptions, TakeOptions, Written, preparation, share_kept};

/// Encodes what has not been encoded yet and returns the exit code.
pub(super) fn run(args: EncodeArgs) -> Result<u8> {
    match export::encode(&options(args), tell(), &mut Bar::default())? {
        Encoded::Whole(sets) => {
            let text: Vec<String> = sets.iter().map(summary).collect();
            print(&text.join("\n")).map(|()| 0)
        }
        Encoded::Stopped(signal) => {
            tell().note("stopped; the same command goes on after the last whole shard");
            Ok(signal.map_or(1, |signal| 128 + signal as u8))
        }
    }
}

fn options(args: EncodeArgs) -> EncodeOptions {
    let (choice, compute) = chosen(args.model, args.positions);
    EncodeOptions {
        tokenizer: args.tokenizer,
        choice,
        compute,
        data: args.data,
        take: take(args.take),
        out: args.out,
        format: args.format,
        whole: args.images.fit == FitChoice::Whole,
        image_size: args.images.image_size,
        resize: args.images.resize,
        flip: args.images.flip,
        prefix: args.prefix,
        ids: ids(args.ids),
        shard_rows: args.shard_rows,
        shard_bytes: args.shard_bytes,
        part: args.shard,
        val_share: args.val_share,
        prefix_keys: args.key_prefix.is_some(),
        batch_size: args.batch_size,
        verify: args.verify,
    }
}

fn take(TakeArgs { pick, label_column, text_column, classes }: TakeArgs) -> TakeOptions {
    TakeOptions { pick: pick.into(), label_column, text_column, classes }
}

fn ids(args: IdArgs) -> IdOptions {
    IdOptions {
        preset: args.preset,
        vocab_offset: args.vocab_offset,
        vocab_map: args.vocab_map,
        vocab_size: args.vocab_size,
        dtype: args.dtype,
        bos: args.bos,
        boi: args.boi,
        img: args.img,
        eol: args.eol,
        eof: args.eof,
        eoi: args.eoi,
        eos: args.eos,
        append_eod: args.append_eod,
        size_tokens: args.size_tokens,
        digits: args.digits,
        arrange: args.arrange,
        token_names: args.token_names,
        document_index: args.document_index,
    }
}

fn summary(Written { finished, folder, sidecar: path }: &Written) -> String {
    let (sidecar, counts) = (&finished.sidecar, &finished.sidecar.counts);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    if let Some(split) = &sidecar.source.split {
        line("set", format!("{}, {}", split.name, folder.display()));
    }
    let rows = if sidecar.views > 1 { format!(" ({} rows)", counts.rows) } else { String::new() };
    line("images", format!("{}{rows}", counts.images));
    let kept = finished.kept.map_or_else(String::new, |kept| format!("; {}", share_kept(sidecar, kept)));
    line("pictures", preparation(sidecar) + &kept);
    let prefix =
        sidecar.kept().map_or_else(String::new, |(length, prefix)| format!("; {}", prefix.words(length)));
    line("tokens", format!("{}{prefix}", counts.tokens));
    let per_image = |bytes: u64| bytes as f64 / counts.images.max(1) as f64;
    line(
        "files",
        format!(
            "{} in {} shard(s), {:.0} bytes an image",
            DecimalBytes(finished.bytes),
            sidecar.shard_rows.len(),
            per_image(finished.bytes)
        ),
    );
    line(
        "zstd",
        format!(
            "{} of ids, {:.0} bytes an image, {:.2} bits a token",
            DecimalBytes(finished.zstd_bytes),
            per_image(finished.zstd_bytes),
            8.0 * finished.zstd_bytes as f64 / counts.tokens.max(1) as f64
        ),
    );
    let skipped: u64 = counts.skipped.values().sum();
    if skipped > 0 {
        let list = folder.join("skipped.jsonl");
        line("skipped", format!("{skipped} images that could not be used, listed in {}", list.display()));
    }
    line("sidecar", path.display().to_string());
    text
}
