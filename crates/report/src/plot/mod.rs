//! Plots as small SVG drawings.
//!
//! Drawn here and not by plotters: without a font library it guesses the widths of texts, and it knows neither labels at
//! the ends of lines that make room for each other, nor classes for a style sheet (the page's font, its rules for print),
//! nor alternative texts and tooltips. What is left of it then, scales and ticks, is one file.

mod axis;
mod canvas;
mod labels;

pub(super) use axis::Axis;
pub(super) use canvas::{Canvas, Label, Stroke};
