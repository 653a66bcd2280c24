//! Contact sheets.

use super::Picture;

/// White pixels between two pictures.
const GAP: usize = 2;

/// Lays out pictures in rows on white with a thin gap between them, for instance originals above
/// their reconstructions. Every cell has the size of the largest picture. Without pictures, the
/// sheet is a single white pixel.
#[must_use]
pub fn sheet(rows: &[Vec<Picture>]) -> Picture {
    let pictures = || rows.iter().flatten();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell_width = pictures().map(|picture| picture.width).max().unwrap_or(0);
    let cell_height = pictures().map(|picture| picture.height).max().unwrap_or(0);
    let span = |cells: usize, cell: usize| (cells * (cell + GAP)).saturating_sub(GAP).max(1);
    let (width, height) = (span(columns, cell_width), span(rows.len(), cell_height));
    let mut rgb = vec![255; 3 * width * height];
    for (row, pictures) in rows.iter().enumerate() {
        for (column, picture) in pictures.iter().enumerate() {
            let corner = row * (cell_height + GAP) * width + column * (cell_width + GAP);
            for (y, line) in picture.rgb.chunks_exact(3 * picture.width).enumerate() {
                let start = 3 * (corner + y * width);
                rgb[start..start + line.len()].copy_from_slice(line);
            }
        }
    }
    Picture { width, height, rgb }
}
