//! A comparison for people: tables, plots, the page.

mod columns;
mod csv;
#[cfg(test)]
mod fixture;
mod groups;
mod markdown;
mod results;
mod words;

pub use csv::csv;
pub use markdown::markdown;
pub use results::{Arm, Comparison, Curve, Exhibit, FORMAT_VERSION, Run, Summary};
