//! Differentiable augmentation (Zhao et al. 2020, arXiv 2006.10738) of all images that a
//! discriminator sees, so that it cannot memorise a small data set.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use pixtok_torch::Noise;

/// The largest shift, as a share of a side.
const SHIFT: f64 = 0.125;
/// The side of the hole, as a share of the image's side.
const HOLE: f64 = 0.5;

/// One kind of augmentation, with random parameters for each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augmentation {
    /// Changes brightness, saturation and contrast.
    Color,
    /// Shifts the image by up to an eighth of each side; zeros move in.
    Translation,
    /// Cuts a hole of zeros, half as high and wide as the image.
    Cutout,
}

/// Augments `images` in the order of `policy`. Each image has its own parameters, whatever the
/// batch that it is in.
///
/// # Shapes
/// `[B, 3, H, W]` -> the same shape.
pub(super) fn augment(images: &Tensor, policy: &[Augmentation], noise: Noise) -> Tensor {
    (0..).zip(policy).fold(images.shallow_clone(), |x, (i, kind)| {
        let noise = noise.derive("augmentation", &[i]);
        match kind {
            Augmentation::Color => color(&x, noise),
            Augmentation::Translation => translation(&x, noise),
            Augmentation::Cutout => cutout(&x, noise),
        }
    })
}

/// A whole number in `0..below` for each image, other ones for each axis: `[B, 1, 1, 1]`.
fn draw_along(x: &Tensor, axis: usize, below: i64, noise: Noise) -> Tensor {
    noise.derive("axis", &[axis as u64]).whole(below, &[x.size()[0], 1, 1, 1], x.device())
}

fn color(x: &Tensor, noise: Noise) -> Tensor {
    // Three uniform numbers in 0..1 for each image.
    let drawn = noise.uniform(&[x.size()[0], 3, 1, 1], x.device());
    let [brightness, saturation, contrast] = [0, 1, 2].map(|i| drawn.narrow(1, i, 1));
    let x = x + (brightness - 0.5);
    let grey = x.mean_dim([1].as_slice(), true, Kind::Float);
    let x = (&x - &grey) * (saturation * 2.0) + grey;
    let mean = x.mean_dim([1, 2, 3].as_slice(), true, Kind::Float);
    (&x - &mean) * (contrast + 0.5) + mean
}

fn translation(x: &Tensor, noise: Noise) -> Tensor {
    [2, 3].into_iter().fold(x.shallow_clone(), |x, axis| {
        let side = x.size()[axis];
        let most = (side as f64 * SHIFT + 0.5) as i64;
        let mut along = [1; 4];
        along[axis] = side;
        let places = Tensor::arange(side, (Kind::Int64, x.device())).view(along);
        // [B, 1, H, 1] or [B, 1, 1, W]: the source of each row or column.
        let from = places + draw_along(&x, axis, 2 * most + 1, noise) - most;
        let inside = from.ge(0).logical_and(&from.lt(side));
        let from = from.clamp(0, side - 1).expand_as(&x);
        x.gather(axis as i64, &from, false) * inside
    })
}

fn cutout(x: &Tensor, noise: Noise) -> Tensor {
    let within = |axis: usize| {
        let side = x.size()[axis];
        let hole = (side as f64 * HOLE + 0.5) as i64;
        let mut along = [1; 4];
        along[axis] = side;
        let places = Tensor::arange(side, (Kind::Int64, x.device())).view(along);
        // The centre of the hole may be any pixel, so a part of the hole may lie outside.
        let start = draw_along(x, axis, side + 1 - hole % 2, noise) - hole / 2;
        let offset = places - start;
        offset.ge(0).logical_and(&offset.lt(hole))
    };
    x * within(2).logical_and(&within(3)).logical_not()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_base::seed::Seed;
    use tch::Device;

    fn ramp() -> Tensor {
        let x = Tensor::arange(3 * 16 * 24, (Kind::Float, Device::Cpu)) + 1.0;
        x.view([1, 3, 16, 24]).repeat([64, 1, 1, 1])
    }

    #[test]
    fn a_seed_decides_and_nothing_else() {
        let all = [Augmentation::Color, Augmentation::Translation, Augmentation::Cutout];
        let x = ramp();
        let once = augment(&x, &all, Noise::new(Seed(1)));
        assert_eq!(once, augment(&x, &all, Noise::new(Seed(1))));
        assert_ne!(once, augment(&x, &all, Noise::new(Seed(2))));
        assert_eq!(augment(&x, &[], Noise::new(Seed(1))), x);
        assert_ne!(once.select(0, 0), once.select(0, 1), "each image is augmented its own way");
    }

    #[test]
    fn an_image_is_augmented_alike_in_every_batch() {
        let all = [Augmentation::Color, Augmentation::Translation, Augmentation::Cutout];
        let (x, noise) = (ramp(), Noise::new(Seed(6)));
        let whole = augment(&x, &all, noise);
        for first in [0, 16, 48] {
            let part = augment(&x.narrow(0, first, 16), &all, noise.at_place(first as u64));
            let off = (part - whole.narrow(0, first, 16)).abs().max().double_value(&[]);
            // Means of a batch of another size may be added up in another order.
            assert!(off < 1e-3, "from {first} on: {off}");
        }
    }

    #[test]
    fn a_shift_moves_pixels_and_fills_with_zeros() {
        let (x, y) = (ramp(), augment(&ramp(), &[Augmentation::Translation], Noise::new(Seed(3))));
        for image in 0..64 {
            // The red of the centre shows the shift: a shift of 2 and 3 pixels does not move it
            // out.
            let middle = y.double_value(&[image, 0, 8, 12]) as i64 - 1;
            let (down, across) = (middle / 24 - 8, middle % 24 - 12);
            assert!(down.abs() <= 2 && across.abs() <= 3, "{down}, {across}");
            for (row, column) in [(0, 0), (15, 23), (5, 20)] {
                let (r, c) = (row + down, column + across);
                let inside = (0..16).contains(&r) && (0..24).contains(&c);
                let expected = if inside { x.double_value(&[0, 2, r, c]) } else { 0.0 };
                assert_eq!(y.double_value(&[image, 2, row, column]), expected);
            }
        }
    }

    #[test]
    fn a_hole_is_a_quarter_of_the_image_at_most() {
        let holes =
            augment(&ramp(), &[Augmentation::Cutout], Noise::new(Seed(4))).eq(0.0).to_kind(Kind::Float);
        let share = holes.mean_dim([1, 2, 3].as_slice(), false, Kind::Float);
        assert!((share.max().double_value(&[]) - 0.25).abs() < 1e-6);
        assert!(share.min().double_value(&[]) >= 0.25 / 4.0);
    }

    #[test]
    fn colours_change_and_gradients_pass() {
        let x = (ramp() / 600.0 - 1.0).set_requires_grad(true);
        let y = augment(
            &x,
            &[Augmentation::Color, Augmentation::Translation, Augmentation::Cutout],
            Noise::new(Seed(5)),
        );
        y.square().sum(Kind::Float).backward();
        assert!(x.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0);
    }
}
