//! How the pictures of a set were prepared, and how much of them was cut, in words.

use pixtok_images::data::{ImageSize, Prepare};
use pixtok_tokens::{Layout, Row, Sidecar};

/// A larger share is all of a picture, in the figures that are shown.
const ALL: f64 = 0.9995;

/// How pictures were prepared.
#[must_use]
pub fn preparation(sidecar: &Sidecar) -> String {
    let resize = sidecar.preprocessing.resize;
    let resized = match (resize, sidecar.image_size) {
        (Some(short), _) => format!("short side resized to {short}"),
        (None, Some([height, width])) if height == width => format!("short side resized to {height}"),
        (None, Some(_)) => "resized to cover the crop".to_owned(),
        (None, None) => "at their own size".to_owned(),
    };
    match (sidecar.image_size, sidecar.grid.downsample) {
        (Some([height, width]), _) => {
            format!("{resized}, then cropped at the centre to {height}×{width} pixels")
        }
        (None, Some(pixels)) => {
            let multiple = pixels.saturating_mul(sidecar.specials.size.step());
            format!("whole, {resized}, each side rounded to a multiple of {multiple} pixels")
        }
        (None, None) => format!("whole, {resized}"),
    }
}

/// The mean share of the pictures' area that was kept, and the flags of `encode` that keep more.
#[must_use]
pub fn share_kept(sidecar: &Sidecar, kept: f64) -> String {
    share(sidecar, kept, " kept")
}

/// The same beside the word "kept".
#[must_use]
pub fn share_of_area(sidecar: &Sidecar, kept: f64) -> String {
    share(sidecar, kept, "")
}

fn share(sidecar: &Sidecar, kept: f64, word: &str) -> String {
    if kept >= ALL {
        return format!("all of their area{word}");
    }
    let more = keeps_more(sidecar);
    let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join("; ")) };
    format!("{:.1} % of their area{word} on average{more}", 100.0 * kept)
}

/// What to give `encode` to keep more of a picture.
fn keeps_more(sidecar: &Sidecar) -> Vec<&'static str> {
    let Some([height, width]) = sidecar.image_size else { return vec![] };
    let mut more = vec![];
    let cuts = |short: u32| height != width || short > height;
    if sidecar.preprocessing.resize.is_some_and(cuts) {
        more.push("encode without --resize to keep more");
    }
    if !sidecar.grid.is_sequence() {
        let several_sizes = Layout { grid: None, length: None, ..sidecar.layout() };
        more.push(match sidecar.format.format().check(&several_sizes) {
            Ok(()) => "--fit whole keeps all",
            Err(_) => "--fit whole keeps all, in a format for images of several sizes, such as parquet",
        });
    }
    more
}

/// The share of the area of a row's picture that was kept.
#[must_use]
pub fn share_of_row(sidecar: &Sidecar, row: &Row) -> f64 {
    let Some([height, width]) = sidecar.image_size else { return 1.0 };
    let size = ImageSize { height, width };
    Prepare::share_of_centre(size, sidecar.preprocessing.resize, (row.width, row.height))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A set of images of this size, whose pictures were first resized to `resize`.
    fn sidecar(format: &str, size: Option<[u32; 2]>, resize: Option<u32>) -> Sidecar {
        let side = |at: usize| size.map(|size| size[at] / 8);
        let length = size.map(|[h, w]| h * w / 64);
        let sidecar = json!({
            "format_version": 1, "pixtok": "0.1.0", "format": format,
            "tokenizer": {
                "kind": "fsq", "weights_blake3": "", "codebooks": 1, "codebook_size": 1000, "digits": false,
                "numbers": 1, "arrangement": "interleaved", "quantizer": {},
            },
            "dtype": "u16", "order": "row-major",
            "grid": { "h": side(0), "w": side(1), "downsample": 8 },
            "image_size": size,
            "preprocessing": {
                "resize": resize, "filter": "lanczos", "crop": "centre", "exif": "applied",
                "background": [255, 255, 255], "lenient_jpeg": false, "normalisation": "x / 127.5 - 1",
            },
            "vocabulary": { "offset": 0 }, "specials": {}, "axes": { "kind": "grid" }, "length": length,
            "views": 1, "source": { "kind": "folder", "path": "images", "blake3": "" },
            "shard_rows": [], "counts": { "images": 0, "rows": 0, "tokens": 0, "skipped": {} },
        });
        serde_json::from_value(sidecar).unwrap()
    }

    #[test]
    fn what_is_cut_is_said_with_the_flags_that_keep_more() {
        let whole = "--fit whole keeps all";
        for (format, size, resize, prepared, more) in [
            ("parquet", Some([64, 64]), None, "short side resized to 64, then cropped at the", vec![whole]),
            (
                "jsonl",
                Some([64, 64]),
                Some(96),
                "short side resized to 96, then cropped at the centre to 64×64",
                vec!["encode without --resize", whole],
            ),
            ("jsonl", Some([32, 64]), None, "resized to cover the crop, then", vec![whole]),
            ("npy", Some([64, 64]), Some(64), "short side resized to 64", vec![whole, "such as parquet"]),
            ("raw", None, Some(48), "whole, short side resized to 48, each side rounded to a", vec![]),
        ] {
            let sidecar = sidecar(format, size, resize);
            let words = preparation(&sidecar);
            assert!(words.contains(prepared), "{words}");
            let words = share_kept(&sidecar, 0.384);
            assert!(words.starts_with("38.4 % of their area kept on average"), "{words}");
            assert!(more.iter().all(|part| words.contains(part)), "{words}");
            assert_eq!(words.contains("without --resize"), resize == Some(96), "{words}");
            assert_eq!(share_kept(&sidecar, 1.0), "all of their area kept");
            assert_eq!(share_of_area(&sidecar, 1.0), "all of their area");
            assert!(share_of_area(&sidecar, 0.384).starts_with("38.4 % of their area on average"));
        }
    }

    #[test]
    fn the_share_of_a_row_follows_from_the_size_of_its_picture() {
        let row = Row {
            key: "a".into(),
            grid: pixtok_tokens::Grid { h: 8, w: 8 },
            width: 400,
            height: 200,
            ids: vec![],
            label: None,
            text: None,
            json: None,
        };
        let share = |size, resize| share_of_row(&sidecar("jsonl", size, resize), &row);
        assert!((share(Some([64, 64]), None) - 0.5).abs() < 1e-12);
        // The short side is 80 pixels, the long one 160.
        assert!((share(Some([64, 64]), Some(80)) - 0.32).abs() < 1e-12);
        assert_eq!(share(None, Some(80)), 1.0);
    }
}
