//! Whether reconstructions that another program made are those of other images, their channels or
//! pixels in the wrong place, or their values in the wrong range. Their figures are low then, though
//! the tokenizer may be good.

use std::collections::HashSet;

use tch::{Kind, Tensor};

use super::scores::host;
use crate::metrics::{ImageMetric as _, Psnr};

/// The number of pairs that are compared: the first ones.
const PAIRS: i64 = 64;
/// The least side in pixels; smaller images show too little.
const LEAST_SIDE: i64 = 16;
/// The side in pixels of the middle part that is compared in larger images, so that their size
/// costs no time.
const MIDDLE: i64 = 128;
/// The largest shift along each axis, in pixels.
const REACH: i64 = 2;
/// The gain in decibels that a corrected image shows, and that chance does not.
const GAIN_DB: f64 = 3.0;
/// The least share of the pairs that must agree.
const MOST: f64 = 2.0 / 3.0;
/// The largest difference in levels between the channels of a grey pixel. It allows for rounding.
const GREY: i64 = 1;
/// The least difference in levels between the channels of a coloured image, as a mean over its
/// pixels. Grey photographs with a tint or with JPEG noise are below it.
const COLOUR: i64 = 8;

/// Fewer originals with colour show too little.
const LEAST_COLOURED: i64 = 3;
/// Fewer pairs do not show that reconstructions are those of other images.
const LEAST_PAIRS: usize = 3;

/// A change after which the reconstructions would agree with the originals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Exchange red and blue.
    Channels,
    /// Mirror left to right.
    Mirror,
    /// Mirror top to bottom.
    UpsideDown,
    /// Clip the originals as if values in [−1, 1] had been written as values in [0, 1]: everything
    /// darker than middle grey becomes black. The originals are changed, since the reconstructions
    /// have lost these values.
    Range,
    /// Take the pixels from this many pixels further down and further right.
    Shift { down: i64, right: i64 },
}

const NO_CHANGE: Change = Change::Shift { down: 0, right: 0 };

/// Compares the first pairs as they are, and after each [`Change`].
#[derive(Debug)]
pub(super) struct Mixups {
    /// The PSNR of each pair after each change.
    psnr: Vec<(Change, Vec<f64>)>,
    /// The PSNR of each reconstruction to its own original, and to the most similar other one of its
    /// batch, if there is one.
    others: Vec<[f64; 2]>,
    /// The number of different other originals.
    distinct: usize,
    /// The number of pairs so far.
    pairs: i64,
    /// The number of originals with colour.
    coloured: i64,
    /// The number of originals with colour whose reconstruction is grey.
    greyed: i64,
}

impl Mixups {
    pub(super) fn new() -> Self {
        let shifts = (-REACH..=REACH)
            .flat_map(|down| (-REACH..=REACH).map(move |right| Change::Shift { down, right }));
        let others = [Change::Channels, Change::Mirror, Change::UpsideDown, Change::Range];
        let changes = others.into_iter().chain(shifts);
        let psnr = changes.map(|change| (change, vec![])).collect();
        Self { psnr, others: vec![], distinct: 0, pairs: 0, coloured: 0, greyed: 0 }
    }

    /// Compares the pairs of a batch, unless enough have been compared. Waits for the device.
    ///
    /// # Shapes
    /// `originals`, `recons`: `[B, 3, H, W]` uint8.
    pub(super) fn add(&mut self, originals: &Tensor, recons: &Tensor) {
        let size = originals.size();
        let (count, height, width) = (size[0].min(PAIRS - self.pairs), size[2], size[3]);
        if count == 0 || height.min(width) < LEAST_SIDE {
            return;
        }
        self.pairs += count;
        // All changes are compared on the same pixels of the originals. A margin leaves room for
        // the shifts.
        let middle = |side: i64| (side - 2 * REACH).min(MIDDLE);
        let (rows, columns) = (middle(height), middle(width));
        let (top, left) = ((height - rows) / 2, (width - columns) / 2);
        let part = |images: &Tensor, down: i64, right: i64| {
            images.narrow(0, 0, count).narrow(2, top + down, rows).narrow(3, left + right, columns)
        };
        let (own, theirs) = (part(originals, 0, 0), part(recons, 0, 0));
        // The same part of the mirrored reconstructions, without a copy of whole images.
        let (below, beyond) = (height - rows - 2 * top, width - columns - 2 * left);
        for (change, psnr) in &mut self.psnr {
            let (own, changed) = match *change {
                Change::Channels => (own.shallow_clone(), theirs.flip([1])),
                Change::Mirror => (own.shallow_clone(), part(recons, 0, beyond).flip([3])),
                Change::UpsideDown => (own.shallow_clone(), part(recons, below, 0).flip([2])),
                Change::Range => (clipped(&own), theirs.shallow_clone()),
                Change::Shift { down, right } => (own.shallow_clone(), part(recons, down, right)),
            };
            // PSNR exists for images of every size.
            psnr.extend(Psnr.measure(&own, &changed).map(|values| host(&values)).unwrap_or_default());
        }
        if count > 1 {
            let places = most_similar_others(&own, &theirs);
            let to =
                |own: &Tensor| Psnr.measure(own, &theirs).map(|values| host(&values)).unwrap_or_default();
            let [before, after] = [to(&own), to(&own.index_select(0, &places))];
            self.others.extend(before.into_iter().zip(after).map(|(before, after)| [before, after]));
            let distinct: HashSet<i64> = (0..count).map(|i| places.int64_value(&[i])).collect();
            self.distinct += distinct.len();
        }
        let coloured = spread(&own).mean_dim([1i64].as_slice(), false, Kind::Double).ge(COLOUR);
        let greyed = spread(&theirs).amax([1], false).le(GREY).logical_and(&coloured);
        self.coloured += coloured.sum(Kind::Int64).int64_value(&[]);
        self.greyed += greyed.sum(Kind::Int64).int64_value(&[]);
    }

    /// One sentence for each thing that seems to be in the wrong place.
    pub(super) fn notes(&self) -> Vec<String> {
        [self.out_of_place(), self.of_others(), self.grey()].into_iter().flatten().collect()
    }

    /// A collapsed tokenizer gives all images the same reconstruction, and they resemble one flat
    /// original more than their own; so the others must differ.
    fn of_others(&self) -> Option<String> {
        let count = self.others.len();
        let [before, after] =
            [0, 1].map(|which| mean(&self.others.iter().map(|psnr| psnr[which]).collect::<Vec<_>>()));
        let better = self.others.iter().filter(|[before, after]| after > before).count();
        let most = MOST * count as f64;
        let clear = after >= before + GAIN_DB && better as f64 >= most && self.distinct as f64 >= most;
        (count >= LEAST_PAIRS && clear).then(|| {
            format!(
                "the reconstructions seem to be of other images: beside the most similar other original, the \
                 middle of the first {count} has a PSNR of {after:.2} dB instead of {before:.2}; look at the order \
                 in which the images are listed, and at the names that they get, where they are made"
            )
        })
    }

    fn out_of_place(&self) -> Option<String> {
        let (_, before) = self.psnr.iter().find(|(change, _)| *change == NO_CHANGE)?;
        let (change, after) = self.psnr.iter().max_by(|(_, a), (_, b)| mean(a).total_cmp(&mean(b)))?;
        let better = after.iter().zip(before).filter(|(after, before)| after > before).count();
        // Without pairs the means are NaN, and the comparison is false.
        let clear = mean(after) >= mean(before) + GAIN_DB;
        if !clear || (better as f64) < MOST * before.len() as f64 {
            return None;
        }
        let (fault, undone, remedy) = match *change {
            Change::Channels => (
                "have red and blue exchanged (BGR)".to_owned(),
                "with both exchanged back",
                "pass RGB to the tokenizer, and write RGB (OpenCV reads and writes BGR)",
            ),
            Change::Mirror => (
                "be mirrored left to right".to_owned(),
                "mirrored again",
                "look for a random flip of training that is still on",
            ),
            Change::UpsideDown => (
                "be upside down".to_owned(),
                "mirrored top to bottom",
                "look for a flip, or for an image format whose rows begin at the bottom,",
            ),
            Change::Range => (
                "be written from values in [-1, 1] as if they were in [0, 1], so that dark pixels are black"
                    .to_owned(),
                "with originals that are clipped in the same way",
                "map [-1, 1] to [0, 255] by (x + 1) * 127.5",
            ),
            Change::Shift { down, right } => (
                format!("be shifted by {}", shift_in_words(down, right)),
                "shifted back",
                "look at how the images are padded and cropped",
            ),
        };
        Some(format!(
            "the reconstructions seem to {fault}: {undone}, the middle of the first {} pairs has a PSNR of \
             {:.2} dB instead of {:.2}; {remedy} where they are made",
            before.len(),
            mean(after),
            mean(before)
        ))
    }

    fn grey(&self) -> Option<String> {
        if self.coloured < LEAST_COLOURED || (self.greyed as f64) < MOST * self.coloured as f64 {
            return None;
        }
        Some(format!(
            "{} of the first {} reconstructions of coloured originals are grey; look for a conversion to \
             grey, or for one channel that stands for all three, where they are made",
            self.greyed, self.coloured
        ))
    }
}

/// The place of the original that resembles each reconstruction most (least squares), except its
/// own.
///
/// # Shapes
/// `originals`, `recons`: `[B, 3, H, W]` uint8, B > 1 -> `[B]` int64.
fn most_similar_others(originals: &Tensor, recons: &Tensor) -> Tensor {
    let [originals, recons] = [originals, recons].map(|images| images.flatten(1, -1).to_kind(Kind::Double));
    // |r − o|² without |r|², which is the same for all originals. Sums of whole numbers are exact.
    let squares = originals.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    let distances = squares - recons.matmul(&originals.tr()) * 2;
    let count = originals.size()[0];
    let own = Tensor::eye(count, (Kind::Bool, originals.device()));
    distances.masked_fill(&own, f64::INFINITY).argmin(1, false)
}

/// What is left of images whose values in [−1, 1] were written as if they were in [0, 1].
///
/// # Shapes
/// `images`: `[B, 3, H, W]` uint8 -> the same.
fn clipped(images: &Tensor) -> Tensor {
    (images.to_kind(Kind::Int) * 2 - 255).clamp(0, 255).to_kind(Kind::Uint8)
}

/// The difference between the largest and the smallest channel of each pixel, in levels.
///
/// # Shapes
/// `images`: `[B, 3, H, W]` uint8 -> `[B, H·W]` float64.
fn spread(images: &Tensor) -> Tensor {
    let images = images.to_kind(Kind::Int);
    (images.amax([1], false) - images.amin([1], false)).flatten(1, -1).to_kind(Kind::Double)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Describes a shift: `2 px down and 1 px left`.
fn shift_in_words(down: i64, right: i64) -> String {
    let along = |pixels: i64, ahead: &str, back: &str| {
        let direction = if pixels > 0 { ahead } else { back };
        (pixels != 0).then(|| format!("{} px {direction}", pixels.abs()))
    };
    let words = [along(down, "down", "up"), along(right, "right", "left")];
    words.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Smooth coloured images without symmetry, `[B, 3, 20, 28]` uint8.
    fn images(count: i64) -> Tensor {
        let mut state = 1u32;
        let noise: Vec<u8> = (0..count * 3 * 22 * 30)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        blurred(&Tensor::from_slice(&noise).view([count, 3, 22, 30]))
    }

    /// Means of 3×3 pixels; the result has two pixels fewer along each axis.
    fn blurred(images: &Tensor) -> Tensor {
        let means = images.to_kind(Kind::Float).avg_pool2d([3, 3], [1, 1], [0, 0], false, true, None::<i64>);
        means.round().to_kind(Kind::Uint8)
    }

    /// The means at the original size, with the border repeated.
    fn blurred_whole(images: &Tensor) -> Tensor {
        let padded = images.to_kind(Kind::Float).replication_pad2d([1, 1, 1, 1]);
        blurred(&padded)
    }

    fn notes(originals: &Tensor, recons: &Tensor) -> Vec<String> {
        let mut mixups = Mixups::new();
        mixups.add(originals, recons);
        mixups.notes()
    }

    /// The only note.
    fn note(originals: &Tensor, recons: &Tensor) -> String {
        let notes = notes(originals, recons);
        assert_eq!(notes.len(), 1, "{notes:?}");
        notes[0].clone()
    }

    #[test]
    fn plain_reconstructions_have_no_note() {
        let originals = images(3);
        for recons in [blurred_whole(&originals), originals.shallow_clone()] {
            assert_eq!(notes(&originals, &recons), [""; 0]);
        }
        assert!(Mixups::new().notes().is_empty());
        // Images that are equal to their mirror images.
        let left = images(3);
        let symmetric = Tensor::cat(&[&left, &left.flip([3])], 3);
        for recons in [blurred_whole(&symmetric), symmetric.flip([3])] {
            assert_eq!(notes(&symmetric, &recons), [""; 0]);
        }
        // Grey originals.
        let grey = images(3).narrow(1, 0, 1).expand([3, 3, 20, 28], false);
        assert_eq!(notes(&grey, &blurred_whole(&grey)), [""; 0]);
    }

    #[test]
    fn reconstructions_of_other_images_are_noted() {
        let originals = images(5);
        for shift in [1, -2] {
            let words = note(&originals, &blurred_whole(&originals).roll([shift], [0]));
            assert!(words.starts_with("the reconstructions seem to be of other images: "), "{words}");
            assert!(words.contains("the first 5 has a PSNR of "), "{words}");
        }
        // Two of five are exchanged; there are too few; all are one flat image, like an original.
        let order = |places: &[i64]| originals.index_select(0, &Tensor::from_slice(places));
        assert_eq!(notes(&originals, &order(&[1, 0, 2, 3, 4])), [""; 0]);
        assert_eq!(notes(&order(&[0, 1]), &order(&[1, 0])), [""; 0]);
        let flat = Tensor::from_slice(&[120u8, 128, 140]).view([1, 3, 1, 1]).expand([1, 3, 20, 28], false);
        let with_flat = Tensor::cat(&[&originals, &flat], 0);
        assert_eq!(notes(&with_flat, &flat.repeat([6, 1, 1, 1])), [""; 0]);
        // A batch of one image has no others.
        assert_eq!(notes(&order(&[0]), &order(&[1])), [""; 0]);
    }

    #[test]
    fn exchanged_channels_are_noted() {
        let originals = images(3);
        let words = note(&originals, &originals.flip([1]));
        assert!(words.contains("have red and blue exchanged (BGR): with both exchanged back"), "{words}");
        assert!(words.contains("the first 3 pairs has a PSNR of 100.00 dB instead of 1"), "{words}");
        // Reconstructions that also lose detail.
        let words = note(&originals, &blurred_whole(&originals).flip([1]));
        assert!(words.contains("(BGR)"), "{words}");
    }

    #[test]
    fn mirrored_reconstructions_are_noted() {
        let originals = images(3);
        let words = note(&originals, &originals.flip([3]));
        assert!(words.contains("be mirrored left to right: mirrored again"), "{words}");
        // In a mirrored image, the middle is at the same place.
        let wide = originals.repeat([1, 1, 8, 7]);
        let wide = Tensor::cat(&[&wide, &images(3).narrow(3, 0, 1).repeat([1, 1, 8, 1])], 3);
        assert!(note(&wide, &wide.flip([3])).contains("100.00 dB"));
    }

    #[test]
    fn reconstructions_upside_down_are_noted() {
        let originals = images(3);
        let words = note(&originals, &originals.flip([2]));
        assert!(words.contains("be upside down: mirrored top to bottom"), "{words}");
        let tall = originals.repeat([1, 1, 7, 8]);
        let tall = Tensor::cat(&[&tall, &images(3).narrow(2, 0, 1).repeat([1, 1, 1, 8])], 2);
        assert!(note(&tall, &tall.flip([2])).contains("100.00 dB"));
    }

    #[test]
    fn values_of_another_range_are_noted() {
        let originals = images(3);
        let words = note(&originals, &clipped(&blurred_whole(&originals)));
        assert!(words.contains("values in [-1, 1] as if they were in [0, 1]"), "{words}");
        assert!(words.contains("(x + 1) * 127.5"), "{words}");
        // A level below the middle is black, the middle stays dark, white stays white.
        let levels = Tensor::from_slice(&[0u8, 127, 128, 255]).view([1, 1, 2, 2]);
        assert_eq!(clipped(&levels), Tensor::from_slice(&[0u8, 0, 1, 255]).view([1, 1, 2, 2]));
    }

    #[test]
    fn shifted_reconstructions_are_noted_with_the_shift() {
        let originals = images(3);
        for (down, right, words) in [
            (1, 0, "be shifted by 1 px down: shifted back"),
            (0, -2, "be shifted by 2 px left:"),
            (-1, 2, "be shifted by 1 px up and 2 px right:"),
        ] {
            // Pixels that leave on one side enter on the other.
            let found = note(&originals, &originals.roll([down, right], [2, 3]));
            assert!(found.contains(words) && found.contains("100.00 dB"), "{found}");
        }
    }

    #[test]
    fn grey_reconstructions_of_coloured_originals_are_noted() {
        let originals = images(3);
        let grey = originals.to_kind(Kind::Float).mean_dim([1i64].as_slice(), true, Kind::Float).round();
        let grey = grey.to_kind(Kind::Uint8).expand_as(&originals);
        let words = note(&originals, &grey);
        assert!(words.contains("3 of the first 3 reconstructions of coloured originals are grey"), "{words}");
        assert_eq!(notes(&originals.narrow(0, 0, 2), &grey.narrow(0, 0, 2)), [""; 0], "too few to tell");
        // One of three may be grey for a reason of its own.
        let one = Tensor::cat(&[grey.narrow(0, 0, 1), originals.narrow(0, 1, 2)], 0);
        assert_eq!(notes(&originals, &one), [""; 0]);
    }

    #[test]
    fn most_pairs_must_show_it_and_only_the_first_count() {
        let originals = images(4);
        // Pairs of flat images, whose PSNR is the same after every change.
        let flat = |level: i64| Tensor::full([2, 3, 20, 28], level, (Kind::Uint8, Device::Cpu));
        let beside = |count: i64| {
            let some = originals.narrow(0, 0, count);
            (Tensor::cat(&[&some, &flat(100)], 0), Tensor::cat(&[&some.flip([1]), &flat(110)], 0))
        };
        let (two_of_four, four_of_six) = (beside(2), beside(4));
        assert_eq!(notes(&two_of_four.0, &two_of_four.1), [""; 0]);
        assert!(note(&four_of_six.0, &four_of_six.1).contains("the first 6 pairs"));

        let mut mixups = Mixups::new();
        for _ in 0..20 {
            mixups.add(&originals, &originals);
        }
        mixups.add(&originals, &originals.flip([1]));
        assert_eq!((mixups.pairs, mixups.notes().len()), (64, 0));
        // Too small to be compared.
        let small = originals.narrow(2, 0, 15);
        assert!(notes(&small, &small.flip([1])).is_empty());
    }
}
