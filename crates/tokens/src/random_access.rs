//! Access to rows of token sets by number, for loaders that draw rows in shuffled order.
//!
//! Opening reads once, in order, through the data that states where rows begin: `keys.jsonl` if a
//! format has it, all of `tokens.jsonl`, the headers in tars (for rows of a few KB, the whole tar),
//! the footers of Parquet files. 8 bytes per row of it stay in memory (16 for raw with images of
//! different sizes and without a document index, none for mds), and for Parquet the footers and page
//! indices, but never tokens. Up to 128 files stay open.
//!
//! Reading a row then takes a few small reads. For Parquet, however, it reads and decompresses a
//! page of each column.

use std::sync::Arc;

use super::open_files::OpenFiles;
use super::{Row, RowsAt, TokenSet, TokensError};

/// Rows of token sets by number. Threads may share it: reading takes no lock except to find an open
/// file.
///
/// ```no_run
/// # use std::path::Path;
/// # use pixtok_tokens::{RandomAccess, TokenSet};
/// let sets = TokenSet::find(Path::new("tokens"))?;
/// let rows = RandomAccess::open(&sets)?;
/// let last = rows.row(rows.len() - 1)?;
/// # Ok::<(), pixtok_tokens::TokensError>(())
/// ```
pub struct RandomAccess {
    shards: Vec<OpenShard>,
}

struct OpenShard {
    /// Rows before it, and up to its end.
    first: u64,
    end: u64,
    row: RowsAt,
}

impl RandomAccess {
    /// Opens the shards of `sets`. Rows are counted from 0 through all of them, in the order of
    /// [`TokenSet::rows`].
    ///
    /// # Errors
    /// If a shard's files cannot be opened or are incomplete, as far as this is visible without
    /// reading every row.
    pub fn open(sets: &[TokenSet]) -> Result<Self, TokensError> {
        Self::with_files(sets, &Arc::default())
    }

    fn with_files(sets: &[TokenSet], files: &Arc<OpenFiles>) -> Result<Self, TokensError> {
        let (mut shards, mut first) = (vec![], 0_u64);
        for set in sets {
            let (format, layout) = (set.sidecar.format.format(), set.sidecar.layout());
            for &shard in &set.shards {
                let row = format.rows_at(&set.folder, shard, &layout, files)?;
                let end = first.saturating_add(shard.rows);
                shards.push(OpenShard { first, end, row });
                first = end;
            }
        }
        Ok(Self { shards })
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.shards.last().map_or(0, |shard| shard.end)
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads row `number`.
    ///
    /// # Errors
    /// If there are not that many rows, or the row cannot be read or differs from what was written.
    /// The message names the shard's file, and the row's number within the shard.
    pub fn row(&self, number: u64) -> Result<Row, TokensError> {
        let at = self.shards.partition_point(|shard| shard.end <= number);
        let Some(shard) = self.shards.get(at) else {
            let rows = self.len();
            return Err(TokensError::Unsuitable(format!(
                "there is no row {number}: rows count from 0, and there are {rows}"
            )));
        };
        (shard.row)(number - shard.first)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use proptest::prelude::*;

    use super::super::{FormatKind, Layout, Place, TokenNames, fixture};
    use super::*;

    /// All layouts that a format accepts.
    fn layouts(kind: FormatKind) -> Vec<Layout> {
        let mut layouts = [fixture::layouts(), fixture::ragged_layouts()].concat();
        let (format, plain) = (kind.format(), layouts[0].clone());
        if format.takes_document_index() {
            let indexed = |layout: &Layout| Layout { document_index: true, ..layout.clone() };
            layouts.extend(layouts.iter().map(indexed).collect::<Vec<_>>());
        }
        if format.takes_names() {
            let names = TokenNames::new("<|visual token {:06}|>", 0, 65_536).unwrap();
            layouts.push(Layout { names: Some(names), ..plain.clone() });
        }
        layouts.push(Layout { views: 2, ..plain });
        layouts.retain(|layout| format.check(layout).is_ok());
        layouts
    }

    proptest! {
        // Deterministic, like all tests.
        #![proptest_config(ProptestConfig {
            cases: 200, failure_persistence: None,
            rng_seed: prop::test_runner::RngSeed::Fixed(16), ..ProptestConfig::default()
        })]

        #[test]
        fn rows_by_number_are_those_of_the_stream(
            kind in prop::sample::select(FormatKind::ALL.to_vec()), layout in any::<prop::sample::Index>(),
            images in 1_usize..12, images_a_shard in 1_usize..6, most in 1_usize..4,
            orders in prop::array::uniform2(any::<u64>()),
        ) {
            let layout = layout.get(&layouts(kind)).clone();
            let views = layout.views as usize;
            let mut rows = fixture::rows(&layout, images * views);
            for row in rows.chunks_mut(views) {
                // LlamaGen stores one label per image.
                let label = row[0].label;
                row.iter_mut().for_each(|row| row.label = label);
            }
            let folder = tempfile::tempdir().unwrap();
            let set = fixture::set(kind, folder.path(), &layout, &rows, images_a_shard * views);
            let stream: Vec<Row> = set.rows().map(Result::unwrap).collect();
            prop_assert_eq!(&stream, &rows);

            let files = Arc::new(OpenFiles::new(most));
            let access = RandomAccess::with_files(&[set], &files).unwrap();
            prop_assert_eq!(access.len(), rows.len() as u64);
            thread::scope(|scope| {
                for order in orders {
                    let (access, stream) = (&access, &stream);
                    scope.spawn(move || {
                        let mut numbers: Vec<usize> = (0..stream.len()).collect();
                        numbers.sort_by_key(|&number| (number as u64 + 1).wrapping_mul(order | 1));
                        for number in numbers {
                            assert_eq!(access.row(number as u64).unwrap(), stream[number]);
                        }
                    });
                }
            });
            let beyond = access.row(access.len()).unwrap_err().to_string();
            prop_assert!(beyond.contains(&format!("there are {}", rows.len())), "{}", beyond);
        }
    }

    #[test]
    fn parts_are_counted_through() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let layout = fixture::layouts().remove(0);
        let rows = fixture::rows(&layout, 7);
        let sets = [
            fixture::set(FormatKind::Npy, a.path(), &layout, &rows[..5], 2),
            fixture::set(FormatKind::Mds, b.path(), &layout, &rows[5..], 2),
        ];
        let access = RandomAccess::open(&sets).unwrap();
        for (number, row) in rows.iter().enumerate().rev() {
            assert_eq!(access.row(number as u64).unwrap(), *row);
        }
        assert!(access.row(u64::MAX).is_err() && !access.is_empty());

        // A file of a set selects its shard.
        let one = TokenSet::find(&a.path().join("tokens-00001-of-00003.npy")).unwrap();
        let access = RandomAccess::open(&one).unwrap();
        assert_eq!((access.len(), access.row(1).unwrap()), (2, rows[3].clone()));
        assert!(RandomAccess::open(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_row_is_told_with_its_file() {
        let layout = fixture::layouts().remove(0);
        let rows = fixture::rows(&layout, 4);
        // A place of the second shard that belongs to its second row, or is listed for it.
        let damaged = |kind: FormatKind, name: &str, find: &[u8], with: &[u8], row: &str| {
            let folder = tempfile::tempdir().unwrap();
            let set = fixture::set(kind, folder.path(), &layout, &rows, 2);
            let path = folder.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.windows(find.len()).rposition(|window| window == find).unwrap();
            bytes[at..at + find.len()].copy_from_slice(with);
            fs::write(&path, bytes).unwrap();
            let access = RandomAccess::open(&[set]).unwrap();
            for number in 0..3 {
                assert_eq!(access.row(number).unwrap(), rows[number as usize], "{kind}");
            }
            let error = access.row(3).unwrap_err();
            assert!(matches!(error, TokensError::Damaged { .. }), "{kind}");
            let error = error.to_string();
            assert!(error.contains(name) && error.contains(row), "{error}");
        };
        let jsonl = "tokens-00001-of-00002.jsonl";
        damaged(FormatKind::Jsonl, jsonl, b"\"tokens\":[", b"\"tokens\":{", "line 2");
        damaged(FormatKind::Jsonl, jsonl, b"\"h\":5", b"\"h\":6", "row 1 (deep/er/00003)");
        let keys = "keys-00001-of-00002.jsonl";
        let place = Place { number: 1, first_row: 2, total: Some(2) };
        for &kind in FormatKind::ALL {
            if kind.format().files(place, &layout).iter().any(|file| file == keys) {
                damaged(kind, keys, b"\"key\":", b"\"kay\":", "line 2");
            }
        }
        damaged(FormatKind::Mds, "shard.00001.mds", b"deep/", b"deep\xff", "row 1: a text");
        let tar = "tokens-000001.tar";
        damaged(FormatKind::Webdataset, tar, b"\"h\":5", b"\"h\":6", "row 1 (deep/er/00003)");
    }

    #[test]
    fn threads_may_share_it() {
        fn shared<T: Send + Sync>() {}
        shared::<RandomAccess>();
    }
}
