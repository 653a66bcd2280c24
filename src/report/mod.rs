//! A comparison for people: tables, plots, the page.

mod results;

pub use results::{Arm, Comparison, Curve, Exhibit, FORMAT_VERSION, Run, Summary};
