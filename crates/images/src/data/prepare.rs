//! Turns a picture into an image of the model's size, without random choices. Exports,
//! reconstructions and prepared originals share this step.

use super::samples::Encoded;
use super::transform::Transform;
use super::{Config, ImageSize};
use crate::picture::{DecodeOptions, Decoded, Picture, decode, read};
use pixtok_base::MAX_SIDE;
use pixtok_base::seed::Seed;

/// The part of a picture that becomes the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Resized and cropped at the centre, as in an evaluation.
    Centre,
    /// The whole picture: each side scaled to the nearest multiple of `factor`, at least one.
    Whole {
        /// The factor in pixels.
        factor: u32,
    },
    /// The whole picture except for its borders: at its own scale, cropped at the centre to
    /// multiples of `factor`.
    Cut {
        /// The factor in pixels.
        factor: u32,
    },
}

/// The step from picture to image, without random choices.
#[derive(Debug, Clone)]
pub struct Prepare {
    decode: DecodeOptions,
    centre: Transform,
    resize: Option<u32>,
    fit: Fit,
}

/// An image in the model's form.
#[derive(Debug)]
pub struct Prepared {
    /// `[3, H, W]`, row-major.
    pub planes: Vec<u8>,
    /// H and W.
    pub size: ImageSize,
    /// The width and height of the original picture, after it was turned upright.
    pub original: (u32, u32),
    /// The share of the area of the original picture that the image shows.
    pub kept: f64,
}

impl Prepared {
    /// The same image with interleaved pixels.
    #[must_use]
    pub fn to_picture(&self) -> Picture {
        let (height, width) = (self.size.height as usize, self.size.width as usize);
        let (red, rest) = self.planes.split_at(height * width);
        let (green, blue) = rest.split_at(height * width);
        let pixels = red.iter().zip(green).zip(blue);
        let rgb = pixels.flat_map(|((&red, &green), &blue)| [red, green, blue]).collect();
        Picture { width, height, rgb }
    }

    /// Whether the image's size differs from the picture's.
    #[must_use]
    pub fn is_resized(&self) -> bool {
        self.original != (self.size.width, self.size.height)
    }
}

impl Prepare {
    /// Prepares images according to the `[data]` settings of a config.
    #[must_use]
    pub fn new(config: &Config, fit: Fit) -> Self {
        let (decode, centre) = (config.decode_options(), Transform::eval(config));
        Self { decode, centre, resize: config.resize, fit }
    }

    /// Decodes and prepares one picture.
    ///
    /// # Errors
    /// A message that says why it gives no image.
    pub fn image(&self, encoded: &Encoded) -> Result<Prepared, String> {
        let picture = self.decoded(encoded)?;
        self.picture(&picture)
    }

    /// Decodes a picture for [`Prepare::picture`].
    ///
    /// # Errors
    /// A message that says why it cannot be decoded.
    pub fn decoded(&self, encoded: &Encoded) -> Result<Decoded, String> {
        let picture = match encoded {
            Encoded::File(path) => read(path, &self.decode),
            Encoded::Bytes(bytes) => decode(bytes, &self.decode),
        };
        picture.map_err(|error| error.to_string())
    }

    /// Prepares a picture that was decoded as the config says.
    ///
    /// # Errors
    /// A message that says why it gives no image.
    pub fn picture(&self, picture: &Picture) -> Result<Prepared, String> {
        let transform = match self.fit {
            Fit::Centre => self.centre.clone(),
            Fit::Whole { factor } => self.centre.stretched_to(self.own_size(picture, factor)?),
            Fit::Cut { factor } => self.centre.cut_to(cut_size(picture, factor)?, picture),
        };
        let mut planes = vec![0; transform.image_bytes()];
        // No random numbers are drawn.
        transform.apply(picture, Seed(0), &mut planes)?;
        let original = (picture.width as u32, picture.height as u32);
        let kept = transform.share_kept(original.0, original.1);
        Ok(Prepared { planes, size: transform.image_size(), original, kept })
    }

    /// The share of the area of a picture of this width and height that an image of `size` shows,
    /// cropped at the centre after a resize of the short side to `resize` (absent: to the smallest
    /// size that covers the image).
    #[must_use]
    pub fn share_of_centre(size: ImageSize, resize: Option<u32>, (width, height): (u32, u32)) -> f64 {
        let config = Config { image_size: size, resize, ..Config::default() };
        Transform::eval(&config).share_kept(width.max(1), height.max(1))
    }

    fn own_size(&self, picture: &Picture, factor: u32) -> Result<ImageSize, String> {
        let (width, height) = (picture.width as f64, picture.height as f64);
        let scale = self.resize.map_or(1.0, |short| f64::from(short) / width.min(height));
        let side = |pixels: f64| ((pixels * scale / f64::from(factor)).round() as u32).max(1) * factor;
        let size = ImageSize { height: side(height), width: side(width) };
        if size.height.max(size.width) > MAX_SIDE {
            return Err(format!("{size} pixels are more than {} a side; resize it", MAX_SIDE));
        }
        Ok(size)
    }
}

/// The largest multiples of `factor` that fit in the sides of a picture.
fn cut_size(picture: &Picture, factor: u32) -> Result<ImageSize, String> {
    let side = |pixels: usize| pixels as u32 / factor * factor;
    let size = ImageSize { height: side(picture.height), width: side(picture.width) };
    if size.height.min(size.width) == 0 {
        let (width, height) = (picture.width, picture.height);
        return Err(format!("it is {width}×{height} pixels; the tokenizer needs {factor} or more a side"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: usize, height: usize) -> Encoded {
        let rgb = (0..3 * width * height).map(|i| (i * 7 % 251) as u8).collect();
        Encoded::Bytes(Picture { width, height, rgb }.to_png().unwrap())
    }

    fn whole(resize: Option<u32>) -> Prepare {
        let config = Config { image_size: ImageSize { height: 32, width: 32 }, resize, ..Config::default() };
        Prepare::new(&config, Fit::Whole { factor: 8 })
    }

    #[test]
    fn whole_pictures_have_sides_of_the_nearest_multiples() {
        for ((width, height), resize, size) in [
            ((48, 32), None, (32, 48)),
            ((50, 35), None, (32, 48)),
            ((53, 36), None, (40, 56)),
            ((3, 100), None, (104, 8)),
            ((100, 50), Some(32), (32, 64)),
        ] {
            let prepared = whole(resize).image(&png(width, height)).unwrap();
            assert_eq!((prepared.size.height, prepared.size.width), size, "{width}×{height}");
            assert_eq!(prepared.planes.len(), 3 * size.0 as usize * size.1 as usize);
            assert_eq!(prepared.original, (width as u32, height as u32));
        }
    }

    #[test]
    fn a_picture_that_fits_keeps_its_pixels() {
        let Encoded::Bytes(bytes) = png(16, 24) else { unreachable!() };
        let picture = decode(&bytes, &DecodeOptions::default()).unwrap();
        let prepared = whole(None).image(&Encoded::Bytes(bytes)).unwrap();
        for (at, pixel) in picture.rgb.chunks(3).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                assert_eq!(prepared.planes[channel * 16 * 24 + at], *value);
            }
        }
    }

    #[test]
    fn a_picture_is_cut_at_its_borders_and_keeps_its_pixels() {
        let config = Config { resize: Some(64), ..Config::default() };
        let cut = Prepare::new(&config, Fit::Cut { factor: 4 });
        let Encoded::Bytes(bytes) = png(131, 97) else { unreachable!() };
        let picture = decode(&bytes, &DecodeOptions::default()).unwrap().release();
        let prepared = cut.image(&Encoded::Bytes(bytes)).unwrap();
        assert_eq!((prepared.size.height, prepared.size.width), (96, 128));
        assert_eq!(prepared.original, (131, 97));
        assert!(prepared.is_resized());
        assert_eq!(prepared.to_picture(), picture.centre_crop(128, 96));
        assert!(!cut.image(&png(12, 8)).unwrap().is_resized());
        let message = cut.image(&png(3, 50)).unwrap_err();
        assert_eq!(message, "it is 3×50 pixels; the tokenizer needs 4 or more a side");
    }

    #[test]
    fn the_share_that_is_kept_is_that_of_the_window() {
        let size = ImageSize { height: 32, width: 64 };
        for ((width, height), resize, kept) in [
            // A picture of the image's shape, and one of twice its height.
            ((128, 64), None, 1.0),
            ((128, 128), None, 0.5),
            // The short side is 80, the long side 160: 32 × 64 of 80 × 160.
            ((400, 200), Some(80), 0.16),
        ] {
            let found = Prepare::share_of_centre(size, resize, (width, height));
            assert!((found - kept).abs() < 1e-12, "{width}×{height}: {found}");
            let config = Config { image_size: size, resize, ..Config::default() };
            let picture = png(width as usize, height as usize);
            let prepared = Prepare::new(&config, Fit::Centre).image(&picture).unwrap();
            assert_eq!(prepared.kept, found);
        }
        assert_eq!(whole(None).image(&png(53, 36)).unwrap().kept, 1.0);
        let cut = Prepare::new(&Config::default(), Fit::Cut { factor: 8 });
        let kept = cut.image(&png(20, 12)).unwrap().kept;
        assert!((kept - (16.0 * 8.0) / (20.0 * 12.0)).abs() < 1e-12, "{kept}");
    }

    #[test]
    fn broken_and_enormous_pictures_say_why() {
        let prepare = whole(None);
        assert!(prepare.image(&Encoded::Bytes(b"text".to_vec())).unwrap_err().contains("plain text"));
        let message = whole(Some(9000)).image(&png(10, 20)).unwrap_err();
        assert!(message.contains("more than 16384"), "{message}");
    }
}
