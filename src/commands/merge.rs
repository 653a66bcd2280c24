//! `pixtok merge`: merges the parts of a divided job, or whole sets, into one set.

use anyhow::Result;

use super::{print, tell};
use crate::cli::MergeArgs;
use crate::export::{SHARD_ROWS, merge};
use pixtok_tokens::TokenSet;

/// Merges the sets in the given order.
pub(super) fn run(args: &MergeArgs) -> Result<()> {
    let mut sets = vec![];
    for path in &args.parts {
        sets.extend(if args.partial { TokenSet::find_finished(path)? } else { TokenSet::find(path)? });
    }
    let in_shards = sets.first().filter(|set| !set.sidecar.format.format().merges_into_one());
    let usual = in_shards.map(|_| SHARD_ROWS);
    let merging = tell().work("merging", None);
    let finished = merge(&sets, &args.out, args.shard_rows.or(usual), args.partial)?;
    drop(merging);
    let sidecar = &finished.sidecar;
    let ids = sidecar.ids_of_reader(&sidecar.vocabulary(&args.out)?);
    let advice = sidecar.format.format().advice(&args.out, &sidecar.layout(), ids);
    sidecar.source.missing().iter().chain(&advice).for_each(|text| tell().say(text));
    let counts = &sidecar.counts;
    print(&format!(
        "{} rows, {} tokens of {} sets in {} ({} shard(s))\n",
        counts.rows,
        counts.tokens,
        sets.len(),
        args.out.display(),
        finished.sidecar.shard_rows.len()
    ))
}
