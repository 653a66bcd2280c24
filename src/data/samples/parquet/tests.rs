use std::fs;
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::super::tests::{all, failure, keys};
use super::*;
use crate::data::SampleSet;

const IMAGE: &str = "OPTIONAL GROUP image { OPTIONAL BYTE_ARRAY bytes; OPTIONAL BYTE_ARRAY path (UTF8); }";

/// A column of a row group; all of them optional.
enum Column<'a> {
    /// Of `image`: definition levels tell a null struct (0) from a null field (1).
    Nested(&'a [Result<&'a [u8], i16>]),
    Bytes(&'a [Option<&'a [u8]>]),
    Int32(&'a [Option<i32>]),
    Int64(&'a [Option<i64>]),
}

fn split<T: Clone>(values: &[Option<T>]) -> (Vec<T>, Vec<i16>) {
    (
        values.iter().flatten().cloned().collect(),
        values.iter().map(|value| i16::from(value.is_some())).collect(),
    )
}

/// A file with these fields and row groups, in pages of two rows.
fn write(path: &Path, fields: &str, groups: &[&[Column<'_>]]) {
    let schema = parse_message_type(&format!("message rows {{ {fields} }}")).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_data_page_row_count_limit(2)
        .set_write_batch_size(1);
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties.build())).unwrap();
    for columns in groups {
        let mut group = writer.next_row_group().unwrap();
        for column in *columns {
            let mut cells = group.next_column().unwrap().unwrap();
            match column {
                Column::Nested(values) => {
                    let levels: Vec<i16> =
                        values.iter().map(|value| value.map_or_else(|level| level, |_| 2)).collect();
                    let values: Vec<ByteArray> =
                        values.iter().flatten().map(|bytes| bytes.to_vec().into()).collect();
                    cells.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Column::Bytes(values) => {
                    let (values, levels) = split(values);
                    let values: Vec<ByteArray> = values.iter().map(|bytes| bytes.to_vec().into()).collect();
                    cells.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Column::Int32(values) => {
                    let (values, levels) = split(values);
                    cells.typed::<Int32Type>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Column::Int64(values) => {
                    let (values, levels) = split(values);
                    cells.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
                }
            }
            cells.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// A file of images alone, each with no path.
fn write_images(path: &Path, groups: &[&[&[u8]]]) {
    let groups: Vec<Vec<Result<&[u8], i16>>> =
        groups.iter().map(|images| images.iter().map(|&image| Ok(image)).collect()).collect();
    let none: Vec<Vec<Result<&[u8], i16>>> = groups.iter().map(|images| vec![Err(1); images.len()]).collect();
    let columns: Vec<[Column<'_>; 2]> =
        groups.iter().zip(&none).map(|(a, b)| [Column::Nested(a), Column::Nested(b)]).collect();
    let columns: Vec<&[Column<'_>]> = columns.iter().map(|group| &group[..]).collect();
    write(path, IMAGE, &columns);
}

fn table(fields: &str, groups: &[&[Column<'_>]]) -> (tempfile::TempDir, SampleSet) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.b.parquet");
    write(&path, fields, groups);
    let set = SampleSet::open(&path).unwrap();
    (root, set)
}

fn keys_of(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|sample| sample.key.as_str()).collect()
}

fn bytes(content: &[u8]) -> Result<Encoded, String> {
    Ok(Encoded::Bytes(content.to_vec()))
}

#[test]
fn rows_are_numbered_in_their_file_across_row_groups() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("data")).unwrap();
    fs::write(root.path().join("README.md"), b"a repository of the hub").unwrap();
    let part = |name: &str| root.path().join("data").join(name);
    write_images(&part("train-1.x.parquet"), &[&[b"d", b""]]);
    write_images(&part("train-0.parquet"), &[&[b"a", b"b"], &[], &[b"c"]]);
    write_images(&part("train-2.parquet"), &[]);
    let set = SampleSet::open(root.path()).unwrap();
    assert_eq!((set.kind(), set.len(), set.classes().len()), ("parquet", Some(5), 0));
    let samples = all(&set);
    let keys = [
        "train-0/00000000",
        "train-0/00000001",
        "train-0/00000002",
        "train-1_x/00000000",
        "train-1_x/00000001",
    ];
    assert_eq!(keys_of(&samples), keys);
    let images: Vec<_> = samples.iter().map(|sample| sample.image.clone()).collect();
    assert_eq!(images, [bytes(b"a"), bytes(b"b"), bytes(b"c"), bytes(b"d"), bytes(b"")]);
    assert!(
        samples.iter().all(|sample| sample.label.is_none() && sample.text.is_none() && sample.json.is_none())
    );
    assert_eq!(all(&set), samples, "a second stream begins anew");
}

#[test]
fn other_columns_are_taken_over_and_nulls_are_none() {
    let fields = format!(
        "OPTIONAL BYTE_ARRAY __key__ (UTF8); {IMAGE} OPTIONAL INT64 other; OPTIONAL INT64 label; \
                          OPTIONAL BYTE_ARRAY caption (UTF8);"
    );
    let (_root, set) = table(
        &fields,
        &[&[
            Column::Bytes(&[Some(b"x/1.2"), Some(b"./y"), Some(b"z"), Some(b"w")]),
            Column::Nested(&[Ok(b"one"), Err(1), Err(0), Ok(b"four")]),
            Column::Nested(&[Ok(b"1.png"), Ok(b"2.png"), Err(0), Err(1)]),
            Column::Int64(&[None, None, None, None]),
            Column::Int64(&[Some(-5), Some(i64::MAX), None, Some(2)]),
            Column::Bytes(&[Some("\u{e9}".as_bytes()), Some(b""), None, Some(b"\xff")]),
        ]],
    );
    let samples = all(&set);
    assert_eq!(keys_of(&samples), ["x/1_2", "y", "z", "w"]);
    let labels: Vec<_> = samples.iter().map(|sample| sample.label).collect();
    assert_eq!(labels, [Some(-5), Some(i64::MAX), None, Some(2)]);
    let texts: Vec<_> = samples.iter().map(|sample| sample.text.as_deref()).collect();
    assert_eq!(texts, [Some("\u{e9}"), Some(""), None, None]);
    assert_eq!(samples[0].image, bytes(b"one"));
    for (index, part) in [(1, "null"), (2, "null"), (3, "not UTF-8")] {
        assert!(samples[index].image.as_ref().unwrap_err().contains(part));
    }
}

#[test]
fn labels_may_be_any_integers_and_nothing_else() {
    for (kind, label) in [("INT32 label", Some(-1)), ("INT32 cls (UINT_32)", Some(i64::from(u32::MAX)))] {
        let cells = [Column::Nested(&[Ok(b"x")]), Column::Nested(&[Err(1)]), Column::Int32(&[Some(-1)])];
        let (_root, set) = table(&format!("{IMAGE} OPTIONAL {kind};"), &[&cells]);
        assert_eq!(all(&set)[0].label, label);
    }
    let cells = [Column::Nested(&[Ok(b"x")]), Column::Nested(&[Err(1)]), Column::Int64(&[Some(-1)])];
    let (_root, set) = table(&format!("{IMAGE} OPTIONAL INT64 label (UINT_64);"), &[&cells]);
    assert!(all(&set)[0].image.as_ref().unwrap_err().contains("the label is no signed"));
    // A date is no class, a number no caption, bytes are no name: as if they were not there.
    let (_root, set) = table(
        &format!("{IMAGE} OPTIONAL INT32 label (DATE); OPTIONAL INT64 text; OPTIONAL BYTE_ARRAY key;"),
        &[&[
            Column::Nested(&[Ok(b"x")]),
            Column::Nested(&[Err(1)]),
            Column::Int32(&[Some(1)]),
            Column::Int64(&[Some(1)]),
            Column::Bytes(&[Some(b"/x")]),
        ]],
    );
    let sample = &all(&set)[0];
    assert_eq!((sample.key.as_str(), sample.label, &sample.text), ("a_b/00000000", None, &None));
}

#[test]
fn keys_that_lead_elsewhere_are_named_with_their_row() {
    for (key, reason) in [
        (Some(&b"/x"[..]), "is absolute"),
        (Some(b"x/../y"), "`..`"),
        (Some(b""), "is empty"),
        (Some(b"x\\y"), "backslash"),
        (Some(b"x\0"), "NUL"),
        (Some(b"\xff"), "not UTF-8"),
        (None, "is null"),
    ] {
        let (_root, set) = table(
            &format!("{IMAGE} OPTIONAL BYTE_ARRAY key (UTF8);"),
            &[
                &[Column::Nested(&[Ok(b"x")]), Column::Nested(&[Err(1)]), Column::Bytes(&[Some(b"good")])],
                &[Column::Nested(&[Ok(b"x")]), Column::Nested(&[Err(1)]), Column::Bytes(&[key])],
            ],
        );
        let (samples, error) = failure(&set);
        assert_eq!(keys_of(&samples), ["good"]);
        let message = error.to_string();
        assert!(message.contains("a.b.parquet, row 1: ") && message.contains(reason), "{message}");
    }
}

#[test]
fn a_file_without_images_is_named_with_what_it_has() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.parquet");
    for (fields, has) in [
        (
            "OPTIONAL GROUP img { OPTIONAL BYTE_ARRAY bytes; } OPTIONAL INT64 label;",
            "img.bytes BYTE_ARRAY, label INT64",
        ),
        ("OPTIONAL BYTE_ARRAY image (UTF8);", "image BYTE_ARRAY"),
        ("REPEATED GROUP image { OPTIONAL BYTE_ARRAY bytes; }", "image.bytes BYTE_ARRAY"),
    ] {
        write(&path, fields, &[]);
        let message = SampleSet::open(&path).unwrap_err().to_string();
        for part in ["x.parquet has no column `image`", has] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn files_of_different_data_sets_are_refused() {
    let root = tempfile::tempdir().unwrap();
    write_images(&root.path().join("a.parquet"), &[&[b"x"]]);
    write(&root.path().join("b.parquet"), &format!("{IMAGE} OPTIONAL INT64 label;"), &[]);
    let message = SampleSet::open(root.path()).unwrap_err().to_string();
    for part in [
        "/b.parquet differ from those of ",
        "/a.parquet: image.bytes BYTE_ARRAY, label INT64 against image.bytes BYTE_ARRAY;",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // A column that is not read may differ.
    write(&root.path().join("b.parquet"), &format!("{IMAGE} OPTIONAL INT64 width;"), &[]);
    assert_eq!(SampleSet::open(root.path()).unwrap().len(), Some(1));
}

#[test]
fn files_that_would_give_the_same_keys_are_refused() {
    let root = tempfile::tempdir().unwrap();
    write_images(&root.path().join("a.b.parquet"), &[&[b"x"]]);
    write_images(&root.path().join("a_b.parquet"), &[&[b"x"]]);
    let message = SampleSet::open(root.path()).unwrap_err().to_string();
    assert!(message.starts_with("keys clash in ") && message.contains("begin with a_b/"), "{message}");
}

#[test]
fn damaged_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.parquet");
    write_images(&path, &[&[b"first", b"second"], &[b"third"]]);
    let whole = fs::read(&path).unwrap();
    for broken in [&whole[..whole.len() - 9], b"no table", b""] {
        fs::write(&path, broken).unwrap();
        let message = SampleSet::open(&path).unwrap_err().to_string();
        assert!(message.contains("x.parquet cannot be read even to its first sample: "), "{message}");
    }
    // Zeros where the second row group's images are.
    let mut broken = whole.clone();
    let start = SerializedFileReader::new(bytes::Bytes::from(whole.clone()))
        .unwrap()
        .metadata()
        .row_group(1)
        .column(0)
        .byte_range();
    broken[start.0 as usize..][..start.1 as usize].fill(0);
    fs::write(&path, broken).unwrap();
    let (samples, error) = failure(&SampleSet::open(&path).unwrap());
    assert_eq!(keys_of(&samples), ["x/00000000", "x/00000001"]);
    let message = error.to_string();
    assert!(message.contains("x.parquet cannot be read beyond the sample x/00000001: "), "{message}");
}

#[test]
fn refused_rows_are_asked_for_once_and_their_pages_not_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.parquet");
    let images: Vec<Vec<u8>> = (0..11_u8).map(|n| vec![n; usize::from(n)]).collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    write_images(&path, &[&images[..7], &images[7..]]);
    let set = SampleSet::open(&path).unwrap();
    // Every subset of the rows that the bits of `mask` name, within a page and across pages and row groups.
    for mask in (0..1 << 11_u32).step_by(37) {
        let number = |key: &str| key.rsplit('/').next().unwrap().parse::<u32>().unwrap();
        let mut stream = set.stream().unwrap();
        let (mut asked, mut got) = (vec![], vec![]);
        while let Some(sample) = stream
            .next(&mut |key| {
                asked.push(number(key));
                mask >> number(key) & 1 == 1
            })
            .unwrap()
        {
            assert_eq!(sample.image, bytes(images[number(&sample.key) as usize]));
            got.push(number(&sample.key));
        }
        assert_eq!(asked, (0..11).collect::<Vec<_>>());
        assert_eq!(got, (0..11).filter(|row| mask >> row & 1 == 1).collect::<Vec<_>>());
    }
    // The images of the first row group are broken, which those who want none of them never notice.
    let mut broken = fs::read(&path).unwrap();
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let (start, length) = reader.metadata().row_group(0).column(0).byte_range();
    broken[start as usize..][..length as usize].fill(0);
    fs::write(&path, broken).unwrap();
    let (_, got) = keys(&set, |key| key.ends_with('8'));
    assert_eq!(got, ["x/00000008"]);
}
