use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::fixture;
use crate::npy::header;
use crate::{FormatKind, SIDECAR, TokenSet, TokenShape};

const GRID: Grid = Grid { h: 2, w: 3 };
/// A row of [`framed`] as the set has it.
const WHOLE: [u32; 12] = [1, 2, 100, 101, 102, 3, 103, 104, 109, 3, 4, 5];
const CODES: [u32; 6] = [100, 101, 102, 103, 104, 109];

/// The form of a set with a sidecar that `change` altered.
fn like(folder: &Path, change: impl FnOnce(&mut Value)) -> GeneratedForm {
    let layout = &fixture::layouts()[0];
    fixture::set(FormatKind::Raw, folder, layout, &fixture::rows(layout, 2), 2);
    let path = folder.join(SIDECAR);
    let mut sidecar: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut sidecar);
    fs::write(path, sidecar.to_string()).unwrap();
    GeneratedForm::like(&TokenSet::find(folder).unwrap()[0]).unwrap()
}

/// Images of 2×3 tokens with the ids 100 to 109, between bos, boi and eoi, eos, with ends of rows.
fn framed(folder: &Path) -> GeneratedForm {
    like(folder, |sidecar| {
        sidecar["tokenizer"]["codebook_size"] = 10.into();
        sidecar["grid"] = json!({ "h": 2, "w": 3, "downsample": 16 });
        sidecar["vocabulary"] = json!({ "offset": 100 });
        sidecar["specials"] = json!({ "bos": 1, "boi": 2, "eol": 3, "eoi": 4, "eos": 5 });
    })
}

/// Codes of a tokenizer whose usual images have 2×3 tokens.
fn plain() -> GeneratedForm {
    GeneratedForm::codes(TokenShape::Grid { h: 2, w: 3 }, 1, 10).unwrap()
}

/// What is read from a file `gen.ENDING` with this content: rows, or what is wrong with them.
fn read(form: &GeneratedForm, ending: &str, content: &[u8]) -> Result<Vec<Result<Row, String>>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gen").with_extension(ending);
    fs::write(&path, content).unwrap();
    let words = |error: TokensError| error.to_string();
    let generated = Generated::new(&path, form.clone()).map_err(words)?;
    let rows: Result<Vec<_>, TokensError> = generated.rows().map_err(words)?.collect();
    Ok(rows.map_err(words)?.into_iter().map(|row| row.map_err(|bad| bad.to_string())).collect())
}

/// The ids of all rows, none of which may be bad.
fn ids(form: &GeneratedForm, ending: &str, content: &[u8]) -> Vec<Vec<u32>> {
    read(form, ending, content).unwrap().into_iter().map(|row| row.unwrap().ids).collect()
}

fn npy(descr: &str, shape: &[u64], numbers: &[i64]) -> Vec<u8> {
    let bytes = descr[2..].parse().unwrap();
    let data = numbers.iter().flat_map(|number| number.to_le_bytes()[..bytes].to_vec());
    header(descr, shape).into_iter().chain(data).collect()
}

fn as_u16(rows: &[&[u32]]) -> Vec<u8> {
    Dtype::U16.to_bytes(&rows.concat())
}

#[test]
fn a_row_may_lack_the_prompt_what_comes_last_and_ends_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let form = framed(folder.path());
    for row in [
        &WHOLE[..],
        &WHOLE[1..],
        &WHOLE[2..],
        &WHOLE[..11],
        &WHOLE[..10],
        &WHOLE[2..10],
        &CODES,
        &[&WHOLE[..2], &CODES, &WHOLE[10..]].concat(),
        &[&WHOLE[1..2], &CODES].concat(),
    ] {
        assert_eq!(form.complete(row, None), Ok((GRID, WHOLE.to_vec())), "{row:?}");
        // The file may state the grid, too.
        assert_eq!(form.complete(row, Some(GRID)), Ok((GRID, WHOLE.to_vec())), "{row:?}");
        let twice = as_u16(&[row, row]);
        assert_eq!(ids(&form, "bin", &twice), [WHOLE, WHOLE], "{row:?}");
        let bare = read(&plain(), "bin", &twice).unwrap_err();
        assert!(bare.contains("--like") && bare.contains(".npy"), "{bare}");
    }
    let error = form.complete(&CODES, Some(Grid { h: 3, w: 2 })).unwrap_err();
    assert_eq!(error, "its tokens are 3×2, and those of every image are 2×3");
}

#[test]
fn what_is_wrong_with_a_row_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let form = framed(folder.path());
    let with = |place: usize, id: u32| {
        let mut row = WHOLE.to_vec();
        row[place] = id;
        row
    };
    for (row, words) in [
        (with(1, 7), "place 1 has the id 7 where the framing has 2"),
        (with(3, 110), "place 3 has the id 110, which is none of the 10 codes with the ids 100 to 109"),
        (with(5, 100), "place 5 has the id 100 where a row of the image ends with 3"),
        (
            with(6, 3),
            "place 6 has the id 3, which is eol, where a code belongs: mask special ids while sampling",
        ),
        (with(3, 1), "place 3 has the id 1, which is bos, where a code belongs: mask"),
        (with(11, 4), "place 11 has the id 4 where the framing has 5"),
        (
            CODES[..5].to_vec(),
            "it has 5 ids, and an image of 2×3 tokens has 6, or 12 with all ids of the framing",
        ),
        (
            [&WHOLE[1..2], &CODES[..5]].concat(),
            "it begins with boi and has 5 codes; an image of 2×3 tokens has 6",
        ),
        (
            WHOLE[..9].to_vec(),
            "it begins with bos, boi and has 6 codes and 1 other special id; an image of 2×3 tokens has 6 in a row of 12",
        ),
        (
            [&WHOLE[..], &[5]].concat(),
            "it begins with bos, boi and has 6 codes and 5 other special ids; an image",
        ),
        (vec![], "it has 0 ids"),
    ] {
        let error = form.complete(&row, None).unwrap_err();
        assert!(error.starts_with(words), "{row:?}: {error}");
    }
    let error = plain().complete(&[0; 5], None).unwrap_err();
    assert_eq!(error, "it has 5 ids, and an image of 2×3 tokens has 6");
}

#[test]
fn digits_and_arrangements_are_those_of_the_set() {
    let folder = tempfile::tempdir().unwrap();
    let digits = |arrangement: &str| {
        like(folder.path(), |sidecar| {
            let tokenizer = &mut sidecar["tokenizer"];
            tokenizer["digits"] = true.into();
            tokenizer["levels"] = json!([4, 2]);
            tokenizer["numbers"] = 2.into();
            tokenizer["arrangement"] = arrangement.into();
            sidecar["grid"] = json!({ "h": 2, "w": 3, "downsample": 16 });
            sidecar["specials"] = json!({ "eol": 9 });
        })
    };
    let together = [3, 1, 2, 0, 1, 1, 9, 0, 0, 3, 1, 2, 1, 9];
    let apart = [3, 2, 1, 9, 0, 3, 2, 9, 1, 0, 1, 9, 0, 1, 1, 9];
    for (arrangement, row, wrong) in [("interleaved", &together[..], 1), ("stacked", &apart, 8)] {
        let form = digits(arrangement);
        assert_eq!(form.complete(row, None), Ok((GRID, row.to_vec())), "{arrangement}");
        let mut row = row.to_vec();
        row[wrong] = 2;
        let error = form.complete(&row, None).unwrap_err();
        let words = format!("place {wrong} has the id 2, digit 2 of dimension 1, which has 2 levels");
        assert_eq!(error, words, "{arrangement}");
    }
    // Arrays of codes have the axes of the set.
    let codes: Vec<i64> = together.iter().filter(|&&id| id != 9).map(|&id| i64::from(id)).collect();
    let array = npy("<i8", &[1, 2, 3, 2], &codes);
    assert_eq!(ids(&digits("interleaved"), "npy", &array), [together]);
    let error = read(&digits("stacked"), "npy", &array).unwrap_err();
    assert!(error.contains("has the shape [1, 2, 3, 2], and an array of codes has [N, 2, 2, 3]"), "{error}");
    let codes: Vec<i64> = apart.iter().filter(|&&id| id != 9).map(|&id| i64::from(id)).collect();
    assert_eq!(ids(&digits("stacked"), "npy", &npy("<i8", &[1, 2, 2, 3], &codes)), [apart]);
}

#[test]
fn arrays_of_any_integers_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let form = framed(folder.path());
    let [whole, codes] =
        [&WHOLE[..], &CODES].map(|row| row.iter().map(|&id| i64::from(id)).collect::<Vec<_>>());
    for descr in ["|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"] {
        let twice = [whole.clone(), whole.clone()].concat();
        for shape in [&[2, 12][..], &[24]] {
            assert_eq!(ids(&form, "npy", &npy(descr, shape, &twice)), [WHOLE, WHOLE], "{descr} {shape:?}");
        }
        for shape in [&[1, 6][..], &[1, 2, 3], &[6]] {
            assert_eq!(ids(&form, "npy", &npy(descr, shape, &codes)), [WHOLE], "{descr} {shape:?}");
        }
    }
    let rows =
        read(&form, "npy", &npy("<i8", &[3, 6], &[[-1, 100, 100, 100, 100, 100]; 3].concat())).unwrap();
    let error = rows[2].clone().unwrap_err();
    assert_eq!(
        error,
        "row 2: place 0 has -1, which is not an id: ids are whole numbers from 0 to 2147483647"
    );
    for (descr, largest) in [("<i8", "2147483648"), ("<u8", "2147483648")] {
        let rows = read(&plain(), "npy", &npy(descr, &[1, 6], &[0, 0, 0, 0, 0, 1 << 31])).unwrap();
        assert!(rows[0].clone().unwrap_err().contains(&format!("place 5 has {largest},")), "{descr}");
    }
    // Without a set, an array states its own grid, and rows have the tokenizer's.
    let six = [5, 4, 3, 2, 1, 0];
    for (shape, grid) in [(&[1, 3, 2][..], Grid { h: 3, w: 2 }), (&[1, 2, 3], GRID), (&[1, 6], GRID)] {
        let row = read(&plain(), "npy", &npy("<i4", shape, &six)).unwrap().remove(0).unwrap();
        assert_eq!(
            (row.grid, row.ids.as_slice(), row.key.as_str()),
            (grid, &[5, 4, 3, 2, 1, 0][..], "00000000")
        );
    }
    let books = GeneratedForm::codes(TokenShape::Sequence { n: 3 }, 2, 10).unwrap();
    let row = read(&books, "npy", &npy("<i4", &[1, 3, 2], &six)).unwrap().remove(0).unwrap();
    assert_eq!((row.grid, row.ids), (Grid { h: 1, w: 3 }, vec![5, 4, 3, 2, 1, 0]));
}

#[test]
fn arrays_that_are_no_rows_of_ids_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let form = framed(folder.path());
    let six = [100; 6];
    let mut fortran = npy("<i8", &[1, 6], &six);
    let place = fortran.windows(5).position(|bytes| bytes == b"False").unwrap();
    fortran[place..place + 5].copy_from_slice(b"True ");
    let mut long = npy("<i8", &[1, 6], &six);
    long.push(0);
    for (content, part) in [
        (npy("<f4", &[1, 6], &six), "type <f4; save the ids as integers"),
        (npy(">i4", &[1, 6], &six), "type >i4"),
        (fortran, "np.ascontiguousarray"),
        (long, "49 bytes follow the header of [1, 6]"),
        (npy("<i8", &[1, 7], &six), "48 bytes follow the header of [1, 7]"),
        (npy("<i8", &[0, 6], &[]), "an array [0, 6] without ids"),
        (npy("<i8", &[u64::MAX, 6], &six), "bytes follow"),
        (npy("<i8", &[1, 3, 2], &six), "the shape [1, 3, 2], and an array of codes has [N, 2, 3]"),
        (b"\x93NUMPY\x01\x00\xff\xff{}".to_vec(), "not an array in numpy's format"),
        (b"\x93NUMPY\x03\x00\xff\xff\xff\xff{}".to_vec(), "not an array in numpy's format"),
        (b"{}".to_vec(), "not an array in numpy's format"),
        (vec![], "not an array in numpy's format"),
    ] {
        let error = read(&form, "npy", &content).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
    // numpy writes later versions for long descriptions; the text is the same.
    let first = npy("<i8", &[1, 6], &six);
    let length = u32::from(u16::from_le_bytes([first[8], first[9]]));
    let third = [&b"\x93NUMPY\x03\x00"[..], &length.to_le_bytes()[..], &first[10..]].concat();
    assert_eq!(ids(&form, "npy", &third).len(), 1);
    let error = read(&form, "txt", b"1 2 3").unwrap_err();
    assert!(error.contains("ends in .npy, .bin or .jsonl"), "{error}");
}

#[test]
fn a_stream_is_cut_by_its_first_row() {
    let folder = tempfile::tempdir().unwrap();
    let form = framed(folder.path());
    // One id of the frame of the first row is wrong, and rows of the set's length fill the stream.
    let mut wrong = WHOLE;
    wrong[11] = 77;
    let rows = read(&form, "bin", &as_u16(&[&wrong, &WHOLE, &WHOLE])).unwrap();
    assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true]);
    wrong = WHOLE;
    wrong[0] = 77;
    let rows = read(&form, "bin", &as_u16(&[&wrong, &WHOLE])).unwrap();
    assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
    // The last row is not whole.
    let rows = read(&form, "bin", &as_u16(&[&WHOLE[1..], &WHOLE[1..], &WHOLE[1..4]])).unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2].clone().unwrap_err(), "row 2: the file ends after 3 of its 11 ids");
    for (content, part) in
        [(&b"abc"[..], "has 3 bytes, which do not divide into ids of 2 bytes each"), (b"", "has no ids")]
    {
        let error = read(&form, "bin", content).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn lines_are_lists_or_objects() {
    let folder = tempfile::tempdir().unwrap();
    let form = framed(folder.path());
    let text = "[100, 101, 102, 103, 104, 109]\r\n\n\
        {\"tokens\": [100, 101, 102, 103, 104, 109], \"key\": \"deep/cat\", \"h\": 2, \"w\": 3, \"prompt\": \"a cat\"}\n\
        {\"ids\": [100]}\n\
        [100, 101, 102, 103, 104, 1.5]\n\
        [[100, 101, 102], [103, 104, 109]]\n\
        \"100 101\"\n\
        [100, 101\n\
        [100, 101, 102, 103, 104, 3000000000]\n\
        {\"tokens\": [100, 101, 102, 103, 104, 109], \"h\": \"2\", \"w\": 3}\n\
        {\"tokens\": [100, 101, 102, 103, 104, 109], \"w\": 3, \"h\": null}\n\
        {\"tokens\": [100, 101, 102, 103, 104, 109], \"key\": 7}";
    let rows = read(&form, "jsonl", text.as_bytes()).unwrap();
    let keys: Vec<String> = rows.iter().flatten().map(|row| row.key.clone()).collect();
    assert_eq!(keys, ["00000000", "deep/cat"]);
    assert!(rows.iter().flatten().all(|row| row.ids == WHOLE));
    let bad: Vec<String> = rows.into_iter().filter_map(Result::err).collect();
    for (words, start) in bad.iter().zip([
        "row 2 (line 4 of the file): it has no list \"tokens\"",
        "row 3 (line 5 of the file): place 5 has 1.5, which is not an id",
        "row 4 (line 6 of the file): its ids are in lists within the list",
        "row 5 (line 7 of the file): it is \"100 101\", not a list of ids",
        "row 6 (line 8 of the file): it is not JSON",
        "row 7 (line 9 of the file): place 5 has 3000000000, which is not an id",
        "row 8 (line 10 of the file): its h is \"2\", not a whole number",
        "row 9 (line 11 of the file): it has one of h and w",
        "row 10 (line 12 of the file): its key is 7, not a string",
    ]) {
        assert!(words.starts_with(start), "{words}");
    }
    assert_eq!(bad.len(), 9);
}

#[test]
fn names_of_tokens_are_read_where_the_set_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let form = like(folder.path(), |sidecar| {
        sidecar["format"] = "jsonl".into();
        sidecar["grid"] = json!({ "h": 1, "w": 2, "downsample": 16 });
        sidecar["names"] = json!({ "pattern": "<i{}>", "offset": 0, "codes": 65_536 });
    });
    assert_eq!(
        ids(&form, "jsonl", b"\"<i7><i9>\"\n{\"tokens\":\"<i1><i2>\"}\n[3,4]\n"),
        [[7, 9], [1, 2], [3, 4]]
    );
    let rows = read(&form, "jsonl", b"\"<i7>x\"\n").unwrap();
    assert!(rows[0].clone().unwrap_err().contains("does not begin with a token's name"));
}

#[test]
fn images_of_different_sizes_state_them() {
    let folder = tempfile::tempdir().unwrap();
    let ragged = |specials: Value| {
        like(folder.path(), |sidecar| {
            sidecar["tokenizer"]["codebook_size"] = 10.into();
            sidecar["grid"] = json!({ "h": null, "w": null, "downsample": 16 });
            sidecar["image_size"] = Value::Null;
            sidecar["length"] = Value::Null;
            sidecar["specials"] = specials;
        })
    };
    let grid = |h, w| Grid { h, w };
    let sizes = ragged(json!({ "boi": 20, "size": { "kind": "grid", "base": 30, "div": 1 } }));
    assert_eq!(sizes.complete(&[20, 31, 32, 5, 6], None).unwrap().0, grid(1, 2));
    assert_eq!(sizes.complete(&[32, 31, 5, 6], None), Ok((grid(2, 1), vec![20, 32, 31, 5, 6])));
    let error = sizes.complete(&[20, 33, 32, 5, 6], None).unwrap_err();
    assert!(error.contains("an image of 3×2 tokens has 6"), "{error}");
    assert!(sizes.complete(&[5, 6], None).unwrap_err().contains("nothing states the size"));
    assert_eq!(sizes.complete(&[5, 6], Some(grid(2, 1))), Ok((grid(2, 1), vec![20, 32, 31, 5, 6])));
    assert!(sizes.complete(&[5, 6], Some(grid(0, 7))).is_err());
    assert!(sizes.complete(&[5, 6], Some(grid(u32::MAX, u32::MAX))).is_err());

    let spelling: Vec<u32> = (40..51).collect();
    let text = ragged(json!({ "img": 20, "size": { "kind": "text", "ids": spelling } }));
    assert_eq!(text.complete(&[41, 50, 42, 20, 5, 6], None).unwrap().0, grid(1, 2));

    let ends = ragged(json!({ "boi": 20, "eol": 21 }));
    assert_eq!(ends.complete(&[5, 21, 6, 21], None), Ok((grid(2, 1), vec![20, 5, 21, 6, 21])));
    assert!(
        ends.complete(&[5, 6, 21, 7, 21], None).unwrap_err().contains("it has 3 codes and 2 special ids; an")
    );

    let error = read(&ends, "bin", &as_u16(&[&[5, 21]])).unwrap_err();
    assert!(error.contains("does not tell where its rows end"), "{error}");
    let error = read(&ends, "npy", &npy("<i8", &[2], &[5, 21])).unwrap_err();
    assert!(error.contains("one row of numbers"), "{error}");
    let rows = read(&ends, "npy", &npy("<i8", &[1, 1, 2], &[5, 6])).unwrap();
    assert_eq!(rows[0].clone().unwrap().ids, [20, 5, 6, 21]);
}
