//! A comparison as Markdown tables, for a terminal, a README or an issue.

use std::fmt::Write as _;

use super::columns::{Absence, Column, absences, columns, number};
use super::groups::Group;
use super::{Comparison, words};
use crate::definition::Better;

/// Renders the tables of arms, the meaning of their columns, the protocol, and the failures.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let columns = columns(comparison);
    let mut text = format!("# {}\n\n{}\n", escape(&comparison.name), escape(&words::in_short(comparison)));
    for group in Group::ALL {
        let shown = group.of(&columns);
        if !shown.is_empty() {
            let _ = write!(text, "\n## {}\n\n{}", group.title(), table(comparison, &shown));
        }
    }
    text += &beneath(comparison, &columns);
    text += &list(
        "Failed runs",
        words::failures(comparison).iter().map(|failure| {
            let seed = failure.run.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
            format!("{}{seed}: {}", escape(failure.arm), escape(failure.reason))
        }),
    );
    text += &list(
        "Definitions",
        columns
            .iter()
            .map(|column| format!("`{}`: {}", column.definition.name, escape(column.definition.text))),
    );
    let pairs = |pairs: &[(String, String)]| -> Vec<String> {
        pairs.iter().map(|(name, value)| format!("{}: {}", escape(name), escape(value))).collect()
    };
    text += &list("Protocol", pairs(&comparison.protocol).into_iter());
    text += &list("Environment", pairs(&comparison.environment).into_iter());
    text
}

fn table(comparison: &Comparison, columns: &[&Column]) -> String {
    let mut head = vec!["arm".to_owned(), "parameters".to_owned()];
    head.extend(columns.iter().map(|column| {
        let mark = if column.of_own_images { words::OWN_MARK } else { "" };
        let signs = [arrow(column.definition.better), mark].map(sign_after).concat();
        format!("{}{signs}", column.definition.name)
    }));
    let mut text = format!("| {} |\n|---{}|\n", head.join(" | "), "|--:".repeat(head.len() - 1));
    for (at, arm) in comparison.arms.iter().enumerate() {
        let parameters = arm.parameters.map_or_else(|| "—".to_owned(), |count| number(count as f64, 0));
        let mut row = vec![escape(&arm.name), parameters];
        row.extend(columns.iter().map(|column| match column.cells.get(at).and_then(Option::as_ref) {
            None => "—".to_owned(),
            Some(cell) => {
                let bold = if cell.best { "**" } else { "" };
                let spread = cell.deviation.as_ref().map(|value| format!(" ± {value}")).unwrap_or_default();
                format!("{bold}{}{bold}{spread}", cell.mean)
            }
        }));
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// A mark after a name, if there is one.
fn sign_after(sign: &str) -> String {
    if sign.is_empty() { String::new() } else { format!(" {sign}") }
}

/// The arrow that column heads show for the better direction.
pub(super) fn arrow(better: Better) -> &'static str {
    match better {
        Better::Higher => "↑",
        Better::Lower => "↓",
        Better::Neither => "",
    }
}

/// The notes below the tables: how to read them, and what is missing.
fn beneath(comparison: &Comparison, columns: &[Column]) -> String {
    let mut text = String::new();
    let cells = || columns.iter().flat_map(|column| column.cells.iter().flatten());
    if cells().any(|cell| cell.deviation.is_some()) {
        text += "\n± is the standard deviation over seeds.";
    }
    if cells().any(|cell| cell.best) {
        text += "\nBold is the best mean of a column with an arrow. Columns without an arrow are not ranked.";
    }
    if columns.iter().any(|column| column.of_own_images) {
        text += &format!("\n{}", words::OWN_MEANING);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let absences = absences(comparison);
    text += &list("Absent", absences.iter().map(|absence| escape(&absence_words(absence))));
    text += &list("Left out", words::left_out(comparison).iter().map(|said| escape(&said.line())));
    text += &list("Notes", words::notes(comparison).iter().map(|said| escape(&said.line())));
    text
}

/// Describes an absence: `ms_ssim, rfid of a, b: reason`.
pub(super) fn absence_words(absence: &Absence) -> String {
    let arms =
        if absence.arms.is_empty() { String::new() } else { format!(" of {}", absence.arms.join(", ")) };
    format!("{}{arms}: {}", absence.names.join(", "), absence.reason)
}

fn list(title: &str, items: impl Iterator<Item = String>) -> String {
    let items: String = items.map(|item| format!("- {item}\n")).collect();
    if items.is_empty() { String::new() } else { format!("\n## {title}\n\n{items}") }
}

/// Escapes `text` so that Markdown shows it unchanged, on one line. Underscores within words have
/// no meaning and are not escaped.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let within = before.is_alphanumeric() && characters.peek().is_some_and(|next| next.is_alphanumeric());
        match c {
            '\n' | '\r' => escaped.push(' '),
            '_' if within => escaped.push(c),
            '\\' | '`' | '*' | '_' | '~' | '$' | '[' | ']' | '<' | '>' | '|' | '&' | '#' => {
                escaped.extend(['\\', c]);
            }
            c => escaped.push(c),
        }
        before = c;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use pixtok_images::data::BadSample;
    use serde_json::json;

    #[test]
    fn tables_notes_definitions_and_failures() {
        let mut comparison = fixture::comparison(&[
            (
                "a|<b>",
                "s",
                &[
                    json!({"psnr_db": 27.0, "l1": 3.0, "usage": 0.5, "ms_ssim": null, "ms_ssim_note": "images under 176 px"}),
                    json!({"psnr_db": 28.0, "l1": 2.5, "usage": 0.6}),
                ],
            ),
            ("b", "s", &[json!({"psnr_db": 26.0, "l1": 3.5})]),
        ]);
        comparison.arms[1].runs[0].failure = Some("loss is *NaN*\nat step 3".into());
        let text = markdown(&comparison);
        for part in [
            "| arm | parameters | psnr_db ↑ | l1 ↓ |\n|---|--:|--:|--:|\n",
            "| a\\|\\<b\\> | 250,123 | **27.50** ± 0.71 | **2.75** ± 0.35 |\n",
            "| b | 250,123 | 26.00 | 3.50 |\n",
            "| b | 250,123 | — |\n",
            "## Absent\n\n- ms_ssim of a\\|\\<b\\>: images under 176 px\n",
            "## Failed runs\n\n- b, seed 0: loss is \\*NaN\\* at step 3\n",
            "- `usage`: share of codes that occur among all tokens evaluated\n",
            "## Protocol\n\n- steps: 600\n",
            "## Environment\n\n- pixtok: 0.1.0\n",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(!text.contains("`ms_ssim`"), "what is not shown is not defined");
        assert!(!text.contains("**0.5"), "usage ranks nothing");
        assert!(!text.contains("Left out") && !text.contains("†"));
    }

    #[test]
    fn what_was_left_out_stands_by_name_and_figures_of_sets_are_marked() {
        let figures = |db: f64, rfid: f64| json!({"psnr_db": db, "rfid": rfid});
        let mut comparison =
            fixture::comparison(&[("a", "s", &[figures(30.0, 3.0)]), ("b", "s", &[figures(30.0, 2.0)])]);
        comparison.of_own_images = vec!["rfid".into()];
        let reason = "its reconstruction: broken PNG".to_owned();
        comparison.arms[1].runs[0].left_out = vec![BadSample { name: "_c_.png".into(), reason }];
        comparison.arms[1].runs[0].notes = vec!["it is *green*".into()];
        let text = markdown(&comparison);
        for part in [
            "| arm | parameters | rfid ↓ † |\n",
            "| b | 250,123 | 2.00 |\n",
            "\n† is over each evaluation's own images",
            "## Left out\n\n- b, seed 0: \\_c\\_.png: its reconstruction: broken PNG\n",
            "## Notes\n\n- b, seed 0: it is \\*green\\*\n",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert_eq!(text.matches("**30.00**").count(), 2, "{text}");
    }

    #[test]
    fn names_mean_nothing_to_markdown() {
        let cases = [
            ("psnr_db", "psnr_db"),
            ("_fast_", "\\_fast\\_"),
            ("a__b", "a\\_\\_b"),
            ("~~old~~", "\\~\\~old\\~\\~"),
            ("$x$ | `y`", "\\$x\\$ \\| \\`y\\`"),
            ("two\nlines", "two lines"),
        ];
        for (text, escaped) in cases {
            assert_eq!(escape(text), escaped);
        }
    }
}
