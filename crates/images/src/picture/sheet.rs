//! Contact sheets.

use std::convert::Infallible;

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_9X15;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::text::{Baseline, Text};

use super::Picture;

/// White pixels between two pictures.
const GAP: usize = 2;
/// White pixels between a label and the pictures.
const LABEL_GAP: usize = 6;
/// The width of a letter in pixels, with the space after it.
const LETTER_WIDTH: usize = 9;
/// The height of a line of letters in pixels.
const LINE_HEIGHT: usize = 15;
/// Pictures on a labelled sheet are enlarged until their longer side has at least so many pixels.
const LEAST_SIDE: usize = 200;

/// Lays out pictures in rows on white with a thin gap between them. Every cell has the size of the
/// largest picture. Without pictures, the sheet is a single white pixel.
#[must_use]
pub fn sheet(rows: &[Vec<Picture>]) -> Picture {
    Layout::new(rows, 1, 0, 0).draw(rows)
}

/// A sheet whose rows have labels and whose columns have captions, for instance originals above
/// their reconstructions. All pictures are enlarged by the same whole number, so that small ones
/// can be judged.
#[derive(Debug, Clone, Default)]
pub struct LabelledSheet {
    captions: Vec<String>,
    labels: Vec<String>,
    rows: Vec<Vec<Picture>>,
}

impl LabelledSheet {
    /// A sheet without rows. Each caption stands above a column; it may have several lines. Of a
    /// line that is wider than its column, the end is shown.
    #[must_use]
    pub fn new(captions: Vec<String>) -> Self {
        Self { captions, ..Self::default() }
    }

    /// Adds a row below the others.
    #[must_use]
    pub fn row(mut self, label: &str, pictures: Vec<Picture>) -> Self {
        self.labels.push(label.to_owned());
        self.rows.push(pictures);
        self
    }

    /// Draws the sheet.
    #[must_use]
    pub fn draw(&self) -> Picture {
        let lines = self.captions.iter().map(|caption| caption.lines().count()).max().unwrap_or(0);
        let letters = self.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let with_gap = |size: usize| if size > 0 { size + LABEL_GAP } else { 0 };
        let left = with_gap(letters * LETTER_WIDTH);
        let top = with_gap(lines * LINE_HEIGHT);
        let longest = self.rows.iter().flatten().map(|picture| picture.width.max(picture.height)).max();
        let factor = LEAST_SIDE.div_ceil(longest.unwrap_or(LEAST_SIDE).max(1));
        let layout = Layout::new(&self.rows, factor, left, top);
        let mut drawn = layout.draw(&self.rows);
        for (column, caption) in self.captions.iter().enumerate() {
            for (line, text) in caption.lines().enumerate() {
                let text = end_of(text, layout.cell_width / LETTER_WIDTH);
                write(&mut drawn, &text, layout.left_of(column), line * LINE_HEIGHT);
            }
        }
        for (row, label) in self.labels.iter().enumerate() {
            let middle = layout.top_of(row) + layout.cell_height.saturating_sub(LINE_HEIGHT) / 2;
            write(&mut drawn, label, 0, middle);
        }
        drawn
    }
}

/// The last `letters` letters of a text, with a mark where something is left out.
fn end_of(text: &str, letters: usize) -> String {
    let count = text.chars().count();
    if count <= letters {
        return text.to_owned();
    }
    let kept = letters.saturating_sub(2);
    "..".chars().chain(text.chars().skip(count - kept)).take(letters).collect()
}

/// Where the pictures of a sheet are.
struct Layout {
    columns: usize,
    rows: usize,
    /// The factor by which pictures are enlarged.
    factor: usize,
    cell_width: usize,
    cell_height: usize,
    /// The pixels to the left of the first column.
    left: usize,
    /// The pixels above the first row.
    top: usize,
}

impl Layout {
    fn new(rows: &[Vec<Picture>], factor: usize, left: usize, top: usize) -> Self {
        let pictures = || rows.iter().flatten();
        Self {
            columns: rows.iter().map(Vec::len).max().unwrap_or(0),
            rows: rows.len(),
            factor,
            cell_width: factor * pictures().map(|picture| picture.width).max().unwrap_or(0),
            cell_height: factor * pictures().map(|picture| picture.height).max().unwrap_or(0),
            left,
            top,
        }
    }

    fn left_of(&self, column: usize) -> usize {
        self.left + column * (self.cell_width + GAP)
    }

    fn top_of(&self, row: usize) -> usize {
        self.top + row * (self.cell_height + GAP)
    }

    /// Draws the pictures on white.
    fn draw(&self, rows: &[Vec<Picture>]) -> Picture {
        let width = self.left_of(self.columns).saturating_sub(GAP).max(1);
        let height = self.top_of(self.rows).saturating_sub(GAP).max(1);
        let mut rgb = vec![255; 3 * width * height];
        for (row, pictures) in rows.iter().enumerate() {
            for (column, picture) in pictures.iter().enumerate() {
                for (y, line) in picture.rgb.chunks_exact(3 * picture.width).enumerate() {
                    let wide: Vec<u8> =
                        line.chunks_exact(3).flat_map(|pixel| pixel.repeat(self.factor)).collect();
                    for copy in 0..self.factor {
                        let y = self.top_of(row) + y * self.factor + copy;
                        let start = 3 * (y * width + self.left_of(column));
                        rgb[start..start + wide.len()].copy_from_slice(&wide);
                    }
                }
            }
        }
        Picture { width, height, rgb }
    }
}

/// Writes a line of black text, whose upper left corner is at (`x`, `y`). What is outside of the
/// picture is not drawn.
fn write(picture: &mut Picture, text: &str, x: usize, y: usize) {
    let style = MonoTextStyle::new(&FONT_9X15, Rgb888::BLACK);
    let text = Text::with_baseline(text, Point::new(x as i32, y as i32), style, Baseline::Top);
    let Ok(_) = embedded_graphics::Drawable::draw(&text, &mut Canvas(picture));
}

/// A picture that letters are drawn on.
struct Canvas<'a>(&'a mut Picture);

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width as u32, self.0.height as u32)
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let Picture { width, height, rgb } = &mut *self.0;
        for Pixel(point, colour) in pixels {
            let place = (usize::try_from(point.x), usize::try_from(point.y));
            if let (Ok(x), Ok(y)) = place
                && x < *width
                && y < *height
            {
                let start = 3 * (y * *width + x);
                rgb[start..start + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Picture {
        let rgb = (0..3 * width * height).map(|i| (i * 37 % 250) as u8).collect();
        Picture { width, height, rgb }
    }

    fn pixel(picture: &Picture, x: usize, y: usize) -> [u8; 3] {
        let start = 3 * (y * picture.width + x);
        [picture.rgb[start], picture.rgb[start + 1], picture.rgb[start + 2]]
    }

    fn is_blank(picture: &Picture, left: usize, right: usize, top: usize, bottom: usize) -> bool {
        (top..bottom).all(|y| (left..right).all(|x| pixel(picture, x, y) == [255; 3]))
    }

    #[test]
    fn sheets_have_rows_and_gaps() {
        let (a, b) = (picture(5, 7), picture(4, 3));
        let sheet = sheet(&[vec![a.clone(), b.clone()], vec![b.clone()]]);
        assert_eq!((sheet.width, sheet.height), (5 + 2 + 5, 7 + 2 + 7));
        assert_eq!(pixel(&sheet, 4, 6), pixel(&a, 4, 6));
        assert_eq!(pixel(&sheet, 5, 0), [255; 3]);
        assert_eq!(pixel(&sheet, 7, 0), pixel(&b, 0, 0));
        assert_eq!(pixel(&sheet, 3, 9 + 2), pixel(&b, 3, 2));
        assert_eq!(pixel(&sheet, 7, 9), [255; 3]);
    }

    #[test]
    fn no_pictures_make_one_pixel() {
        let empty = sheet(&[]);
        assert_eq!((empty.width, empty.height), (1, 1));
        let empty = LabelledSheet::default().draw();
        assert_eq!((empty.width, empty.height), (1, 1));
    }

    #[test]
    fn labelled_sheets_enlarge_by_whole_numbers() {
        let (a, b) = (picture(50, 70), picture(60, 30));
        let captions = vec!["a.png\n21.35 dB".to_owned(), String::new()];
        let sheet = LabelledSheet::new(captions).row("original", vec![a.clone(), b.clone()]);
        let drawn = sheet.row("new", vec![b, a.clone()]).draw();
        // 70 pixels times 3 are the first multiple that is not under 200.
        let (left, top) = (8 * 9 + 6, 2 * 15 + 6);
        assert_eq!((drawn.width, drawn.height), (left + 180 + 2 + 180, top + 210 + 2 + 210));
        for (x, y) in [(0, 0), (49, 69), (20, 11)] {
            for (dx, dy) in [(0, 0), (2, 2), (1, 0)] {
                assert_eq!(pixel(&drawn, left + 3 * x + dx, top + 3 * y + dy), pixel(&a, x, y));
            }
        }
        // Both lines of the first caption are written, and both labels.
        assert!(!is_blank(&drawn, left, left + 5 * 9, 0, 15));
        assert!(!is_blank(&drawn, left, left + 8 * 9, 15, 30));
        assert!(is_blank(&drawn, left + 182, drawn.width, 0, top));
        let middle = top + (210 - 15) / 2;
        assert!(!is_blank(&drawn, 0, left, middle, middle + 15));
        assert!(!is_blank(&drawn, 0, left, middle + 212, middle + 227));
        assert!(is_blank(&drawn, 0, left, 0, middle));
    }

    #[test]
    fn the_end_of_a_long_caption_is_shown() {
        assert_eq!(end_of("dog.png", 7), "dog.png");
        assert_eq!(end_of("val/dog.png", 7), "..g.png");
        assert_eq!(end_of("dog.png", 1), ".");
        // Letters outside of the font, and a sheet of one narrow picture, are no error.
        let narrow = LabelledSheet::new(vec!["狗 and more".into()]).row("", vec![picture(1, 300)]);
        assert_eq!(narrow.draw().width, 1);
    }
}
