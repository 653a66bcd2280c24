//! The pictures of the page: originals, reconstructions, and error maps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::{Comparison, Exhibit, ReportError};
use pixtok_images::picture::{Picture, error_map, error_scale};

/// The target width of a picture in CSS pixels. Pictures are enlarged by whole factors, so that
/// pixels stay square.
const WIDTH: usize = 144;
/// Wider pictures are shrunk to this width.
const WIDEST: usize = 256;

/// An original with its reconstruction by each arm.
pub(super) struct Scene {
    /// The name of the image.
    pub name: String,
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
    originals: &[(String, Picture)],
) -> Result<(Vec<Scene>, u32), ReportError> {
    check(comparison, exhibits, originals)?;
    let pictures = || originals.iter().map(|(_, picture)| picture);
    let pairs = exhibits.iter().flat_map(|exhibit| pictures().zip(&exhibit.reconstructions));
    let factor = error_scale(pairs);
    let scenes = originals.iter().enumerate().map(|(at, (name, original))| {
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
            name: name.clone(),
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

fn check(
    comparison: &Comparison,
    exhibits: &[Exhibit],
    originals: &[(String, Picture)],
) -> Result<(), ReportError> {
    for (arm, exhibit) in comparison.arms.iter().zip(exhibits) {
        let pictures = &exhibit.reconstructions;
        let size = |picture: &Picture| (picture.width, picture.height);
        let alike = pictures.iter().map(size).eq(originals.iter().map(|(_, picture)| size(picture)));
        if !pictures.is_empty() && !alike {
            return Err(ReportError::Reconstructions { arm: arm.name.clone() });
        }
    }
    Ok(())
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
        let named = [("a.png".to_owned(), original.clone())];
        let (scenes, factor) = scenes(&comparison, &exhibits, &named).unwrap();
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
    fn other_sizes_and_numbers_are_refused() {
        let comparison = fixture::comparison(&[("a", "s", &[])]);
        let original = fixture::picture(5, 7, 0);
        for wrong in [vec![fixture::picture(7, 5, 0)], vec![original.clone(), original.clone()]] {
            let named = [("a.png".to_owned(), original.clone())];
            let error = scenes(&comparison, &[exhibit(wrong)], &named).err().unwrap();
            assert!(error.to_string().contains("reconstructions of a"), "{error}");
        }
    }
}
