use std::fs::{self, File};
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int32Type,
    Int64Type,
};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::super::tests::{all, failure, keys};
use super::*;
use ::parquet::file::reader::SerializedFileReader;

use crate::data::SampleSet;
use crate::data::samples::{Altered, Encoded};
use pixtok_base::Carried;

const IMAGE: &str = "OPTIONAL GROUP image { OPTIONAL BYTE_ARRAY bytes; OPTIONAL BYTE_ARRAY path (UTF8); }";

/// A column of a row group; all of them optional.
enum Column<'a> {
    /// Of `image`: definition levels tell a null struct (0) from a null field (1).
    Nested(&'a [Result<&'a [u8], i16>]),
    Bytes(&'a [Option<&'a [u8]>]),
    Int32(&'a [Option<i32>]),
    Int64(&'a [Option<i64>]),
    Double(&'a [Option<f64>]),
    /// Bits of float16.
    Half(&'a [Option<u16>]),
    Bool(&'a [Option<bool>]),
    /// Lists of strings; each list and each string may be null.
    Lists(&'a [Option<&'a [Option<&'a str>]>]),
}

fn split<T: Clone>(values: &[Option<T>]) -> (Vec<T>, Vec<i16>) {
    (
        values.iter().flatten().cloned().collect(),
        values.iter().map(|value| i16::from(value.is_some())).collect(),
    )
}

/// A file with these fields and row groups, in pages of two rows.
fn write(path: &Path, fields: &str, groups: &[&[Column<'_>]]) {
    write_with(path, fields, groups, None);
}

/// As [`write`], with the features that `datasets` states for the columns.
fn write_with(path: &Path, fields: &str, groups: &[&[Column<'_>]], features: Option<&str>) {
    let schema = parse_message_type(&format!("message rows {{ {fields} }}")).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_data_page_row_count_limit(2)
        .set_write_batch_size(1)
        .set_key_value_metadata(features.map(|text| {
            let info = format!("{{\"info\": {{\"features\": {text}}}}}");
            vec![KeyValue::new("huggingface".to_owned(), info)]
        }));
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
                Column::Double(values) => {
                    let (values, levels) = split(values);
                    cells.typed::<DoubleType>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Column::Half(values) => {
                    let (values, levels) = split(values);
                    let values: Vec<FixedLenByteArray> =
                        values.iter().map(|bits| bits.to_le_bytes().to_vec().into()).collect();
                    cells.typed::<FixedLenByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Column::Bool(values) => {
                    let (values, levels) = split(values);
                    cells.typed::<BoolType>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Column::Lists(rows) => {
                    let (mut values, mut levels, mut repetition) = (vec![], vec![], vec![]);
                    for row in *rows {
                        let elements = row.unwrap_or_default();
                        if elements.is_empty() {
                            levels.push(i16::from(row.is_some()));
                            repetition.push(0);
                        }
                        for (at, element) in elements.iter().enumerate() {
                            levels.push(if element.is_some() { 3 } else { 2 });
                            repetition.push(i16::from(at > 0));
                            values.extend(element.map(ByteArray::from));
                        }
                    }
                    cells
                        .typed::<ByteArrayType>()
                        .write_batch(&values, Some(&levels), Some(&repetition))
                        .unwrap();
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
    assert_eq!(all(&set), samples, "a second stream begins at the start");
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

/// Three rows with a label in these fields: the labels that are taken, and the notes.
fn labelled(field: &str, labels: Column<'_>) -> (Vec<Option<i64>>, Vec<String>, Vec<String>) {
    let images = [Column::Nested(&[Ok(b"x"), Ok(b"x"), Ok(b"x")]), Column::Nested(&[Err(1); 3])];
    let [bytes, paths] = images;
    let (_root, set) = table(&format!("{IMAGE} OPTIONAL {field};"), &[&[bytes, paths, labels]]);
    let labels = all(&set).iter().map(|sample| sample.label).collect();
    (labels, set.classes().to_vec(), set.notes().to_vec())
}

#[test]
fn labels_of_any_type_are_taken_where_they_convert() {
    let words = |words: [&'static str; 3]| words.map(|word| Some(word.as_bytes()));
    for (field, column, expected) in [
        ("INT32 label", Column::Int32(&[Some(-1), None, Some(7)]), [Some(-1), None, Some(7)]),
        (
            "INT32 cls (UINT_32)",
            Column::Int32(&[Some(-1), Some(0), None]),
            [Some((1 << 32) - 1), Some(0), None],
        ),
        ("DOUBLE label", Column::Double(&[Some(3.0), Some(f64::NAN), None]), [Some(3), None, None]),
        (
            "FIXED_LEN_BYTE_ARRAY (2) label (FLOAT16)",
            Column::Half(&[Some(0x4200), Some(0x7E00), None]),
            [Some(3), None, None],
        ),
        ("BOOLEAN label", Column::Bool(&[Some(true), Some(false), None]), [Some(1), Some(0), None]),
        (
            "BYTE_ARRAY class (UTF8)",
            Column::Bytes(&words(["10", "-2", "3.0"])),
            [Some(10), Some(-2), Some(3)],
        ),
        ("INT32 label (UNKNOWN)", Column::Int32(&[None, None, None]), [None, None, None]),
    ] {
        let (labels, classes, _) = labelled(field, column);
        assert_eq!((labels, classes.len()), (expected.to_vec(), 0), "{field}");
    }
    for field in ["BYTE_ARRAY label (UTF8)", "BYTE_ARRAY label"] {
        let (labels, classes, notes) = labelled(field, Column::Bytes(&words(["dog", "10", "dog"])));
        assert_eq!((labels, classes), (vec![Some(1), Some(0), Some(1)], vec!["10".into(), "dog".into()]));
        assert!(notes[0].contains("2 classes by name, counted from 0: 10, dog"), "{notes:?}");
    }
}

#[test]
fn labels_that_do_not_convert_are_named() {
    for (field, column, parts) in [
        (
            "DOUBLE label",
            Column::Double(&[Some(1.0), Some(1.5), None]),
            ["label (double)", "1.5 (row 1 of a.b.parquet)"],
        ),
        (
            "FIXED_LEN_BYTE_ARRAY (2) label (FLOAT16)",
            Column::Half(&[Some(0x3C00), Some(0x3E00), None]),
            ["label (float16)", "1.5 (row 1 of a.b.parquet)"],
        ),
        (
            "INT64 label (UINT_64)",
            Column::Int64(&[Some(-1), None, None]),
            ["label (uint64)", "18446744073709551615"],
        ),
        ("BYTE_ARRAY label", Column::Bytes(&[Some(b"\xff"), None, None]), ["label (binary)", "not UTF-8"]),
        (
            "INT32 label (DATE)",
            Column::Int32(&[Some(1), None, None]),
            ["not used: label (date)", "--label-column"],
        ),
        ("INT64 text", Column::Int64(&[Some(1), None, None]), ["not used: text (int64)", "--text-column"]),
        ("BYTE_ARRAY key", Column::Bytes(&[Some(b"/x"), None, None]), ["not used: key (binary)", ""]),
    ] {
        let (labels, _, notes) = labelled(field, column);
        assert_eq!(labels, [None; 3], "{field}");
        assert!(parts.iter().all(|part| notes[0].contains(part)), "{notes:?}");
    }
}

#[test]
fn columns_that_are_asked_for_are_taken_or_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.parquet");
    let fields = "OPTIONAL BYTE_ARRAY input; OPTIONAL GROUP target { OPTIONAL BYTE_ARRAY bytes; } \
                  OPTIONAL GROUP mask { OPTIONAL BYTE_ARRAY bytes; } OPTIONAL DOUBLE score; OPTIONAL BYTE_ARRAY words (UTF8);";
    let cells = [
        Column::Bytes(&[Some(b"in")]),
        Column::Nested(&[Ok(b"out")]),
        Column::Nested(&[Ok(b"mask")]),
        Column::Double(&[Some(2.5)]),
        Column::Bytes(&[Some(b"a cat")]),
    ];
    write(&path, fields, &[&cells]);
    let select = |image: &str, label: &str, text: &str| {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let selection =
            Selection { image: name(image), label: name(label), text: name(text), ..Selection::default() };
        SampleSet::select(&path, &selection)
    };
    let message = select("", "", "").unwrap_err().to_string();
    assert!(
        message
            .contains("several columns of images: target.bytes, mask.bytes; choose one with --image-column")
    );
    let sample = all(&select("input", "", "words").unwrap()).remove(0);
    assert_eq!((sample.image, sample.text.as_deref()), (bytes(b"in"), Some("a cat")));
    for (image, label, text, part) in [
        ("gone", "", "", "--image-column gone: "),
        ("score", "", "", "score (double) in "),
        ("input", "", "score", "--text-column score"),
        ("input", "mask", "", "--label-column mask"),
        ("input", "score", "", "the column score (double) cannot be taken: 2.5 (row 0"),
    ] {
        let message = select(image, label, text).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn columns_without_a_value_in_a_file_and_other_types_unify() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, fields: &str, label: Column<'_>, text: Column<'_>| {
        let images = [Column::Nested(&[Ok(b"x")]), Column::Nested(&[Err(1)])];
        let [bytes, paths] = images;
        write(&root.path().join(name), &format!("{IMAGE} {fields}"), &[&[bytes, paths, label, text]]);
    };
    let null = "OPTIONAL INT32 label (UNKNOWN); OPTIONAL INT32 text (UNKNOWN);";
    file("a.parquet", null, Column::Int32(&[None]), Column::Int32(&[None]));
    let text = "OPTIONAL BYTE_ARRAY text (UTF8);";
    file(
        "b.parquet",
        &format!("OPTIONAL INT32 label; {text}"),
        Column::Int32(&[Some(1)]),
        Column::Bytes(&[Some(b"t")]),
    );
    file(
        "c.parquet",
        &format!("OPTIONAL INT64 label; {text}"),
        Column::Int64(&[Some(2)]),
        Column::Bytes(&[None]),
    );
    file(
        "d.parquet",
        &format!("OPTIONAL DOUBLE label; {text}"),
        Column::Double(&[Some(3.0)]),
        Column::Bytes(&[None]),
    );
    let set = SampleSet::open(root.path()).unwrap();
    let samples = all(&set);
    let found: Vec<_> = samples.iter().map(|sample| (sample.label, sample.text.as_deref())).collect();
    assert_eq!(found, [(None, None), (Some(1), Some("t")), (Some(2), None), (Some(3), None)]);
    assert_eq!(set.notes(), ["the column label (int32): samples without one: 1 of 4"]);
}

/// Rows with one image each, and these columns.
fn captioned<'a>(rows: usize, columns: Vec<Column<'a>>) -> Vec<Column<'a>> {
    const CELLS: [Result<&[u8], i16>; 2] = [Ok(b"x"), Err(1)];
    const IMAGES: &[Result<&[u8], i16>] = &[CELLS[0]; 8];
    const PATHS: &[Result<&[u8], i16>] = &[CELLS[1]; 8];
    [Column::Nested(&IMAGES[..rows]), Column::Nested(&PATHS[..rows])].into_iter().chain(columns).collect()
}

fn texts_of(samples: &[Sample]) -> Vec<Option<&str>> {
    samples.iter().map(|sample| sample.text.as_deref()).collect()
}

const LIST: &str = "(LIST) { REPEATED GROUP list { OPTIONAL BYTE_ARRAY element (UTF8); } }";

#[test]
fn the_first_column_with_a_caption_counts_row_by_row() {
    let fields = format!(
        "{IMAGE} OPTIONAL GROUP captions {LIST} OPTIONAL BYTE_ARRAY caption; OPTIONAL BYTE_ARRAY text (UTF8);"
    );
    let lists: &[Option<&[Option<&str>]>] = &[
        Some(&[Some("l0"), None, Some("l1")]),
        Some(&[None, Some("one")]),
        None,
        Some(&[]),
        Some(&[Some("l4")]),
        Some(&[Some("l5"), Some("m5")]),
    ];
    let caption: [Option<&[u8]>; 6] =
        [None, Some(b""), Some(b"c2"), Some(b"\xff"), Some(b"c4"), Some(b"\xff")];
    let text: [Option<&[u8]>; 6] = [None, None, None, None, Some(b"t4"), Some(b" ")];
    let cells = captioned(6, vec![Column::Lists(lists), Column::Bytes(&caption), Column::Bytes(&text)]);
    let (root, set) = table(&fields, &[&cells]);
    assert_eq!(
        set.notes(),
        ["a row's caption is from the first of text (utf8), caption (binary), captions (list) that has one \
          (--text-column chooses one of them)"]
    );
    let samples = all(&set);
    assert_eq!(texts_of(&samples), [Some("l0"), Some("one"), Some("c2"), None, Some("t4"), Some("l5")]);
    let json: Vec<_> = samples.iter().map(|sample| sample.json.as_ref().map(Carried::to_string)).collect();
    let of = |list: &str| Some(format!("{{\"captions\":{list}}}"));
    let expected = [of(r#"["l0",null,"l1"]"#), of(r#"[null,"one"]"#), None, None, None, of(r#"["l5","m5"]"#)];
    assert_eq!(json, expected);
    let others: Vec<_> = samples.iter().map(|sample| sample.altered.captions).collect();
    assert_eq!(others, [0, 0, 0, 0, 2, 1]);
    assert!(samples[3].image.as_ref().unwrap_err().contains("not UTF-8"));
    assert!(samples[5].image.is_ok());
    // Choosing one column leaves out the others.
    let name = |name: &str| Selection { text: Some(name.to_owned()), ..Selection::default() };
    let set = SampleSet::select(root.path(), &name("captions")).unwrap();
    assert_eq!(
        set.notes()[0].split(" (--label").next().unwrap(),
        "columns that are not used: caption (binary), text (utf8)"
    );
    let samples = all(&set);
    assert_eq!(texts_of(&samples), [Some("l0"), Some("one"), None, None, Some("l4"), Some("l5")]);
    assert!(samples.iter().all(|sample| sample.altered == Altered::default()));
}

#[test]
fn captions_beside_a_column_without_one_are_taken() {
    let null = "OPTIONAL INT32 text (UNKNOWN);";
    let fields = format!("{IMAGE} {null} OPTIONAL BYTE_ARRAY caption;");
    let cells = captioned(2, vec![Column::Int32(&[None, None]), Column::Bytes(&[Some(b"a"), None])]);
    let (root, set) = table(&fields, &[&cells]);
    assert_eq!((texts_of(&all(&set)), set.notes().len()), (vec![Some("a"), None], 0));
    // In another file of the set the column has values, and is a list.
    let cells = captioned(1, vec![Column::Lists(&[Some(&[Some("b"), Some("c")])])]);
    write(&root.path().join("z.parquet"), &format!("{IMAGE} OPTIONAL GROUP caption {LIST}"), &[&cells]);
    let samples = all(&SampleSet::open(root.path()).unwrap());
    assert_eq!(texts_of(&samples), [Some("a"), None, Some("b")]);
    // Lists of other kinds: a repeated field, and a repeated field in a group.
    for fields in [
        "REPEATED BYTE_ARRAY text (UTF8);",
        "OPTIONAL GROUP text (LIST) { REPEATED BYTE_ARRAY array (UTF8); }",
    ] {
        let path = root.path().join("old.parquet");
        write(&path, &format!("{IMAGE} {fields}"), &[]);
        assert_eq!(SampleSet::open(&path).unwrap().notes().len(), 0, "{fields}");
    }
    for fields in [
        "REPEATED INT32 text;",
        "OPTIONAL GROUP text (LIST) { REPEATED GROUP list { OPTIONAL GROUP element { OPTIONAL BYTE_ARRAY raw (UTF8); } } }",
    ] {
        let path = root.path().join("other.parquet");
        write(&path, &format!("{IMAGE} {fields}"), &[]);
        let notes = SampleSet::open(&path).unwrap().notes().join("\n");
        assert!(notes.contains("columns that are not used: text (list)"), "{notes}");
    }
}

#[test]
fn class_labels_name_their_classes() {
    let root = tempfile::tempdir().unwrap();
    let features =
        r#"{"image": {"_type": "Image"}, "kind": {"names": ["owl", "ant"], "_type": "ClassLabel"}}"#;
    let path = root.path().join("x.parquet");
    for (labels, expected) in [
        ([Some(1), Some(0)], [Some(1), Some(0)]),
        ([Some(-1), None], [None, None]),
        ([None, None], [None, None]),
    ] {
        let cells = captioned(2, vec![Column::Int64(&labels)]);
        write_with(&path, &format!("{IMAGE} OPTIONAL INT64 kind;"), &[&cells], Some(features));
        let set = SampleSet::open(&path).unwrap();
        assert_eq!(set.classes(), ["owl", "ant"]);
        assert_eq!(all(&set).iter().map(|sample| sample.label).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn keys_and_images_without_a_value_in_a_file_unify() {
    let root = tempfile::tempdir().unwrap();
    let key = "OPTIONAL BYTE_ARRAY key (UTF8);";
    let no_key = "OPTIONAL INT32 key (UNKNOWN);";
    let a = root.path().join("a.parquet");
    let none = "OPTIONAL INT32 image (UNKNOWN);";
    write(&a, &format!("{none} {key}"), &[&[Column::Int32(&[None]), Column::Bytes(&[Some(b"k")])]]);
    let message = SampleSet::open(&a).unwrap_err().to_string();
    assert!(message.contains("no column of images") && message.contains("image (null)"), "{message}");
    let images = || [Column::Nested(&[Ok(b"x")]), Column::Nested(&[Err(1)])];
    let [bytes_, paths] = images();
    let name = Column::Bytes(&[Some(b"l")]);
    write(&root.path().join("b.parquet"), &format!("{IMAGE} {key}"), &[&[bytes_, paths, name]]);
    let set = SampleSet::open(root.path()).unwrap();
    let samples = all(&set);
    assert_eq!(keys_of(&samples), ["k", "l"]);
    assert!(samples[0].image.as_ref().unwrap_err().contains("null"));
    assert_eq!(samples[1].image, bytes(b"x"));
    // The field `bytes` of an image may lack a type in the same way.
    let inner = "OPTIONAL GROUP image { OPTIONAL INT32 bytes (UNKNOWN); OPTIONAL BYTE_ARRAY path (UTF8); }";
    let cells = [Column::Int32(&[None]), Column::Nested(&[Err(0)]), Column::Bytes(&[Some(b"m")])];
    write(&root.path().join("c.parquet"), &format!("{inner} {key}"), &[&cells]);
    assert_eq!(keys_of(&all(&SampleSet::open(root.path()).unwrap())), ["k", "l", "m"]);
    // Training skips them too.
    let trained = crate::data::Dataset::open(root.path(), crate::data::Split::All).unwrap();
    let reason = trained.picture(0, &crate::picture::DecodeOptions::default()).unwrap_err();
    assert!(reason.contains("null"), "{reason}");
    // A key column without values in one file only is an error; without values in all files it does
    // not count.
    let [bytes_, paths] = images();
    write(&a, &format!("{IMAGE} {no_key}"), &[&[bytes_, paths, Column::Int32(&[None])]]);
    let (samples, error) = failure(&SampleSet::open(root.path()).unwrap());
    let message = error.to_string();
    assert!(samples.is_empty() && message.contains("a.parquet, row 0: ") && message.contains("is null"));
    assert_eq!(keys_of(&all(&SampleSet::open(&a).unwrap())), ["a/00000000"]);
}

#[test]
fn training_is_not_told_of_columns() {
    let (root, set) = table(
        &format!("{IMAGE} OPTIONAL INT64 width; OPTIONAL DOUBLE label;"),
        &[&[
            Column::Nested(&[Ok(b"x")]),
            Column::Nested(&[Err(1)]),
            Column::Int64(&[Some(1)]),
            Column::Double(&[Some(0.5)]),
        ]],
    );
    assert_eq!(set.notes().len(), 2);
    let trained = crate::data::Dataset::open(root.path(), crate::data::Split::All).unwrap();
    assert_eq!(trained.notes().count(), 0);
}

#[test]
fn splits_in_folders_are_chosen() {
    let root = tempfile::tempdir().unwrap();
    for (folder, image) in [("train", b"a"), ("test", b"b")] {
        fs::create_dir_all(root.path().join("default").join(folder)).unwrap();
        write_images(&root.path().join("default").join(folder).join("0000.parquet"), &[&[image]]);
    }
    let message = SampleSet::open(root.path()).unwrap_err().to_string();
    assert!(message.contains("several splits of a data set: test, train"), "{message}");
    let selection = Selection { split: Some("test".into()), ..Selection::default() };
    let samples = all(&SampleSet::select(root.path(), &selection).unwrap());
    assert_eq!((samples[0].key.as_str(), &samples[0].image), ("0000/00000000", &bytes(b"b")));
    // A file in a deeper folder is not left out.
    write_images(&root.path().join("more.parquet"), &[&[b"c"]]);
    let selection = Selection { split: Some("train".into()), ..Selection::default() };
    let set = SampleSet::select(root.path(), &selection).unwrap();
    assert_eq!(set.notes(), ["only the split train is used; not used: files of no split, test"]);
    // Given alone, the folder of a split has no other splits.
    assert_eq!(SampleSet::open(&root.path().join("default/train")).unwrap().len(), Some(1));
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
        ("OPTIONAL BYTE_ARRAY other; OPTIONAL INT64 label;", "it has other (binary), label (int64)"),
        ("OPTIONAL BYTE_ARRAY image (UTF8);", "it has image (utf8)"),
        ("REPEATED GROUP image { OPTIONAL BYTE_ARRAY bytes; }", "it has image (list)"),
    ] {
        write(&path, fields, &[]);
        let message = SampleSet::open(&path).unwrap_err().to_string();
        for part in ["x.parquet has no column of images", has, "--image-column"] {
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
        "/a.parquet: image image.bytes, key none, label label, text none against image image.bytes, key none, label none",
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
    for name in ["a.b.parquet", "a_b.parquet"] {
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn damaged_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.parquet");
    write_images(&path, &[&[b"first", b"second"], &[b"third"]]);
    let whole = fs::read(&path).unwrap();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    for (broken, part) in [
        (&whole[..whole.len() - 9], "cannot be read even to its first sample: "),
        (pointer, "is a git-lfs pointer"),
        (b"<!DOCTYPE html><html></html>", "is an HTML page and not a Parquet file"),
        (b"", "is an empty file"),
    ] {
        fs::write(&path, broken).unwrap();
        let message = SampleSet::open(&path).unwrap_err().to_string();
        assert!(message.contains(&format!("x.parquet {part}")), "{message}");
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
    // Every subset of the rows that the bits of `mask` name, within a page and across pages and row
    // groups.
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

#[test]
fn a_share_reads_only_its_own_files() {
    let root = tempfile::tempdir().unwrap();
    let fields = format!("{IMAGE} OPTIONAL DOUBLE label;");
    let part = |name: usize| root.path().join(format!("{name}.parquet"));
    for (name, label) in [1.0, 0.5, 2.0].into_iter().enumerate() {
        let image = (b'a' + name as u8).to_string();
        let images = [Ok(image.as_bytes()), Ok(image.as_bytes())];
        let columns =
            [Column::Nested(&images), Column::Nested(&[Err(1); 2]), Column::Double(&[Some(label), None])];
        write(&part(name), &fields, &[&columns]);
    }
    let share = |rank, size| {
        SampleSet::select_share(root.path(), &Selection::default(), Share { rank, size }).unwrap()
    };
    let (whole, own, other) = (SampleSet::open(root.path()).unwrap(), share(0, 2), share(1, 2));
    assert_eq!((own.len(), own.files_of_share(), own.labels_used()), (Some(4), Some([2, 3]), Some(true)));
    assert_eq!(
        (other.len(), other.files_of_share(), other.labels_used()),
        (Some(2), Some([1, 3]), Some(false))
    );
    assert_eq!((whole.files_of_share(), whole.labels_used()), (None, Some(false)));
    assert_eq!([own.fingerprint(), other.fingerprint()], [whole.fingerprint(), whole.fingerprint()]);
    let samples = all(&own);
    assert_eq!(keys_of(&samples), ["0/00000000", "0/00000001", "2/00000000", "2/00000001"]);
    assert_eq!(samples.iter().map(|sample| sample.label).collect::<Vec<_>>(), [Some(1), None, Some(2), None]);
    // The columns of all files must agree, so the footers are read; the images of others are not.
    let mut broken = fs::read(part(1)).unwrap();
    let reader = SerializedFileReader::new(File::open(part(1)).unwrap()).unwrap();
    let (start, length) = reader.metadata().row_group(0).column(0).byte_range();
    broken[start as usize..][..length as usize].fill(0);
    fs::write(part(1), broken).unwrap();
    assert_eq!(all(&share(0, 2)), samples);
    failure(&share(1, 2));
    assert_eq!(share(0, 4).files_of_share(), None);
}
