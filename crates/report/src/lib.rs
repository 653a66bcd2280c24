//! What figures mean, and a comparison for people: tables, plots, the page.

mod columns;
mod csv;
pub mod definition;
#[cfg(test)]
mod fixture;
mod groups;
mod markdown;
mod page;
mod plot;
mod results;
mod style;
mod words;

pub use csv::csv;
pub use definition::{Better, DEFINITIONS, Definition, Over, definition};
pub use markdown::markdown;
pub use page::html;
pub use results::{Arm, Comparison, Curve, Exhibit, FORMAT_VERSION, Run, Summary};

use pixtok_base::{Class, Classified};
use pixtok_images::picture::PictureError;

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The exhibits do not belong to the comparison.
    #[error("a page needs one exhibit per arm: there are {arms} arms and {exhibits} exhibits")]
    Exhibits {
        /// Arms of the comparison.
        arms: usize,
        /// Exhibits given.
        exhibits: usize,
    },
    /// Reconstructions of other pictures.
    #[error(
        "the reconstructions of {arm} differ from the originals in number or size; give one of each original, or none"
    )]
    Reconstructions {
        /// The arm's name.
        arm: String,
    },
    /// A picture that cannot be encoded.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The template could not be filled in.
    #[error("the page's template: {0}")]
    Template(#[from] askama::Error),
}

impl Classified for ReportError {
    fn class(&self) -> Class {
        Class::Failed
    }
}
