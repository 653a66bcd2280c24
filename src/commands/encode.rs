//! `pixtok encode`: encodes images to token files.

use std::path::Path;

use anyhow::Result;
use indicatif::DecimalBytes;

use super::progress::Bar;
use super::{print, tell};
use crate::cli::{EncodeArgs, FitChoice, IdArgs, TakeArgs};
use crate::export::{self, EncodeOptions, Encoded, Finished, IdOptions, TakeOptions};

/// Encodes what has not been encoded yet and returns the exit code.
pub(super) fn run(args: EncodeArgs) -> Result<u8> {
    match export::encode(&options(args), tell(), &mut Bar::default())? {
        Encoded::Whole { finished, folder, sidecar } => {
            print(&summary(&finished, &folder, &sidecar)).map(|()| 0)
        }
        Encoded::Stopped(signal) => {
            tell().note("stopped; the same command goes on after the last whole shard");
            Ok(signal.map_or(1, |signal| 128 + signal as u8))
        }
    }
}

fn options(args: EncodeArgs) -> EncodeOptions {
    let (choice, compute) = args.model.into();
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
        ids: ids(args.ids),
        shard_rows: args.shard_rows,
        shard_bytes: args.shard_bytes,
        part: args.shard,
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

fn summary(finished: &Finished, folder: &Path, sidecar: &Path) -> String {
    let counts = &finished.sidecar.counts;
    let rows = if finished.sidecar.views > 1 { format!(" ({} rows)", counts.rows) } else { String::new() };
    let skipped: u64 = counts.skipped.values().sum();
    let listed = if skipped > 0 {
        format!(
            "skipped    {skipped} images that could not be used, listed in {}\n",
            folder.join("skipped.jsonl").display()
        )
    } else {
        String::new()
    };
    let per_image = |bytes: u64| bytes as f64 / counts.images.max(1) as f64;
    format!(
        "images     {}{rows}\ntokens     {}\nfiles      {} in {} shard(s), {:.0} bytes an image\nzstd       {} of ids, {:.0} bytes an image, {:.2} \
         bits a token\n{listed}sidecar    {}\n",
        counts.images,
        counts.tokens,
        DecimalBytes(finished.bytes),
        finished.sidecar.shard_rows.len(),
        per_image(finished.bytes),
        DecimalBytes(finished.zstd_bytes),
        per_image(finished.zstd_bytes),
        8.0 * finished.zstd_bytes as f64 / counts.tokens.max(1) as f64,
        sidecar.display(),
    )
}
