//! Checks whether the ranges that an adapter states suit its pair: whether the decoder's output lies
//! in its range, and whether another usual range of the encoder's input gives better images.

use tch::{Kind, Tensor};

use crate::metrics::mean_psnr;

/// The usual ranges: the values for black and white.
pub(super) const USUAL: [[f64; 2]; 3] = [[-1.0, 1.0], [0.0, 1.0], [0.0, 255.0]];
/// Values may lie outside the range by this share of its width.
const MARGIN: f64 = 0.05;
/// Up to this share of the values is ignored.
const FEW: f64 = 0.01;
/// If at least this share of the decoder's values is in one half of the range, the other half
/// should have some too.
const MANY: f64 = 0.1;
/// A gain in decibels that the right range brings, but chance does not.
const GAIN_DB: f64 = 3.0;

/// What the first images show about a range.
#[derive(Debug)]
pub(super) enum Finding {
    Fits,
    /// The range may be wrong; holds the message.
    Doubtful(String),
    /// More than half of the values lie beyond twice the range; holds the message.
    Wrong(String),
}

/// Converts the values of a decoder to 8-bit levels; `black` and `white` become 0 and 255.
///
/// # Shapes
/// `[B, 3, H, W]` of any float kind -> the same shape, uint8.
pub(super) fn levels(images: &Tensor, [black, white]: [f64; 2]) -> Tensor {
    let levels = (images.to_kind(Kind::Float) - black) * (255.0 / (white - black));
    levels.round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// Compares the values of a decoder with the range that `key` of the adapter states. `words`
/// describe the originals. If another range of the encoder's input is known to fit better, `input`
/// says so, and is the remedy. Reads from the device.
///
/// # Shapes
/// `images`: the decoder's output, `[B, 3, H, W]` of any float kind; `originals`: the same shape,
/// uint8.
pub(super) fn judge(
    images: &Tensor,
    (originals, words): (&Tensor, &str),
    key: &str,
    stated: [f64; 2],
    input: Option<String>,
) -> Finding {
    let [black, white] = stated;
    let placed = (images.to_kind(Kind::Float) - black) / (white - black);
    let share = |mask: Tensor| mask.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    let outside = |by: f64| share(placed.lt(-by).logical_or(&placed.gt(1.0 + by)));
    let shown = format!("{key} = {stated:?}");
    let spanned = format!("they go from {:.4} to {:.4}", number(&images.min()), number(&images.max()));
    // Twice as wide around the same centre.
    let beyond = outside(0.5);
    if beyond > 0.5 {
        return Finding::Wrong(format!(
            "{:.0} % of the decoder's values on {words} lie beyond twice its range, {shown} ({spanned}); {}",
            100.0 * beyond,
            input.unwrap_or_else(|| remedy(images, originals, stated))
        ));
    }
    // Whatever else is odd about the values may follow from the input.
    if let Some(input) = input {
        return Finding::Doubtful(input);
    }
    let off = outside(MARGIN);
    if off > FEW {
        return Finding::Doubtful(format!(
            "{:.1} % of the decoder's values on {words} lie outside {shown} by over 5 % of it ({spanned}); \
             {}",
            100.0 * off,
            remedy(images, originals, stated)
        ));
    }
    // Dark and bright values. The gap between them leaves out values around the centre.
    let halves = |values: &Tensor| [share(values.lt(0.5 - MARGIN)), share(values.gt(0.5 + MARGIN))];
    let (own, theirs) = (halves(&placed), halves(&(originals.to_kind(Kind::Float) / 255.0)));
    let empty = (0..2).find(|&half| {
        own[half] <= FEW && own[1 - half] >= MANY && theirs[half] > FEW && theirs[half] > 10.0 * own[half]
    });
    let Some(half) = empty else { return Finding::Fits };
    Finding::Doubtful(format!(
        "on {words} the decoder makes no values in the {} half of its range, {shown} ({spanned}), where \
         {:.0} % of the originals' are; {}",
        ["dark", "bright"][half],
        100.0 * theirs[half],
        remedy(images, originals, stated)
    ))
}

/// The ranges of a pair, stated or tried: those of the encoder's input and the decoder's output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranges {
    pub input: [f64; 2],
    /// Absent: the same as the input's.
    pub output: Option<[f64; 2]>,
}

/// The usual range of the encoder's input that fits better than the stated one by 3 dB or more,
/// whatever the range of the output, with what it gains; `None` if there is none. `made` holds the
/// decoder's output for each other usual range of the input, and `own` that for the stated one.
///
/// # Shapes
/// `own`, `made`: `[B, 3, H, W]` of any float kind; `originals`: the same shape, uint8.
pub(super) fn better_input(
    stated: Ranges,
    own: &Tensor,
    made: &[([f64; 2], Tensor)],
    (originals, words): (&Tensor, &str),
) -> Option<String> {
    let psnr = |images: &Tensor, range| mean_psnr(originals, &levels(images, range));
    let now = psnr(own, stated.output.unwrap_or(stated.input));
    // A wrong range of the output alone is no fault of the input's.
    let bar = USUAL.into_iter().map(|range| psnr(own, range)).fold(now, f64::max) + GAIN_DB;
    let mut best: Option<([f64; 2], [f64; 2], f64)> = None;
    for (input, images) in made {
        // What follows from the adapter with this input comes first; another must be clearly better.
        let follows = stated.output.unwrap_or(*input);
        let others = USUAL.into_iter().chain([stated.input]).map(|range| (range, psnr(images, range)));
        let fits = others.fold((follows, psnr(images, follows)), |best, other| {
            if other.1 > best.1 + GAIN_DB { other } else { best }
        });
        if fits.1 >= bar && best.is_none_or(|best| fits.1 > best.2) {
            best = Some((*input, fits.0, fits.1));
        }
    }
    let (input, output, db) = best?;
    let also = if output == stated.output.unwrap_or(input) {
        String::new()
    } else {
        format!(" with output_range = {output:?}")
    };
    Some(format!(
        "input_range = {input:?}{also} fits better: {db:.2} dB on {words} instead of {now:.2} with {:?}",
        stated.input
    ))
}

/// The usual range that fits best, and its PSNR.
fn remedy(images: &Tensor, originals: &Tensor, stated: [f64; 2]) -> String {
    let psnr = |range: [f64; 2]| mean_psnr(originals, &levels(images, range));
    let own = psnr(stated);
    let others = USUAL.into_iter().filter(|range| *range != stated).map(|range| (range, psnr(range)));
    match others.max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((range, db)) if db > own + GAIN_DB => {
            format!("output_range = {range:?} fits: {db:.2} dB on them instead of {own:.2}")
        }
        _ => format!("no other usual range fits better than this one, with {own:.2} dB on them"),
    }
}

fn number(value: &Tensor) -> f64 {
    value.to_kind(Kind::Double).double_value(&[])
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// A ramp from dark to bright, `[2, 3, 5, 256]` uint8.
    fn ramp() -> Tensor {
        Tensor::arange(256, (Kind::Uint8, Device::Cpu)).expand([2, 3, 5, 256], false).contiguous()
    }

    /// The output of a slightly inexact decoder with this range.
    fn made(range: [f64; 2], shift: f64) -> Tensor {
        let [black, white] = range;
        (ramp().to_kind(Kind::Float) / 255.0 + shift) * (white - black) + black
    }

    fn words(made: &Tensor, stated: [f64; 2]) -> String {
        match judge(made, (&ramp(), "the first images"), "input_range", stated, None) {
            Finding::Fits => "fits".to_owned(),
            Finding::Doubtful(words) => format!("doubtful: {words}"),
            Finding::Wrong(words) => format!("wrong: {words}"),
        }
    }

    #[test]
    fn the_right_range_fits_and_overshoots_do_no_harm() {
        for range in USUAL {
            for shift in [0.0, 0.04, -0.04] {
                assert_eq!(words(&made(range, shift), range), "fits");
            }
        }
        // Flat grey means a bad decoder, not a wrong range.
        let grey = (made([0.0, 1.0], 0.0) - 0.5) * 0.1 + 0.5;
        assert_eq!(words(&grey, [0.0, 1.0]), "fits");
    }

    #[test]
    fn values_beyond_twice_the_range_are_wrong() {
        for stated in [[-1.0, 1.0], [0.0, 1.0]] {
            let found = words(&made([0.0, 255.0], 0.01), stated);
            assert!(found.starts_with("wrong: 100 %"), "{found}");
            assert!(found.contains("output_range = [0.0, 255.0] fits: 38.6"), "{found}");
        }
    }

    #[test]
    fn values_outside_or_in_one_half_are_doubtful() {
        for (own, stated, part) in [
            ([0.0, 1.0], [-1.0, 1.0], "the dark half of its range, input_range = [-1.0, 1.0]"),
            ([0.0, 1.0], [0.0, 255.0], "the bright half"),
            ([-1.0, 1.0], [0.0, 255.0], "the bright half"),
            ([-1.0, 1.0], [0.0, 1.0], "lie outside input_range = [0.0, 1.0] by over 5 %"),
        ] {
            // Some values are a little below black, as with most decoders.
            let found = words(&made(own, -0.02), stated);
            assert!(found.starts_with("doubtful: ") && found.contains(part), "{found}");
            assert!(found.contains(&format!("output_range = {own:?} fits: 34.")), "{found}");
        }
        let found = words(&made([-1.0, 1.0], 0.2), [-1.0, 1.0]);
        assert!(found.contains("no other usual range fits better than this one, with 14.6"), "{found}");
    }
}
