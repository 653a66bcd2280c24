//! The figures of an evaluation: named values, which are written to logs, to a table for people and
//! to a flat JSON object for programs.

use std::fmt::Write as _;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::metrics::{CodebookFigures, JointFigures, StreamFigures};
use pixtok_report::{DEFINITIONS, definition};

/// The figures that are logged during training; the others are computed at the end.
const WATCHED: [&str; 10] = [
    "psnr_db",
    "l1",
    "usage",
    "perplexity",
    "dead_codes",
    "largest_share",
    "entropy_bits",
    "usage_joint",
    "perplexity_joint",
    "ssim",
];

/// The results of an evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    figures: Vec<Figure>,
    /// Figures with one value for each codebook.
    lists: Vec<(&'static str, Vec<f64>)>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    name: &'static str,
    /// The value, or the reason why there is none.
    value: Result<f64, String>,
    /// The bootstrap 95 % interval over images.
    interval: Option<(f64, f64)>,
    /// A remark that a reader must know.
    note: Option<String>,
}

impl Figures {
    pub(super) fn push(&mut self, name: &'static str, value: f64) {
        self.push_mean(name, value, None);
    }

    pub(super) fn push_mean(&mut self, name: &'static str, value: f64, interval: Option<(f64, f64)>) {
        // JSON cannot hold NaN or infinity. So that its absence is explained, the value becomes a
        // reason.
        let value = if value.is_finite() { Ok(value) } else { Err(format!("its value is {value}")) };
        self.figures.push(Figure { name, value, interval, note: None });
    }

    pub(super) fn push_noted(&mut self, name: &'static str, value: f64, note: Option<String>) {
        self.figures.push(Figure { name, value: Ok(value), interval: None, note });
    }

    pub(super) fn push_absent(&mut self, name: &'static str, reason: String) {
        self.figures.push(Figure { name, value: Err(reason), interval: None, note: None });
    }

    pub(super) fn push_codebook(&mut self, codebooks: i64, size: i64, figures: &CodebookFigures) {
        self.push("codebooks", codebooks as f64);
        self.push("codebook_size", size as f64);
        self.push("tokens", figures.tokens as f64);
        self.push("usage", figures.usage);
        self.push("usage_expected_uniform", figures.usage_expected_uniform);
        self.push("perplexity", figures.perplexity);
        self.push("entropy_bits", figures.entropy_bits);
        self.push("dead_codes", figures.dead_codes as f64);
        self.push("largest_share", figures.largest_share);
        self.push("bits_per_token", figures.bits_per_token);
        if codebooks > 1 {
            self.lists.push(("usage_by_codebook", figures.usage_by_codebook.clone()));
            self.lists.push(("perplexity_by_codebook", figures.perplexity_by_codebook.clone()));
        }
    }

    pub(super) fn push_joint(&mut self, figures: &JointFigures) {
        self.push("codes_joint", figures.codes_joint as f64);
        self.push("usage_joint", figures.usage_joint);
        self.push("usage_joint_expected_uniform", figures.usage_joint_expected_uniform);
        self.push("entropy_bits_joint", figures.entropy_bits_joint);
        self.push("perplexity_joint", figures.perplexity_joint);
    }

    pub(super) fn push_stream(&mut self, figures: &StreamFigures) {
        self.push("usage_batch", figures.usage_batch);
        self.push("usage_64k", figures.usage_64k);
        self.push("bits_per_token_zstd", figures.bits_per_token_zstd);
    }

    /// Adds the figures and lists of `other`.
    pub(super) fn extend(&mut self, other: Self) {
        self.figures.extend(other.figures);
        self.lists.extend(other.lists);
    }

    /// Sorts the figures into the order of their definitions.
    pub(super) fn in_order(mut self) -> Self {
        let place = |name: &str| DEFINITIONS.iter().position(|definition| definition.name == name);
        self.figures.sort_by_key(|figure| place(figure.name).unwrap_or(usize::MAX));
        self
    }

    /// The value of the figure `name`, if it has one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name)?.value.clone().ok()
    }

    /// The names of the figures, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.figures.iter().map(|figure| figure.name)
    }

    /// The figures that `other` has too.
    pub(super) fn also_in(&self, other: &Self) -> Self {
        let has = |name: &str| other.figures.iter().any(|figure| figure.name == name);
        let figures = self.figures.iter().filter(|figure| has(figure.name)).cloned().collect();
        Self { figures, lists: vec![] }
    }

    /// The value of the figure `name` as in the table.
    pub(super) fn printed(&self, name: &str) -> String {
        let found = self.figures.iter().find(|figure| figure.name == name);
        found.map_or_else(|| "absent".to_owned(), |figure| row(figure).1)
    }

    /// The figures that are logged during training, by name.
    #[must_use]
    pub fn watched(&self) -> Vec<(String, f64)> {
        let single = WATCHED.iter().filter_map(|&name| Some((name.to_owned(), self.value(name)?)));
        let each = self.lists.iter().flat_map(|(name, values)| {
            let name = name.trim_end_matches("_by_codebook");
            values.iter().enumerate().map(move |(i, &value)| (format!("{name}/{i}"), value))
        });
        single.chain(each).collect()
    }

    /// The figures as a flat JSON object. An absent figure is null, with the reason under
    /// `NAME_note`. The ends of an interval are `NAME_low` and `NAME_high`.
    #[must_use]
    pub fn flat(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for figure in &self.figures {
            let name = figure.name;
            match &figure.value {
                Ok(value) => object.insert(name.into(), number(name, *value)),
                Err(_) => object.insert(name.into(), Value::Null),
            };
            if let Some((low, high)) = figure.interval {
                object.insert(format!("{name}_low"), json!(low));
                object.insert(format!("{name}_high"), json!(high));
            }
            if let Some(note) = figure.value.as_ref().err().or(figure.note.as_ref()) {
                object.insert(format!("{name}_note"), json!(note));
            }
        }
        for (name, values) in &self.lists {
            object.insert((*name).into(), json!(values));
        }
        object
    }

    /// The figures as a table for people, one per line.
    #[must_use]
    pub fn table(&self) -> String {
        let rows: Vec<(&str, String, String)> =
            self.figures.iter().map(row).chain(self.list_rows()).collect();
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        rows.iter().fold(String::new(), |mut table, (name, value, meaning)| {
            let _ = writeln!(table, "{}", format!("  {name:<width$} {value:>10}  {meaning}").trim_end());
            table
        })
    }

    fn list_rows(&self) -> impl Iterator<Item = (&str, String, String)> {
        self.lists.iter().map(|(name, values)| {
            let digits = if values.iter().any(|&value| value > 1.0) { 1 } else { 4 };
            let list = values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(" ");
            (*name, String::new(), list)
        })
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.flat().serialize(serializer)
    }
}

/// The three columns of a row: name, value, meaning.
fn row(figure: &Figure) -> (&str, String, String) {
    let known = definition(figure.name);
    let digits = known.map_or(4, |known| known.digits);
    let text = known.map_or("", |known| known.text);
    match &figure.value {
        Err(reason) => (figure.name, "absent".into(), reason.clone()),
        Ok(value) => {
            let interval = figure.interval.map(|(low, high)| format!("[{low:.digits$}, {high:.digits$}]"));
            let parts =
                [interval, figure.note.clone(), Some(text.to_owned()).filter(|text| !text.is_empty())];
            let meaning = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
            (figure.name, format!("{value:.digits$}"), meaning)
        }
    }
}

/// The JSON number of a value; counts become integers.
fn number(name: &str, value: f64) -> Value {
    let whole = definition(name).is_some_and(|known| known.digits == 0);
    if whole { json!(value as i64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_figure_says_why_everywhere() {
        let mut figures = Figures::default();
        figures.push_absent("ms_ssim", "images under 176 px a side".into());
        figures.push_mean("psnr_db", 27.123_456, Some((26.0, 28.0)));
        figures.push("images", 129.0);
        let figures = figures.in_order();
        let flat = figures.flat();
        assert_eq!(flat["images"], json!(129));
        assert_eq!(flat["ms_ssim"], Value::Null);
        assert_eq!(flat["ms_ssim_note"], "images under 176 px a side");
        assert_eq!((&flat["psnr_db_low"], &flat["psnr_db_high"]), (&json!(26.0), &json!(28.0)));
        let table = figures.table();
        assert!(table.contains("ms_ssim     absent  images under 176 px a side"), "{table}");
        assert!(table.contains("psnr_db      27.12  [26.00, 28.00]; dB"), "{table}");
        assert!(table.find("images") < table.find("psnr_db"), "{table}");
        assert_eq!(figures.watched(), [("psnr_db".to_owned(), 27.123_456)]);
        assert_eq!((figures.value("psnr_db"), figures.value("ms_ssim")), (Some(27.123_456), None));
    }
}
