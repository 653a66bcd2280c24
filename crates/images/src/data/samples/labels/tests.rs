use std::fs;

use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::*;

/// Numbers, classes and notes.
type Settled = (Vec<Option<i64>>, Vec<String>, Vec<String>);

/// Settles these labels, given as JSON; returns the result and the notes.
fn settled(labels: &Value, declared: Option<&[&str]>, given: Option<&[&str]>) -> Result<Settled, String> {
    let of_json = |label| Raw::of_json(&to_raw_value(label).unwrap());
    let raw: Vec<Option<Raw>> = labels.as_array().unwrap().iter().map(of_json).collect();
    // Two halves, as from two files.
    let (mut survey, mut rest) = (Survey::default(), Survey::default());
    for (row, label) in raw.iter().enumerate() {
        let half = if row < raw.len() / 2 { &mut survey } else { &mut rest };
        half.add(label.as_ref(), || format!("row {row}"));
    }
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let given = given.map(|given| Classes { path: "c.txt".into(), names: names(given) });
    let mut notes = vec![];
    let settled = survey.and(rest).settle("it", declared.map(names), given.as_ref(), false, &mut notes);
    let settled = settled.map_err(|error| error.to_string())?;
    let numbers = raw.iter().map(|label| settled.number(label.as_ref())).collect();
    Ok((numbers, settled.classes().to_vec(), notes))
}

#[test]
fn numbers_convert_exactly_or_none_is_taken() {
    for (labels, expected) in [
        (json!([3, -1, null]), vec![Some(3), Some(-1), None]),
        (json!([3.0, true, false, -0.0]), vec![Some(3), Some(1), Some(0), Some(0)]),
        (json!(["3", " -1 ", "", "+7.00"]), vec![Some(3), Some(-1), None, Some(7)]),
        (json!(["3", 4]), vec![Some(3), Some(4)]),
        (json!([9_007_199_254_740_993_i64, i64::MAX]), vec![Some(9_007_199_254_740_993), Some(i64::MAX)]),
    ] {
        let (numbers, classes, _) = settled(&labels, None, None).unwrap();
        assert_eq!((numbers, classes.len()), (expected, 0), "{labels}");
    }
    for (labels, part) in [
        (json!([1, 1.5]), "1.5 (row 1) is not a 64-bit whole number"),
        (json!([1, u64::MAX]), "18446744073709551615 (row 1)"),
        (json!([9.3e18, 1]), "9300000000000000000 (row 0)"),
        (json!([[1], 1]), "a list (row 0)"),
        (json!(["0.5", "1"]), "\"0.5\" (row 0) is not a 64-bit whole number"),
        (json!(["1", "-.5", "cat"]), "\"-.5\" (row 1) is not a 64-bit whole number"),
        (json!(["1", "99999999999999999999"]), "\"99999999999999999999\" (row 1)"),
        (json!(["a".repeat(257)]), "(row 0) has more than 256 bytes"),
        (json!(["cat", 1]), "some are names, as \"cat\" (row 0), and some are numbers, as 1 (row 1)"),
    ] {
        let (numbers, _, notes) = settled(&labels, None, None).unwrap();
        assert!(numbers.iter().all(Option::is_none) && notes[0].contains(part), "{notes:?}");
    }
}

#[test]
fn names_count_in_sorted_order_or_in_that_given() {
    // A string that only some readers take for a number is a name.
    let labels = json!(["dog", "1e3", "inf", "dog", null, "1.2.3"]);
    let (numbers, classes, notes) = settled(&labels, None, None).unwrap();
    assert_eq!(classes, ["1.2.3", "1e3", "dog", "inf"]);
    assert_eq!(numbers, [Some(2), Some(1), Some(3), Some(2), None, Some(0)]);
    assert_eq!(notes[0], "it: samples without one: 1 of 6");
    let (numbers, classes, _) = settled(&json!(["a", "b"]), None, Some(&["b", "c", "a"])).unwrap();
    assert_eq!((numbers, classes.len()), (vec![Some(2), Some(0)], 3));
    for labels in [json!([0, 2]), json!(["0", "2"])] {
        assert_eq!(settled(&labels, None, Some(&["b", "c", "a"])).unwrap().0, [Some(0), Some(2)]);
    }
    for (labels, part) in [
        (json!(["a", "d"]), "\"d\" is not one of the 3 classes in c.txt"),
        (json!(["a", "1"]), "\"1\" is not one"),
        (json!([0, 3]), "3 (row 1) is not one"),
        (json!([-2, 2]), "-2 (row 0) is not one"),
        (json!([-1]), "no sample has one"),
        (json!([null]), "no sample has one"),
        (json!([0, 1.5]), "it cannot be taken: 1.5 (row 1)"),
    ] {
        let message = settled(&labels, None, Some(&["b", "c", "a"])).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn numbers_that_the_input_names_keep_their_names() {
    let names: Option<&[&str]> = Some(&["zebra", "ant"]);
    let (numbers, classes, _) = settled(&json!([1, 0, -1]), names, None).unwrap();
    assert_eq!((numbers, classes), (vec![Some(1), Some(0), None], vec!["zebra".into(), "ant".into()]));
    let (numbers, classes, _) = settled(&json!([1, 0, -1]), names, Some(&["ant", "bee", "zebra"])).unwrap();
    assert_eq!((numbers, classes.len()), (vec![Some(0), Some(2), None], 3));
    // Even if no image has one.
    let (numbers, classes, _) = settled(&json!([null, null]), names, None).unwrap();
    assert_eq!((numbers, classes), (vec![None, None], vec!["zebra".into(), "ant".into()]));
    let (numbers, _, notes) = settled(&json!([1, 2]), names, None).unwrap();
    assert_eq!(numbers, [None, None]);
    assert!(notes[0].contains("2 (row 1) is not one of the 2 classes that it declares"), "{notes:?}");
    assert!(settled(&json!([1]), names, Some(&["ant"])).unwrap_err().contains("\"zebra\" is not one"));
}

#[test]
fn minus_one_is_none_where_classes_have_names() {
    let names: &[&str] = &["ant", "bee"];
    for (labels, declared, given) in [
        (json!([1, -1, null]), Some(names), None),
        (json!([1, -1, null]), Some(names), Some(names)),
        (json!([1, -1, null]), None, Some(names)),
        (json!(["bee", "-1", "ant"]), None, Some(names)),
        (json!(["bee", " -1 ", "ant"]), None, None),
    ] {
        let (numbers, classes, notes) = settled(&labels, declared, given).unwrap();
        assert_eq!((&numbers[..2], classes.len()), (&[Some(1), None][..], 2), "{labels}");
        let none = numbers.iter().filter(|number| number.is_none()).count();
        assert_eq!(notes[0], format!("it: samples without one: {none} of 3 (1 of them −1)"), "{labels}");
    }
    let (numbers, classes, notes) = settled(&json!([-1, -1]), Some(names), None).unwrap();
    assert_eq!((numbers, classes.len()), (vec![None, None], 2));
    assert_eq!(notes, ["it: samples without one: 2 of 2 (2 of them −1)"]);
}

#[test]
fn names_in_both_spellings_are_one_class() {
    let (one, two) = ("caf\u{e9}", "cafe\u{301}");
    let (numbers, classes, _) = settled(&json!([one, two, "bar"]), None, None).unwrap();
    assert_eq!((numbers, classes), (vec![Some(1), Some(1), Some(0)], vec!["bar".into(), one.into()]));
    let (numbers, ..) = settled(&json!([one]), None, Some(&["x", two])).unwrap();
    assert_eq!(numbers, [Some(1)]);
    let folders = Labels::of_folders(&[two.into(), one.into()], None).unwrap();
    assert_eq!(folders.classes(), [one]);
    // A list may contain decimals as names.
    assert_eq!(settled(&json!(["1.5"]), None, Some(&["x", "1.5"])).unwrap().0, [Some(1)]);
}

#[test]
fn too_many_names_are_no_classes() {
    let labels: Vec<String> = (0..=MOST_NAMES).map(|i| format!("n{i}")).collect();
    let (numbers, _, notes) = settled(&json!(labels), None, None).unwrap();
    assert_eq!(numbers[0], None);
    assert!(notes[0].contains("more than 65536 different values"), "{notes:?}");
    let mut all = Survey::default();
    for half in labels.chunks(MOST_NAMES / 2) {
        let mut survey = Survey::default();
        half.iter().for_each(|name| survey.add(Some(&Raw::Word(name.clone())), String::new));
        all = all.and(survey);
    }
    assert_eq!((all.words.len(), all.too_many), (MOST_NAMES, true));
}

#[test]
fn lists_of_classes_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.txt");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        Classes::read(&path).map_err(|error| error.to_string())
    };
    assert_eq!(read("\u{feff}dog\r\ncat \n\n").unwrap().names, ["dog", "cat"]);
    for (text, part) in [
        ("a\n\nb\n", "line 2: it is empty"),
        ("a\nb\na\n", "line 3: \"a\" is on line 1 too"),
        ("caf\u{e9}\ncafe\u{301}\n", "is on line 1 too"),
        ("\n", "not a class name"),
    ] {
        let message = read(text).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}
