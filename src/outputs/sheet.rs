//! Sheets with originals above their reconstructions.

use pixtok_images::picture::{LabelledSheet, Picture, error_map, error_scale};

/// The caption of an image and its reconstruction.
#[must_use]
pub fn caption(name: &str, psnr_db: f64) -> String {
    format!("{name}\n{psnr_db:.2} dB")
}

/// Originals above their reconstructions, above the errors. All lists have one length, and a
/// reconstruction has the size of its original.
#[must_use]
pub fn comparison(captions: Vec<String>, originals: Vec<Picture>, reconstructions: Vec<Picture>) -> Picture {
    let pairs = || originals.iter().zip(&reconstructions);
    let scale = error_scale(pairs());
    let errors = pairs().map(|(original, recon)| error_map(original, recon, scale)).collect();
    LabelledSheet::new(captions)
        .row("original", originals)
        .row("reconstruction", reconstructions)
        .row(&format!("error x{scale}"), errors)
        .draw()
}
