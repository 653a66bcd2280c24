//! Turns a picture of any size into an image of the model's size. Crop, resize and mirroring are
//! one step; or two, between which a picture can be kept from one epoch to the next.

use rand::RngExt;

use super::resample::{View, Window, resample};
use super::{Config, Crop, Filter, ImageSize};
use crate::picture::Picture;
use pixtok_base::seed::Seed;

/// The number of tries of a random-resized crop before it uses the centre.
const TRIES: usize = 10;
/// A picture whose sides differ by more than this factor is never resized as a whole, since that
/// would take unbounded memory.
const LONGEST: f64 = 8.0;

/// The part of a transform that determines what is cached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    /// The resized size; absent if nothing is resized before the crop. `None` in place of the
    /// image's size stands for that of the picture's bucket.
    resized: Option<(Option<ImageSize>, Option<u32>, Filter)>,
}

/// The step from picture to image of a data set.
#[derive(Debug, Clone)]
pub(super) struct Transform {
    size: ImageSize,
    resize: Option<u32>,
    filter: Filter,
    crop: Crop,
    flip: bool,
    /// Whether to use the whole picture, whatever its shape, instead of a crop.
    stretch: bool,
    /// Whether `size` is that of the picture's bucket.
    bucketed: bool,
}

impl Transform {
    /// The transform of training, with random choices.
    pub(super) fn train(config: &Config) -> Self {
        let Config { image_size: size, resize, filter, crop, flip, .. } = *config;
        Self { size, resize, filter, crop, flip, stretch: false, bucketed: false }
    }

    /// The transform of evaluation: resize and centre crop.
    pub(super) fn eval(config: &Config) -> Self {
        Self { crop: Crop::Centre {}, flip: false, ..Self::train(config) }
    }

    /// The same transform for the images of a bucket of this size.
    pub(super) fn of_bucket(&self, size: ImageSize) -> Self {
        Self { size, bucketed: true, ..self.clone() }
    }

    /// The same transform for whole pictures and images of a different size, each side scaled
    /// separately.
    pub(super) fn stretched_to(&self, size: ImageSize) -> Self {
        Self { size, stretch: true, ..self.clone() }
    }

    /// The same transform for the centre of `picture` at its own scale.
    pub(super) fn cut_to(&self, size: ImageSize, picture: &Picture) -> Self {
        Self { size, resize: Some(picture.width.min(picture.height) as u32), ..self.clone() }
    }

    /// The size of the images.
    pub(super) fn image_size(&self) -> ImageSize {
        self.size
    }

    /// The bytes of one image.
    pub(super) fn image_bytes(&self) -> usize {
        3 * self.size.height as usize * self.size.width as usize
    }

    /// Writes the image of `picture` into `planes`, [3, H, W] without gaps. The random choices
    /// depend only on `seed`.
    pub(super) fn apply(&self, picture: &Picture, seed: Seed, planes: &mut [u8]) -> Result<(), String> {
        let window = self.window(picture.width as f64, picture.height as f64, seed);
        resample(View::of(picture), window, self.size, self.filter, planes)
    }

    /// The share of the area of a picture of this size that the image shows, if no choice is
    /// random.
    pub(super) fn share_kept(&self, width: u32, height: u32) -> f64 {
        let (width, height) = (f64::from(width), f64::from(height));
        let window = self.window(width, height, Seed(0));
        window.width * window.height / (width * height)
    }

    /// Whether `picture` is enlarged as a whole before it is cropped.
    pub(super) fn enlarges(&self, picture: &Picture) -> bool {
        let (width, height) = (picture.width as f64, picture.height as f64);
        !self.stretch && self.resized(width, height)[0] > width
    }

    /// What must be equal for cached pictures to be usable.
    pub(super) fn form(&self) -> Form {
        let Self { size, resize, filter, bucketed, .. } = *self;
        let size = (!bucketed).then_some(size);
        Form { resized: (!self.cuts_first()).then_some((size, resize, filter)) }
    }

    /// Whether `picture` can be cached through [`Transform::whole`].
    pub(super) fn keeps(&self, picture: &Picture) -> bool {
        let (width, height) = (picture.width as f64, picture.height as f64);
        self.cuts_first() || width.max(height) <= LONGEST * width.min(height)
    }

    /// What to cache of `picture`: the whole picture resized, as planes, from which
    /// [`Transform::finish`] crops; or the picture itself, interleaved, if it is cropped at its own
    /// size.
    pub(super) fn whole(&self, picture: Picture) -> Result<Whole, String> {
        if self.cuts_first() {
            return Ok(Whole { width: picture.width, height: picture.height, bytes: picture.rgb });
        }
        let (width, height) = (picture.width as f64, picture.height as f64);
        let [to_width, to_height] = self.resized(width, height);
        let size = ImageSize { height: to_height as u32, width: to_width as u32 };
        let mut bytes = vec![0; 3 * to_width as usize * to_height as usize];
        let all = Window { left: 0.0, top: 0.0, width, height, mirrored: false };
        resample(View::of(&picture), all, size, self.filter, &mut bytes)?;
        Ok(Whole { width: to_width as usize, height: to_height as usize, bytes })
    }

    /// The same as [`Transform::apply`], from the result of [`Transform::whole`]. If the picture
    /// was resized before the crop, some values differ in rounding from those that are resized
    /// after it.
    pub(super) fn finish(&self, whole: View, seed: Seed, planes: &mut [u8]) -> Result<(), String> {
        if self.cuts_first() {
            let window = self.window(whole.width as f64, whole.height as f64, seed);
            return resample(whole, window, self.size, self.filter, planes);
        }
        let mut rng = seed.rng();
        let [left, top] = self.place([whole.width as f64, whole.height as f64], &mut rng);
        let mirrored = self.flip && rng.random();
        let (height, width) = (self.size.height as usize, self.size.width as usize);
        let from = whole.bytes.chunks_exact(whole.width * whole.height);
        for (from, to) in from.zip(planes.chunks_exact_mut(height * width)) {
            let rows = from.chunks_exact(whole.width).skip(top as usize);
            for (from, to) in rows.zip(to.chunks_exact_mut(width)) {
                to.copy_from_slice(&from[left as usize..][..width]);
                if mirrored {
                    to.reverse();
                }
            }
        }
        Ok(())
    }

    /// Whether the picture is cropped at its own size.
    fn cuts_first(&self) -> bool {
        matches!(self.crop, Crop::RandomResized { .. })
    }

    /// The random window. It is always drawn in the same order: the place, then the mirroring.
    fn window(&self, width: f64, height: f64, seed: Seed) -> Window {
        if self.stretch {
            return Window { left: 0.0, top: 0.0, width, height, mirrored: false };
        }
        let mut rng = seed.rng();
        let mut window = match self.crop {
            Crop::Random {} | Crop::Centre {} => {
                let resized = self.resized(width, height);
                self.of_resized([width, height], resized, self.place(resized, &mut rng))
            }
            Crop::RandomResized { scale, ratio } => {
                random_resized(width, height, scale, ratio, || rng.random())
            }
        };
        window.mirrored = self.flip && rng.random();
        window
    }

    /// The width and height, in whole pixels, of a picture after it is resized.
    fn resized(&self, width: f64, height: f64) -> [f64; 2] {
        let (to_width, to_height) = (f64::from(self.size.width), f64::from(self.size.height));
        let scale = match self.resize {
            Some(short) => f64::from(short) / width.min(height),
            None => (to_width / width).max(to_height / height),
        };
        [(width * scale).round().max(to_width), (height * scale).round().max(to_height)]
    }

    /// The left and top of the image in the resized picture.
    fn place(&self, resized: [f64; 2], rng: &mut impl RngExt) -> [u64; 2] {
        let sides = [(resized[0], self.size.width), (resized[1], self.size.height)];
        sides.map(|(side, target)| {
            let room = (side - f64::from(target)) as u64;
            if self.crop == (Crop::Random {}) { rng.random_range(0..=room) } else { room / 2 }
        })
    }

    /// The window that gives the same result as resizing the whole picture and then cropping at
    /// `place`.
    fn of_resized(&self, picture: [f64; 2], resized: [f64; 2], place: [u64; 2]) -> Window {
        let axis = |at: usize, target: u32| {
            let (source, resized) = (picture[at], resized[at]);
            let start = place[at] as f64 * source / resized;
            // Rounding must not move the window over the edge.
            (start, (f64::from(target) * source / resized).min(source - start))
        };
        let (left, width) = axis(0, self.size.width);
        let (top, height) = axis(1, self.size.height);
        Window { left, top, width, height, mirrored: false }
    }
}

/// A picture, or the cached form of it.
#[derive(Debug)]
pub(super) struct Whole {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Whole {
    pub(super) fn view(&self) -> View<'_> {
        View { width: self.width, height: self.height, bytes: &self.bytes }
    }
}

/// A part of random area and shape at a random place (Szegedy et al. 2015, arXiv 1409.4842). If
/// none fits after some tries, the largest central part whose shape is in range. `uniform` draws
/// from [0, 1).
fn random_resized(
    width: f64,
    height: f64,
    scale: [f64; 2],
    ratio: [f64; 2],
    mut uniform: impl FnMut() -> f64,
) -> Window {
    let mut between = |[low, high]: [f64; 2]| low + (high - low) * uniform();
    for _ in 0..TRIES {
        let area = width * height * between(scale);
        // Uniform in the logarithm, so that a shape and its inverse are equally likely.
        let shape = between(ratio.map(f64::ln)).exp();
        let (part_width, part_height) = ((area * shape).sqrt(), (area / shape).sqrt());
        if part_width <= width && part_height <= height {
            let left = between([0.0, width - part_width]);
            let top = between([0.0, height - part_height]);
            // Rounding must not move the window over the edge.
            let (part_width, part_height) = (part_width.min(width - left), part_height.min(height - top));
            return Window { left, top, width: part_width, height: part_height, mirrored: false };
        }
    }
    let shape = (width / height).clamp(ratio[0], ratio[1]);
    let (part_width, part_height) = (width.min(height * shape), height.min(width / shape));
    let (left, top) = ((width - part_width) / 2.0, (height - part_height) / 2.0);
    Window { left, top, width: part_width, height: part_height, mirrored: false }
}

#[cfg(test)]
mod tests;
