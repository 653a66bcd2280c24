//! Rows for tests of the formats, and tests that every format must pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::*;
use pixtok_base::Carried;

/// Extra fields of an image. None of them may be rounded or reordered.
const SAID: &str = r#"{"a":[1,null,123456789012345678901234567890],"z":{"é":1.50,"b":-0}}"#;

/// 5×7 grids in all layouts and both number types. The first two are plain grids.
pub fn layouts() -> Vec<Layout> {
    let mut layouts = vec![];
    for (axes, length) in [
        (Axes::Grid, 35),
        (Axes::Interleaved { n: 3 }, 105),
        (Axes::Stacked { n: 2 }, 70),
        (Axes::Sequence, 38),
    ] {
        for dtype in [Dtype::U16, Dtype::I32] {
            layouts.push(Layout {
                dtype,
                grid: Some(Grid { h: 5, w: 7 }),
                axes,
                length: Some(length),
                views: 1,
                image_side: 256,
                names: None,
                document_index: false,
                classes: vec![],
            });
        }
    }
    layouts
}

/// The same layouts for images of different sizes.
pub fn ragged_layouts() -> Vec<Layout> {
    layouts().into_iter().map(|layout| Layout { grid: None, length: None, ..layout }).collect()
}

/// Rows that match `layout`, with and without all optional metadata.
pub fn rows(layout: &Layout, count: usize) -> Vec<Row> {
    (0..count)
        .map(|at| {
            let grid = layout.grid.unwrap_or(Grid { h: 1 + at as u32 % 5, w: 7 });
            let framing = grid.h as usize + 3;
            let ids = match (layout.axes, layout.length) {
                (Axes::Sequence, Some(length)) => length as usize,
                (Axes::Sequence, None) => grid.positions() + framing,
                _ => layout.length_of(grid).unwrap() as usize,
            };
            let largest = layout.dtype.largest();
            let id = |position: usize| match position {
                0 => at as u32 * 7,
                1 => largest,
                _ => (at * 1_009 + position * 7_919) as u32 % largest,
            };
            let full = at % 3 == 1;
            let key = match at {
                0 => "a".into(),
                _ if full => format!("ünï/日本 {at}"),
                _ => format!("deep/er/{at:05}"),
            };
            Row {
                key,
                grid,
                width: 70 + at as u32,
                height: 50,
                ids: (0..ids).map(id).collect(),
                // Never -1, which means "no label" in formats that have no other way to say so.
                label: (at % 3 != 0).then_some(at as i64 * 3 - 10),
                text: full.then(|| "two\n\"lines\"".into()),
                json: full.then(|| Carried::parse(SAID.as_bytes()).unwrap()),
            }
        })
        .collect()
}

/// Writes `rows` in shards as a job does: under the names of an unfinished set, then renamed.
pub fn write(
    format: &dyn Format,
    folder: &Path,
    layout: &Layout,
    rows: &[Row],
    a_shard: usize,
) -> Vec<Shard> {
    let total = rows.len().div_ceil(a_shard) as u32;
    let mut shards = vec![];
    for (number, shard) in rows.chunks(a_shard).enumerate() {
        let place = Place { number: number as u32, first_row: (number * a_shard) as u64, total: None };
        let mut writer = format.writer(folder, place, layout).unwrap();
        shard.iter().for_each(|row| writer.push(row).unwrap());
        writer.finish().unwrap();
        let finished = Place { total: Some(total), ..place };
        for (from, to) in format.files(place, layout).iter().zip(format.files(finished, layout)) {
            fs::rename(folder.join(from), folder.join(to)).unwrap();
        }
        shards.push(Shard { place: finished, rows: shard.len() as u64 });
    }
    shards
}

/// All rows of `shards`.
pub fn read(
    format: &dyn Format,
    folder: &Path,
    shards: &[Shard],
    layout: &Layout,
) -> Result<Vec<Row>, TokensError> {
    let mut rows = vec![];
    for &shard in shards {
        for row in format.rows(folder, shard, layout)? {
            rows.push(row?);
        }
    }
    Ok(rows)
}

/// The rows of `shards` by their number, the last one first, with fewer files open than the shards
/// have.
pub fn read_at(
    format: &dyn Format,
    folder: &Path,
    shards: &[Shard],
    layout: &Layout,
) -> Result<Vec<Row>, TokensError> {
    let files = Arc::new(OpenFiles::new(2));
    let opened = shards.iter().map(|&shard| format.rows_at(folder, shard, layout, &files));
    let opened: Vec<RowsAt> = opened.collect::<Result<_, _>>()?;
    let mut rows = vec![];
    for (shard, row) in shards.iter().zip(&opened).rev() {
        assert!(row(shard.rows).unwrap_err().to_string().contains("there is no row"));
        for number in (0..shard.rows).rev() {
            rows.push(row(number)?);
        }
    }
    rows.reverse();
    Ok(rows)
}

/// Checks that rows are read back unchanged, from one shard and from several.
pub fn round_trip(format: &dyn Format, layout: &Layout) {
    format.check(layout).unwrap();
    let rows = rows(layout, 8);
    for a_shard in [8, 3] {
        let folder = tempfile::tempdir().unwrap();
        let shards = write(format, folder.path(), layout, &rows, a_shard);
        assert_eq!(read(format, folder.path(), &shards, layout).unwrap(), rows, "{layout:?}");
        assert_eq!(read_at(format, folder.path(), &shards, layout).unwrap(), rows, "{layout:?}");
        let mut names: Vec<String> =
            shards.iter().flat_map(|shard| format.files(shard.place, layout)).collect();
        names.sort();
        names.dedup();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), names.len(), "{names:?}");
        let fewer = [Shard { rows: shards[0].rows - 1, ..shards[0] }];
        let more = [Shard { rows: shards[0].rows + 1, ..shards[0] }];
        for other in [fewer, more] {
            assert!(read(format, folder.path(), &other, layout).is_err(), "{layout:?}");
            assert!(read_at(format, folder.path(), &other, layout).is_err(), "{layout:?}");
        }
    }
}

/// Runs [`round_trip`] in all layouts of constant shape, and checks that rows which deviate from
/// the layout are refused.
pub fn round_trips(format: &dyn Format) {
    for layout in layouts() {
        round_trip(format, &layout);
        let folder = tempfile::tempdir().unwrap();
        let place = Place { number: 0, first_row: 0, total: None };
        let row = rows(&layout, 1).remove(0);
        let mut large = row.clone();
        large.ids[3] = 1 << 31;
        let mut short = row.clone();
        short.ids.pop();
        let other = Row { grid: Grid { h: 7, w: 5 }, ..row };
        for (row, reason) in [(large, "does not fit"), (short, "ids"), (other, "grid")] {
            let mut writer = format.writer(folder.path(), place, &layout).unwrap();
            let error = writer.push(&row).unwrap_err().to_string();
            assert!(error.starts_with("a: ") && error.contains(reason), "{error}");
        }
    }
}

/// Without `keys.jsonl`, the key of a row is its number.
pub fn comes_back_without_companion(format: &dyn Format) {
    let layout = layouts().remove(0);
    let rows = rows(&layout, 8);
    let folder = tempfile::tempdir().unwrap();
    let shards = write(format, folder.path(), &layout, &rows, 3);
    for &shard in &shards {
        fs::remove_file(folder.path().join(companion::file(shard.place))).unwrap();
    }
    let found = read(format, folder.path(), &shards, &layout).unwrap();
    assert_eq!(found[7].key, "00000007");
    assert_eq!(read_at(format, folder.path(), &shards, &layout).unwrap(), found);
    for (found, row) in found.iter().zip(&rows) {
        assert_eq!((&found.ids, found.grid), (&row.ids, row.grid));
    }
    let ragged = Layout { grid: None, ..layout };
    assert!(read(format, folder.path(), &shards, &ragged).is_err());
    assert!(read_at(format, folder.path(), &shards, &ragged).is_err());
}

/// Runs [`damage_to`] on a plain set.
pub fn damage_is_noticed(format: &dyn Format) {
    damage_to(format, &layouts()[0]);
}

/// A file that is cut off anywhere, or has something appended, must not be read as if it were
/// complete. A file with a flipped bit may be readable, but must not cause a panic.
pub fn damage_to(format: &dyn Format, layout: &Layout) {
    let rows = rows(layout, 2);
    let folder = tempfile::tempdir().unwrap();
    let shards = write(format, folder.path(), layout, &rows, 2);
    for path in files_in(folder.path()) {
        let whole = fs::read(&path).unwrap();
        let read_with = |bytes: &[u8]| {
            // The file is created again: some file systems wait for the disk if a file is truncated
            // and rewritten.
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            let by_number = read_at(format, folder.path(), &shards, layout);
            (read(format, folder.path(), &shards, layout), by_number)
        };
        for length in places(whole.len()) {
            let (in_order, by_number) = read_with(&whole[..length]);
            for error in [in_order, by_number].map(|read| read.expect_err("it was cut")) {
                assert!(
                    matches!(error, TokensError::Damaged { .. }),
                    "{} cut to {length}: {error}",
                    path.display()
                );
            }
        }
        let (in_order, by_number) = read_with(&[&whole[..], &[0]].concat());
        assert!(in_order.is_err() && by_number.is_err(), "{} with a byte more", path.display());
        for at in places(whole.len()) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            match read_with(&flipped) {
                (Ok(in_order), Ok(by_number)) => assert_eq!(in_order, by_number),
                (in_order, by_number) => {
                    for error in [in_order, by_number].into_iter().filter_map(Result::err) {
                        assert!(
                            matches!(error, TokensError::Damaged { .. }),
                            "{} at {at}: {error}",
                            path.display()
                        );
                    }
                }
            }
        }
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(read(format, folder.path(), &shards, layout).unwrap(), rows);
}

/// All positions near the ends of a file, where headers and tables are, and some between.
fn places(length: usize) -> impl Iterator<Item = usize> {
    (0..length).filter(move |&at| at < 200 || at + 200 > length || at % 7 == 0)
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

/// A finished set of `rows` in `folder`, as it is found on disk.
pub fn set(kind: FormatKind, folder: &Path, layout: &Layout, rows: &[Row], a_shard: usize) -> TokenSet {
    let shards = write(kind.format(), folder, layout, rows, a_shard);
    let side = layout.image_side;
    let sidecar = json!({
        "format_version": Sidecar::version(),
        "pixtok": "0.1.0",
        "format": kind,
        "tokenizer": {
            "kind": "fsq", "weights_blake3": "", "codebooks": 1, "codebook_size": 65_536, "digits": false,
            "numbers": 1, "arrangement": "interleaved", "quantizer": {},
        },
        "dtype": layout.dtype,
        "order": "row-major",
        "grid": { "h": layout.grid.map(|grid| grid.h), "w": layout.grid.map(|grid| grid.w), "downsample": 16 },
        "image_size": [side, side],
        "preprocessing": {
            "resize": null, "filter": "lanczos", "crop": "centre", "exif": "applied", "background": [0, 0, 0],
            "lenient_jpeg": false, "normalisation": "x / 127.5 - 1",
        },
        "vocabulary": { "offset": 0 },
        "specials": {},
        "axes": layout.axes,
        "length": layout.length,
        "views": layout.views,
        "names": layout.names,
        "document_index": layout.document_index,
        "source": { "kind": "folder", "path": "images", "blake3": "" },
        "shard_rows": shards.iter().map(|shard| shard.rows).collect::<Vec<_>>(),
        "counts": { "images": rows.len(), "rows": rows.len(), "tokens": 0, "skipped": {} },
    });
    fs::write(folder.join(SideFiles::of(kind).sidecar), sidecar.to_string()).unwrap();
    TokenSet::find(folder).unwrap().remove(0)
}
