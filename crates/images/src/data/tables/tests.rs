use std::fs::{self, File};
use std::path::Path;
use std::time::UNIX_EPOCH;

use parquet::basic::Compression;
use parquet::data_type::{ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::data::order::order;
use crate::data::{Dataset, Difference};
use crate::picture::{DecodeOptions, Picture};
use pixtok_base::seed::Seed;

fn png(width: usize) -> Vec<u8> {
    Picture { width, height: 5, rgb: vec![7; 15 * width] }.to_png().unwrap()
}

/// Writes rows with images of these widths, three rows per page, with or without a dictionary. A
/// width of 0 stands for null.
fn write(path: &Path, widths: &[&[usize]], dictionary: bool) {
    let schema = "message rows { OPTIONAL GROUP img { OPTIONAL BYTE_ARRAY bytes; } OPTIONAL INT64 label; }";
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(dictionary)
        .set_data_page_row_count_limit(3)
        .set_write_batch_size(1)
        .build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    for group in widths {
        let mut rows = writer.next_row_group().unwrap();
        let images: Vec<_> =
            group.iter().filter(|&&width| width > 0).map(|&width| png(width).into()).collect();
        let levels: Vec<i16> = group.iter().map(|&width| if width > 0 { 2 } else { 0 }).collect();
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).unwrap();
        column.close().unwrap();
        let labels: Vec<i64> = group.iter().map(|&width| 100 - width as i64).collect();
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; group.len()]), None).unwrap();
        column.close().unwrap();
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn images_are_read_in_any_order() {
    let root = tempfile::tempdir().unwrap();
    let widths: Vec<usize> = (1..=20).map(|n| if n == 6 { 0 } else { n }).collect();
    write(&root.path().join("a.parquet"), &[&widths[..11], &[], &widths[11..13]], true);
    write(&root.path().join("b.parquet"), &[&widths[13..]], false);
    let set = Dataset::open(root.path(), Split::All).unwrap();
    assert_eq!((set.len(), set.name(12), set.name(13)), (20, "a/00000012".into(), "b/00000000".into()));
    assert!(set.shards(Share::whole()).unwrap().len() >= 8, "{:?}", set.shards(Share::whole()));
    for index in order(&set, 10_000, Seed(1), 0) {
        let index = index as usize;
        let picture = set.picture(index, &DecodeOptions::default());
        match widths[index] {
            0 => assert!(picture.unwrap_err().contains("`bytes` are null")),
            width => assert_eq!(picture.unwrap().width, width),
        }
        let label = set.label(index).unwrap();
        assert_eq!(set.labels()[label], (100 - widths[index]).to_string());
    }
}

#[test]
fn splits_are_disjoint_and_files_are_known_again() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    let widths: Vec<usize> = (0..400).map(|n| 1 + n % 3).collect();
    write(&path, &[&widths], true);
    let open = |split| Dataset::open(&path, split).unwrap();
    let (train, val) = (open(Split::Train { val_share: 0.2 }), open(Split::Val { val_share: 0.2 }));
    assert!((40..=120).contains(&val.len()), "{}", val.len());
    let names = |set: &Dataset| (0..set.len()).map(|index| set.name(index).into_owned()).collect::<Vec<_>>();
    let mut both = [names(&train), names(&val)].concat();
    both.sort();
    assert_eq!(both, names(&open(Split::All)));
    for index in 0..val.len() {
        let row: usize = val.name(index)[2..].parse().unwrap();
        assert_eq!(val.picture(index, &DecodeOptions::default()).unwrap().width, widths[row]);
    }
    assert_ne!(train.fingerprint(), val.fingerprint());
    let before = train.fingerprint();
    let difference = || open(Split::Train { val_share: 0.2 }).fingerprint().difference(&before);
    assert_eq!(difference(), None);
    File::options().append(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
    assert_eq!(difference(), Some(Difference::Times));
    write(&path, &[&widths[1..]], true);
    assert_eq!(difference(), Some(Difference::Names));
}

#[test]
fn pages_are_let_go_of_beyond_the_bound() {
    let mut recent = Recent::default();
    let loaded = |bytes: usize| Ok(vec![Some(ByteArray::from(vec![0; bytes]))]);
    for page in 0..3 {
        let own = recent.get(page);
        own.set(loaded(10)).unwrap();
        recent.keep(page, &own);
    }
    recent.get(0);
    recent.bytes = KEPT - 5;
    let own = recent.get(3);
    own.set(loaded(10)).unwrap();
    recent.keep(3, &own);
    let mut kept: Vec<usize> = recent.pages.keys().copied().collect();
    kept.sort_unstable();
    // Page 1 was unused for longest.
    assert_eq!((kept, recent.bytes), (vec![0, 2, 3], KEPT - 5));
}

#[test]
fn a_page_that_was_let_go_of_while_it_was_read_is_counted_once() {
    let mut recent = Recent::default();
    let (early, images) = (recent.get(0), || Ok(vec![Some(ByteArray::from(vec![0; 10]))]));
    // A reader of a different page may drop it in the meantime.
    recent.pages.clear();
    recent.used.clear();
    let late = recent.get(0);
    for loaded in [&early, &late] {
        loaded.set(images()).unwrap();
        recent.keep(0, loaded);
    }
    assert_eq!((recent.bytes, recent.pages[&0].bytes), (10, 10));
}

#[test]
fn damaged_pages_are_bad_images_and_damaged_tables_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    write(&path, &[&[1, 2, 3, 4, 5, 6]], false);
    let set = TableRows::open(&path, vec![path.clone()], Split::All, &Selection::default(), &|_| ()).unwrap();
    let whole = fs::read(&path).unwrap();
    // Damages everything before the labels, which is the images.
    let mut broken = whole.clone();
    broken[4..200].fill(0);
    fs::write(&path, &broken).unwrap();
    assert!(set.read(0).unwrap_err().starts_with("its table is damaged: "), "{:?}", set.read(0));
    let message = Dataset::open(&path, Split::All).unwrap_err().to_string();
    assert!(message.contains("a.parquet cannot be read"), "{message}");
}

#[test]
fn the_parts_of_a_split_share_files_and_no_image() {
    let root = tempfile::tempdir().unwrap();
    let widths: Vec<usize> = (1..=40).collect();
    write(&root.path().join("a.parquet"), &[&widths[..25]], false);
    write(&root.path().join("b.parquet"), &[&widths[25..]], false);
    let open = |split| Dataset::open(root.path(), split).unwrap();
    let (train, val) = (open(Split::Train { val_share: 0.3 }), open(Split::Val { val_share: 0.3 }));
    assert_eq!(val.overlap(&train, None).shared, None);
    let shared = open(Split::All).overlap(&val, None).shared.unwrap();
    assert_eq!((shared.images, shared.example), (val.len(), val.name(0).into_owned()));
}
