//! From a picture of any size to one of the model's size: crop, resize and mirror in one step.

use std::cell::RefCell;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use rand::RngExt;

use super::{Config, Crop, Filter, ImageSize};
use crate::picture::Picture;
use crate::seed::Seed;

/// Tries of a random-resized crop before it settles for the centre.
const TRIES: usize = 10;

thread_local! {
    /// The resizer and an interleaved picture, kept from one picture to the next.
    static SCRATCH: RefCell<(Resizer, Vec<u8>)> = RefCell::new((Resizer::new(), Vec::new()));
}

/// What is cut out of a picture: a box in its pixels, which need not be whole ones.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    mirrored: bool,
}

/// The picture-to-image step of a data set.
#[derive(Debug, Clone)]
pub(super) struct Transform {
    size: ImageSize,
    resize: Option<u32>,
    filter: Filter,
    crop: Crop,
    flip: bool,
    /// Take the whole picture, whatever its shape, in place of a crop.
    stretch: bool,
}

impl Transform {
    /// With the random choices of training.
    pub(super) fn train(config: &Config) -> Self {
        let Config { image_size: size, resize, filter, crop, flip, .. } = *config;
        Self { size, resize, filter, crop, flip, stretch: false }
    }

    /// Resize and centre crop.
    pub(super) fn eval(config: &Config) -> Self {
        Self { crop: Crop::Centre {}, flip: false, ..Self::train(config) }
    }

    /// The same for whole pictures and images of another size, each side scaled by itself.
    pub(super) fn stretched_to(&self, size: ImageSize) -> Self {
        Self { size, stretch: true, ..self.clone() }
    }

    /// Of the images.
    pub(super) fn image_size(&self) -> ImageSize {
        self.size
    }

    /// Bytes of one image.
    pub(super) fn image_bytes(&self) -> usize {
        3 * self.size.height as usize * self.size.width as usize
    }

    /// Height and width of the images.
    pub(super) fn size(&self) -> (i64, i64) {
        (i64::from(self.size.height), i64::from(self.size.width))
    }

    /// Writes the image of `picture` into `planes`, [3, H, W] without gaps. The random choices depend on
    /// `seed` alone.
    pub(super) fn apply(&self, picture: &Picture, seed: Seed, planes: &mut [u8]) -> Result<(), String> {
        let window = self.window(picture.width as f64, picture.height as f64, seed);
        let (height, width) = (self.size.height as usize, self.size.width as usize);
        SCRATCH.with_borrow_mut(|(resizer, interleaved)| {
            interleaved.resize(3 * height * width, 0);
            cut(picture, window, self.size, self.filter, resizer, interleaved)?;
            let (red, rest) = planes.split_at_mut(height * width);
            let (green, blue) = rest.split_at_mut(height * width);
            for (y, row) in interleaved.chunks_exact(3 * width).enumerate() {
                for (x, pixel) in row.as_chunks::<3>().0.iter().enumerate() {
                    let at = y * width + if window.mirrored { width - 1 - x } else { x };
                    [red[at], green[at], blue[at]] = *pixel;
                }
            }
            Ok(())
        })
    }

    /// Draws always in the same order: the place, then the mirror.
    fn window(&self, width: f64, height: f64, seed: Seed) -> Window {
        if self.stretch {
            return Window { left: 0.0, top: 0.0, width, height, mirrored: false };
        }
        let mut rng = seed.rng();
        let mut window = match self.crop {
            Crop::Random {} => self.of_resized(width, height, |room| rng.random_range(0..=room)),
            Crop::Centre {} => self.of_resized(width, height, |room| room / 2),
            Crop::RandomResized { scale, ratio } => {
                random_resized(width, height, scale, ratio, || rng.random())
            }
        };
        window.mirrored = self.flip && rng.random();
        window
    }

    /// The window that gives what resizing the whole picture to whole pixels, then cutting at the offset that
    /// `offset(room)` picks on each axis, would give.
    fn of_resized(&self, width: f64, height: f64, mut offset: impl FnMut(u64) -> u64) -> Window {
        let (to_width, to_height) = (f64::from(self.size.width), f64::from(self.size.height));
        let scale = match self.resize {
            Some(short) => f64::from(short) / width.min(height),
            None => (to_width / width).max(to_height / height),
        };
        let mut axis = |source: f64, target: f64| {
            let resized = (source * scale).round().max(target);
            let start = offset((resized - target) as u64) as f64 * source / resized;
            // Rounding must not carry the window over the edge.
            (start, (target * source / resized).min(source - start))
        };
        let (left, width) = axis(width, to_width);
        let (top, height) = axis(height, to_height);
        Window { left, top, width, height, mirrored: false }
    }
}

/// A part of random area and shape at a random place (Szegedy et al. 2015, arXiv 1409.4842); where none fits
/// in some tries, the largest part in the centre whose shape is in range. `uniform` draws from [0, 1).
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
            // Rounding must not carry the window over the edge.
            let (part_width, part_height) = (part_width.min(width - left), part_height.min(height - top));
            return Window { left, top, width: part_width, height: part_height, mirrored: false };
        }
    }
    let shape = (width / height).clamp(ratio[0], ratio[1]);
    let (part_width, part_height) = (width.min(height * shape), height.min(width / shape));
    let (left, top) = ((width - part_width) / 2.0, (height - part_height) / 2.0);
    Window { left, top, width: part_width, height: part_height, mirrored: false }
}

/// Resamples `window` of `picture` to `size`, interleaved. At scale 1 and whole offsets this is a copy.
fn cut(
    picture: &Picture,
    window: Window,
    size: ImageSize,
    filter: Filter,
    resizer: &mut Resizer,
    interleaved: &mut [u8],
) -> Result<(), String> {
    let fail = |error: &dyn std::error::Error| format!("cannot resize: {error}");
    let source = ImageRef::new(picture.width as u32, picture.height as u32, &picture.rgb, PixelType::U8x3)
        .map_err(|error| fail(&error))?;
    let mut target = Image::from_slice_u8(size.width, size.height, interleaved, PixelType::U8x3)
        .map_err(|error| fail(&error))?;
    let filter = match filter {
        Filter::Lanczos => FilterType::Lanczos3,
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Box => FilterType::Box,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
        window.left,
        window.top,
        window.width,
        window.height,
    );
    resizer.resize(&source, &mut target, &options).map_err(|error| fail(&error))
}

#[cfg(test)]
mod tests;
