//! Plots as small SVG drawings.
//!
//! They are drawn here and not by the plotters crate. Without a font library, plotters guesses the
//! widths of texts. It supports neither labels at the ends of lines that avoid each other, nor
//! classes for a style sheet (the page's font, its print rules), nor alternative texts and
//! tooltips. What it would replace, scales and ticks, is one file.

mod axis;
mod canvas;
mod labels;

pub(super) use axis::Axis;
pub(super) use canvas::{Canvas, Label, Stroke, WIDTH, text};
