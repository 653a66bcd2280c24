//! Converts a TIFF's samples to 8-bit RGB.

use tiff::decoder::DecodingResult;
use tiff::tags::Tag;

use super::{PictureError, Tiff, broken, error, unsupported};

/// `SMinSampleValue` and `SMaxSampleValue`, and the older tags for integers only.
const RANGE_TAGS: [(Tag, Tag); 2] =
    [(Tag::Unknown(340), Tag::Unknown(341)), (Tag::Unknown(280), Tag::Unknown(281))];
/// Half of one level in 255. A program that computes with floats may overshoot the range by this
/// much through rounding.
const ROUNDING: f64 = 0.5 / 255.0;

/// The composition of a pixel.
pub(super) struct Ink {
    /// The number of colours: 1 for grey, 3 for RGB, 4 for CMYK.
    pub colours: usize,
    /// Whether the colours are premultiplied with the alpha that follows them; `None` without
    /// alpha.
    pub premultiplied: Option<bool>,
}

/// Samples as stored in the file, row by row.
pub(super) struct Samples {
    pub buffer: DecodingResult,
    pub bits: u64,
    pub size: (usize, usize),
    pub ink: Ink,
    /// Samples per pixel in the buffer, or in each of its planes.
    pub pitch: usize,
    /// Whether each channel is stored in its own plane.
    pub planar: bool,
}

/// The smallest and the largest possible value of a sample, if the file states them.
pub(super) fn stated_range(tiff: &mut Tiff) -> Result<Option<(f64, f64)>, PictureError> {
    for (least, largest) in RANGE_TAGS {
        let mut of = |tag| -> Result<Vec<f64>, PictureError> {
            let values = tiff.find_tag(tag).map_err(error)?;
            Ok(values.map_or_else(Vec::new, values_of))
        };
        let largest = of(largest)?.into_iter().reduce(f64::max);
        let least = of(least)?.into_iter().reduce(f64::min).unwrap_or(0.0);
        if let Some(largest) = largest.filter(|largest| *largest > least && (largest - least).is_finite()) {
            return Ok(Some((least, largest)));
        }
    }
    Ok(None)
}

/// The numbers in a tag of any type.
fn values_of(value: tiff::decoder::ifd::Value) -> Vec<f64> {
    use tiff::decoder::ifd::Value;
    match value {
        Value::List(values) => values.into_iter().flat_map(values_of).collect(),
        Value::Float(value) => vec![f64::from(value)],
        Value::Double(value) => vec![value],
        Value::Rational(over, under) => vec![f64::from(over) / f64::from(under)],
        Value::SRational(over, under) => vec![f64::from(over) / f64::from(under)],
        other => other.into_i64().map(|value| vec![value as f64]).unwrap_or_default(),
    }
}

impl Samples {
    /// Scales each value from its range to 0…1, composites alpha over the background and rounds
    /// once. Also returns whether a pixel shows the background.
    ///
    /// # Errors
    /// When it is unclear which value is white.
    pub(super) fn rgb(
        &self,
        stated: Option<(f64, f64)>,
        background: [u8; 3],
    ) -> Result<(Vec<u8>, bool), PictureError> {
        let (width, height) = self.size;
        let bits = self.bits;
        if let Some(rgb) = self.as_they_are() {
            return Ok((rgb, false));
        }
        let full = |bits: u64| (0.0, ((1u64 << bits) - 1) as f64);
        match &self.buffer {
            DecodingResult::U8(bytes) if bits < 8 => {
                let (per_row, mask) = ((width * bits as usize).div_ceil(8), (1u8 << bits) - 1);
                let value = |at: usize| {
                    let (row, bit) = (at / width, at % width * bits as usize);
                    let byte = bytes[row * per_row + bit / 8];
                    f64::from(byte >> (8 - bits as usize - bit % 8) & mask)
                };
                if bytes.len() < per_row * height || self.ink.colours != 1 || self.ink.premultiplied.is_some()
                {
                    return Err(unsupported(&format!("of {bits} bits a sample and several samples a pixel")));
                }
                self.mix(&value, width * height, full(bits), background)
            }
            DecodingResult::U8(values) => {
                self.mix(&|at| f64::from(values[at]), values.len(), full(8), background)
            }
            DecodingResult::U16(values) => {
                self.mix(&|at| f64::from(values[at]), values.len(), full(16), background)
            }
            DecodingResult::F16(values) => {
                self.floats(&|at| f64::from(values[at].to_f32()), values.len(), stated, background)
            }
            DecodingResult::F32(values) => {
                self.floats(&|at| f64::from(values[at]), values.len(), stated, background)
            }
            DecodingResult::F64(values) => self.floats(&|at| values[at], values.len(), stated, background),
            DecodingResult::U32(values) => {
                self.wide(&|at| f64::from(values[at]), values.len(), stated, "unsigned", background)
            }
            DecodingResult::U64(values) => {
                self.wide(&|at| values[at] as f64, values.len(), stated, "unsigned", background)
            }
            DecodingResult::I8(values) => {
                self.wide(&|at| f64::from(values[at]), values.len(), stated, "signed", background)
            }
            DecodingResult::I16(values) => {
                self.wide(&|at| f64::from(values[at]), values.len(), stated, "signed", background)
            }
            DecodingResult::I32(values) => {
                self.wide(&|at| f64::from(values[at]), values.len(), stated, "signed", background)
            }
            DecodingResult::I64(values) => {
                self.wide(&|at| values[at] as f64, values.len(), stated, "signed", background)
            }
        }
    }

    /// A fast path for opaque grey and RGB of 8 or 16 bits, as most files are. Gives the same
    /// result as [`Samples::mix`].
    fn as_they_are(&self) -> Option<Vec<u8>> {
        let colours = self.ink.colours;
        if !matches!(colours, 1 | 3)
            || self.ink.premultiplied.is_some()
            || self.planar
            || self.pitch != colours
        {
            return None;
        }
        let bytes: Vec<u8> = match &self.buffer {
            DecodingResult::U8(values) if self.bits == 8 => values.clone(),
            DecodingResult::U16(values) => {
                values.iter().map(|value| ((u32::from(*value) + 128) / 257) as u8).collect()
            }
            _ => return None,
        };
        if bytes.len() != colours * self.size.0 * self.size.1 {
            return None;
        }
        Some(if colours == 3 { bytes } else { bytes.into_iter().flat_map(|grey| [grey; 3]).collect() })
    }

    /// Integers of types that are rarely used in full: only with a stated range.
    fn wide(
        &self,
        value: &dyn Fn(usize) -> f64,
        count: usize,
        stated: Option<(f64, f64)>,
        sign: &str,
        background: [u8; 3],
    ) -> Result<(Vec<u8>, bool), PictureError> {
        let Some(range) = stated else {
            let bits = self.bits;
            return Err(unsupported(&format!(
                "of {bits}-bit {sign} whole numbers that doesn't state their range (SMinSampleValue, SMaxSampleValue)"
            )));
        };
        self.within(value, count, range)?;
        self.mix(value, count, range, background)
    }

    /// Floats from 0 to 1, or in the stated range.
    fn floats(
        &self,
        value: &dyn Fn(usize) -> f64,
        count: usize,
        stated: Option<(f64, f64)>,
        background: [u8; 3],
    ) -> Result<(Vec<u8>, bool), PictureError> {
        // Some files state the smallest and largest values that occur. A range within 0…1 is
        // therefore ignored.
        let range = stated.filter(|(least, largest)| *least < 0.0 || *largest > 1.0).unwrap_or((0.0, 1.0));
        self.within(value, count, range)?;
        self.mix(value, count, range, background)
    }

    fn within(
        &self,
        value: &dyn Fn(usize) -> f64,
        count: usize,
        range: (f64, f64),
    ) -> Result<(), PictureError> {
        let (mut least, mut largest) = (f64::INFINITY, f64::NEG_INFINITY);
        for at in 0..count {
            let value = value(at);
            if !value.is_finite() {
                return Err(unsupported("with samples that are not finite numbers"));
            }
            (least, largest) = (least.min(value), largest.max(value));
        }
        let slack = ROUNDING * (range.1 - range.0);
        if least < range.0 - slack || largest > range.1 + slack {
            // Three digits are enough in a message.
            let [least, largest] = [least, largest].map(|value| (value * 1000.0).round() / 1000.0);
            return Err(unsupported(&format!(
                "with samples from {least} to {largest}, not from {} to {} (unless SMinSampleValue and SMaxSampleValue state another range),",
                range.0, range.1
            )));
        }
        Ok(())
    }

    fn mix(
        &self,
        value: &dyn Fn(usize) -> f64,
        count: usize,
        (least, largest): (f64, f64),
        background: [u8; 3],
    ) -> Result<(Vec<u8>, bool), PictureError> {
        let pixels = self.size.0 * self.size.1;
        let used = self.ink.colours + usize::from(self.ink.premultiplied.is_some());
        let needed = if self.planar { used * pixels } else { self.pitch * pixels };
        if count < needed || (!self.planar && self.pitch < used) {
            return Err(broken("its samples are too few"));
        }
        let unit = |pixel: usize, channel: usize| {
            let at = if self.planar { channel * pixels + pixel } else { pixel * self.pitch + channel };
            ((value(at) - least) / (largest - least)).clamp(0.0, 1.0)
        };
        let colours = self.ink.colours;
        // Some programs write an alpha channel that is zero everywhere.
        let unseen =
            self.ink.premultiplied == Some(false) && (0..pixels).all(|pixel| unit(pixel, colours) == 0.0);
        let alpha = |pixel| if unseen { 1.0 } else { unit(pixel, colours) };
        let colour = |pixel: usize, channel: usize| match colours {
            1 => unit(pixel, 0),
            3 => unit(pixel, channel),
            _ => (1.0 - unit(pixel, channel)) * (1.0 - unit(pixel, 3)),
        };
        let mut rgb = Vec::with_capacity(3 * pixels);
        for pixel in 0..pixels {
            for (channel, under) in background.iter().enumerate() {
                let (colour, under) = (colour(pixel, channel), f64::from(*under) / 255.0);
                let mixed = match self.ink.premultiplied {
                    None => colour,
                    Some(false) => colour * alpha(pixel) + under * (1.0 - alpha(pixel)),
                    Some(true) => (colour + under * (1.0 - alpha(pixel))).min(1.0),
                };
                rgb.push((255.0 * mixed).round() as u8);
            }
        }
        let transparent = self.ink.premultiplied.is_some() && (0..pixels).any(|pixel| alpha(pixel) < 1.0);
        Ok((rgb, transparent))
    }
}
