//! The pictures of the page: originals, reconstructions, and error maps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::{Comparison, Exhibit, ReportError};
use pixtok_images::picture::Picture;

/// The target width of a picture in CSS pixels. Pictures are enlarged by whole factors, so that
/// pixels stay square.
const WIDTH: usize = 144;
/// Wider pictures are shrunk to this width.
const WIDEST: usize = 256;
/// The largest factor by which errors are amplified.
const MOST_AMPLIFIED: u32 = 32;
/// The share of all pixels whose amplified error must fit the scale.
const WITHIN: f64 = 0.995;

/// An original with its reconstruction by each arm.
pub(super) struct Scene {
    /// The width of each picture in CSS pixels.
    pub width: usize,
    /// Whether the pictures are so large that three do not fit side by side on a phone.
    pub large: bool,
    /// Whether the pictures are shown smaller than they are.
    pub shrunk: bool,
    pub original: String,
    pub tiles: Vec<Tile>,
}

/// A reconstruction.
pub(super) struct Tile {
    /// The index of the arm in the comparison.
    pub arm: usize,
    pub picture: String,
    pub errors: String,
}

/// Each original with its reconstructions, as data URIs, and the amplification of the error maps,
/// which is the same for all.
pub(super) fn scenes(
    comparison: &Comparison,
    exhibits: &[Exhibit],
    originals: &[Picture],
) -> Result<(Vec<Scene>, u32), ReportError> {
    check(comparison, exhibits, originals)?;
    let factor = factor(exhibits, originals);
    let scenes = originals.iter().enumerate().map(|(at, original)| {
        let shown = exhibits
            .iter()
            .enumerate()
            .filter_map(|(arm, exhibit)| Some((arm, exhibit.reconstructions.get(at)?)));
        let tile = |(arm, picture): (usize, &Picture)| {
            let errors = data_uri(&error_map(original, picture, factor))?;
            Ok(Tile { arm, picture: data_uri(picture)?, errors })
        };
        let tiles = shown.map(tile).collect::<Result<_, ReportError>>()?;
        let width = shown_width(original.width);
        Ok(Scene {
            width,
            large: width > WIDTH,
            shrunk: width < original.width,
            original: data_uri(original)?,
            tiles,
        })
    });
    Ok((scenes.collect::<Result<_, ReportError>>()?, factor))
}

fn shown_width(width: usize) -> usize {
    let times = (WIDTH + width.saturating_sub(1) / 2) / width.max(1);
    (width * times.max(1)).min(WIDEST)
}

fn check(comparison: &Comparison, exhibits: &[Exhibit], originals: &[Picture]) -> Result<(), ReportError> {
    for (arm, exhibit) in comparison.arms.iter().zip(exhibits) {
        let pictures = &exhibit.reconstructions;
        let size = |picture: &Picture| (picture.width, picture.height);
        let alike = pictures.iter().map(size).eq(originals.iter().map(size));
        if !pictures.is_empty() && !alike {
            return Err(ReportError::Reconstructions { arm: arm.name.clone() });
        }
    }
    Ok(())
}

/// The absolute error of each pixel, as a mean over its channels.
fn errors<'a>(original: &'a Picture, picture: &'a Picture) -> impl Iterator<Item = u32> + 'a {
    let pixels = original.rgb.as_chunks::<3>().0.iter().zip(picture.rgb.as_chunks::<3>().0);
    pixels.map(|(a, b)| {
        let sum: u32 = (0..3).map(|channel| u32::from(a[channel].abs_diff(b[channel]))).sum();
        (sum + 1) / 3
    })
}

/// The largest power of two that keeps nearly all errors of all arms within the scale.
fn factor(exhibits: &[Exhibit], originals: &[Picture]) -> u32 {
    let mut counts = [0u64; 256];
    for exhibit in exhibits {
        for (original, picture) in originals.iter().zip(&exhibit.reconstructions) {
            for error in errors(original, picture) {
                counts[error as usize] += 1;
            }
        }
    }
    let within = WITHIN * counts.iter().sum::<u64>() as f64;
    let mut sum = 0;
    let large = counts.iter().position(|count| {
        sum += count;
        sum as f64 >= within
    });
    let fits = 255 / (large.unwrap_or(0) as u32).max(1);
    // The largest power of two that is not above it.
    (1 << fits.max(1).ilog2()).min(MOST_AMPLIFIED)
}

/// An error map: white without error, darker for larger errors, on paper as on the screen.
fn error_map(original: &Picture, picture: &Picture, factor: u32) -> Picture {
    let rgb =
        errors(original, picture).flat_map(|error| [255 - (error * factor).min(255) as u8; 3]).collect();
    Picture { width: original.width, height: original.height, rgb }
}

fn data_uri(picture: &Picture) -> Result<String, ReportError> {
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(picture.to_png()?)))
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture;
    use super::*;
    use pixtok_images::picture::{DecodeOptions, decode};

    fn exhibit(reconstructions: Vec<Picture>) -> Exhibit {
        Exhibit { reconstructions, ..Default::default() }
    }

    fn shifted(picture: &Picture, by: u8) -> Picture {
        Picture { rgb: picture.rgb.iter().map(|value| value ^ by).collect(), ..*picture }
    }

    #[test]
    fn pictures_come_back_from_their_uris() {
        let original = fixture::picture(5, 7, 0);
        let comparison = fixture::comparison(&[("a", "s", &[]), ("failed", "s", &[])]);
        let exhibits = [exhibit(vec![shifted(&original, 16)]), Exhibit::default()];
        let (scenes, factor) = scenes(&comparison, &exhibits, std::slice::from_ref(&original)).unwrap();
        assert_eq!((scenes.len(), scenes[0].tiles.len(), factor), (1, 1, 8));
        assert_eq!(scenes[0].width, 145);
        let decoded = |uri: &str| {
            let png = STANDARD.decode(uri.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
            decode(&png, &DecodeOptions::default()).unwrap().release()
        };
        assert_eq!(decoded(&scenes[0].original), original);
        assert_eq!(decoded(&scenes[0].tiles[0].picture), shifted(&original, 16));
        assert_eq!(decoded(&scenes[0].tiles[0].errors).rgb, [255 - 16 * 8; 3 * 5 * 7]);
    }

    #[test]
    fn widths_are_whole_multiples_near_one_size() {
        let widths = [1, 32, 64, 96, 128, 256, 1000].map(shown_width);
        assert_eq!(widths, [144, 128, 128, 96, 128, 256, 256]);
    }

    #[test]
    fn a_perfect_copy_has_a_white_map() {
        let original = fixture::picture(5, 7, 0);
        let exhibits = [exhibit(vec![original.clone()])];
        assert_eq!(factor(&exhibits, std::slice::from_ref(&original)), MOST_AMPLIFIED);
        assert_eq!(error_map(&original, &original, 32).rgb, [255; 105]);
    }

    #[test]
    fn other_sizes_and_numbers_are_refused() {
        let comparison = fixture::comparison(&[("a", "s", &[])]);
        let original = fixture::picture(5, 7, 0);
        for wrong in [vec![fixture::picture(7, 5, 0)], vec![original.clone(), original.clone()]] {
            let error =
                scenes(&comparison, &[exhibit(wrong)], std::slice::from_ref(&original)).err().unwrap();
            assert!(error.to_string().contains("reconstructions of a"), "{error}");
        }
    }
}
