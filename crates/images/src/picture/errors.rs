//! Pictures of the errors between a picture and its original.

use super::Picture;

/// The largest factor by which errors are amplified.
const MOST_AMPLIFIED: u32 = 32;
/// The share of all pixels whose amplified error must fit the scale.
const WITHIN: f64 = 0.995;

/// The absolute error of each pixel, as a mean over its channels.
fn errors<'a>(original: &'a Picture, picture: &'a Picture) -> impl Iterator<Item = u32> + 'a {
    let pixels = original.rgb.as_chunks::<3>().0.iter().zip(picture.rgb.as_chunks::<3>().0);
    pixels.map(|(a, b)| {
        let sum: u32 = (0..3).map(|channel| u32::from(a[channel].abs_diff(b[channel]))).sum();
        (sum + 1) / 3
    })
}

/// The factor by which [`error_map`] amplifies errors so that the maps of all pairs of an original
/// and a picture have one scale: the largest power of two that keeps nearly all errors in it.
#[must_use]
pub fn error_scale<'a>(pairs: impl IntoIterator<Item = (&'a Picture, &'a Picture)>) -> u32 {
    let mut counts = [0u64; 256];
    for (original, picture) in pairs {
        for error in errors(original, picture) {
            counts[error as usize] += 1;
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

/// An error map: white without error, darker for larger errors, on paper as on the screen. `scale`
/// amplifies the errors. The two pictures have the same size.
#[must_use]
pub fn error_map(original: &Picture, picture: &Picture, scale: u32) -> Picture {
    let rgb = errors(original, picture).flat_map(|error| [255 - (error * scale).min(255) as u8; 3]).collect();
    Picture { width: original.width, height: original.height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_copy_has_a_white_map() {
        let original = Picture { width: 5, height: 7, rgb: (0..105).collect() };
        assert_eq!(error_scale([(&original, &original)]), MOST_AMPLIFIED);
        assert_eq!(error_map(&original, &original, 32).rgb, [255; 105]);
    }

    #[test]
    fn one_scale_fits_all_pairs() {
        let original = Picture { width: 5, height: 7, rgb: vec![100; 105] };
        let shifted = |by: u8| Picture { rgb: vec![100 + by; 105], ..original.clone() };
        assert_eq!(error_scale([(&original, &shifted(3))]), 32);
        assert_eq!(error_scale([(&original, &shifted(3)), (&original, &shifted(60))]), 4);
        assert_eq!(error_map(&original, &shifted(60), 4).rgb, [255 - 240; 105]);
        assert_eq!(error_map(&original, &shifted(80), 4).rgb, [0; 105]);
    }
}
