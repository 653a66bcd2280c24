//! The definitions of figures, and a comparison rendered for people: tables, plots, a page.

mod columns;
mod csv;
pub mod definition;
#[cfg(test)]
mod fixture;
mod groups;
mod latex;
mod main_table;
mod markdown;
mod page;
mod plot;
mod ranking;
mod results;
mod student;
mod style;
mod words;

pub use csv::{csv, summary_csv};
pub use definition::{Better, DEFINITIONS, Definition, Over, definition};
pub use groups::Group;
pub use latex::latex;
pub use markdown::markdown;
pub use page::{PlotFile, html, plots};
pub use results::{Arm, Comparison, Curve, Exhibit, FORMAT_VERSION, Interval, Pair, Run, Sample, Summary};
pub use student::t_interval;

use pixtok_base::{Class, Classified};
use pixtok_images::picture::PictureError;

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The reason why the page could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The number of exhibits differs from the number of arms.
    #[error("a page needs one exhibit per arm: there are {arms} arms and {exhibits} exhibits")]
    Exhibits {
        /// The number of arms.
        arms: usize,
        /// The number of exhibits.
        exhibits: usize,
    },
    /// Reconstructions that differ from the originals in number or size.
    #[error(
        "the reconstructions of {arm} differ from the originals in number or size; give one of each original, or none"
    )]
    Reconstructions {
        /// The name of the arm.
        arm: String,
    },
    /// A picture could not be encoded.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The page's template failed.
    #[error("the page's template: {0}")]
    Template(#[from] askama::Error),
}

impl Classified for ReportError {
    fn class(&self) -> Class {
        Class::Failed
    }
}
