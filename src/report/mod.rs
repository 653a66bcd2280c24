//! A comparison for people: tables, plots, the page.

mod results;

pub use results::{Arm, Comparison, Curve, Exhibit, FORMAT_VERSION, Run, Summary};

/// Stand-in until the page is merged.
pub fn markdown(_: &Comparison) -> String {
    String::new()
}
/// Stand-in until the page is merged.
pub fn csv(_: &Comparison) -> String {
    String::new()
}
/// Stand-in until the page is merged.
pub fn html(_: &Comparison, _: &[Exhibit], _: &[crate::picture::Picture]) -> anyhow::Result<String> {
    Ok(String::new())
}
