//! A comparison as Markdown tables, for a terminal, a README or an issue.

use std::fmt::Write as _;

use super::columns::{Absence, Cell, Column, absences, columns, number};
use super::groups::Group;
use super::main_table::{MainTable, same_in_details};
use super::ranking::Ranking;
use super::{Comparison, words};
use crate::definition::Better;

/// Renders the tables of arms, the meaning of their columns, the protocol, and the failures.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let (columns, ranking) = (columns(comparison), Ranking::of(comparison));
    let mut text = format!("# {}\n\n", escape(&comparison.name));
    for (at, sentence) in words::in_short(comparison).iter().enumerate() {
        let _ = writeln!(text, "{}{}", ["", "\n- ", "- "][at.min(2)], escape(sentence));
    }
    let notes: String =
        words::notes(comparison).iter().map(|said| format!("- {}\n", escape(&said.line()))).collect();
    if !notes.is_empty() {
        text += &format!("\nNotes:\n\n{notes}");
    }
    text += &main_table(comparison, &MainTable::of(comparison, &columns, &ranking));
    // Parameters are a column of the first table only.
    let arms = &comparison.arms;
    let mut sized = arms.iter().any(|arm| arm.parameters != arms[0].parameters);
    for group in Group::ALL {
        let shown: Vec<_> = group.of(&columns).into_iter().filter(|column| column.same.is_none()).collect();
        if !shown.is_empty() {
            let _ = write!(text, "\n## {}\n\n{}", group.title(), table(comparison, &shown, sized));
            sized = false;
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
            .map(|column| format!("`{}`: {}", column.definition.name, escape(&column.definition.words()))),
    );
    let pairs = |pairs: &[(String, String)]| -> Vec<String> {
        pairs.iter().map(|(name, value)| format!("{}: {}", escape(name), escape(value))).collect()
    };
    text += &list("Protocol", pairs(&comparison.protocol).into_iter());
    text += &list("Environment", pairs(&comparison.environment).into_iter());
    text
}

/// The main table, with a row between blocks of arms that says what they have in common.
fn main_table(comparison: &Comparison, table: &MainTable) -> String {
    if comparison.arms.is_empty() {
        return String::new();
    }
    let heads = table.columns.iter().map(|column| head(column.name, column.better, column.of_own_images));
    let mut text =
        format!("\n{}", head_rows(&std::iter::once("arm".to_owned()).chain(heads).collect::<Vec<_>>()));
    for block in &table.blocks {
        if !block.title.is_empty() {
            let _ = writeln!(text, "| *{}* |{}", escape(&block.title), " |".repeat(table.columns.len()));
        }
        for &arm in &block.arms {
            let cells = table.columns.iter().map(|column| cell(column.cells[arm].as_ref()));
            let row = std::iter::once(escape(&comparison.arms[arm].name)).chain(cells);
            let _ = writeln!(text, "| {} |", row.collect::<Vec<_>>().join(" | "));
        }
    }
    if !table.note.is_empty() {
        let _ = write!(text, "\n{}\n", escape(&table.note));
    }
    if !table.same.is_empty() {
        let _ = write!(text, "\nFor all arms: {}.\n", escape(&table.same));
    }
    text
}

/// A table of details. If it is `sized`, parameters are its second column.
fn table(comparison: &Comparison, columns: &[&Column], sized: bool) -> String {
    let heads = columns
        .iter()
        .map(|column| head(column.definition.name, column.definition.better, column.of_own_images));
    let first = ["arm", "parameters"].into_iter().take(if sized { 2 } else { 1 }).map(str::to_owned);
    let mut text = head_rows(&first.chain(heads).collect::<Vec<_>>());
    for (at, arm) in comparison.arms.iter().enumerate() {
        let mut row = vec![escape(&arm.name)];
        if sized {
            row.push(arm.parameters.map_or_else(|| "—".to_owned(), |count| number(count as f64, 0)));
        }
        row.extend(columns.iter().map(|column| cell(column.cells[at].as_ref())));
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn head(name: &str, better: Better, of_own_images: bool) -> String {
    let mark = if of_own_images { words::OWN_MARK } else { "" };
    format!("{name}{}", [arrow(better), mark].map(sign_after).concat())
}

/// The first two rows of a table: its heads, and the alignment of names to the left, of figures to
/// the right.
fn head_rows(heads: &[String]) -> String {
    format!("| {} |\n|---{}|\n", heads.join(" | "), "|--:".repeat(heads.len() - 1))
}

fn cell(cell: Option<&Cell>) -> String {
    let Some(cell) = cell else { return "—".to_owned() };
    let bold = if cell.best { "**" } else { "" };
    let spread = cell.spread.as_ref().map(|spread| format!(" {}", spread.words()));
    format!("{bold}{}{bold}{}", escape(&cell.mean), spread.unwrap_or_default())
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
    for sentence in words::reading(columns) {
        text += &format!("\n{sentence}");
    }
    if columns.iter().any(|column| column.of_own_images) {
        text += &format!("\n{}", words::OWN_MEANING);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let same = same_in_details(comparison, columns);
    if !same.is_empty() {
        text += &format!("\n{}\n", escape(&same));
    }
    let absences = absences(comparison);
    text += &list("Absent", absences.iter().map(|absence| escape(&absence_words(absence))));
    text += &list("Left out", words::left_out(comparison).iter().map(|said| escape(&said.line())));
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
            "| arm | to the best | psnr_db ↑ | usage | n |\n|---|--:|--:|--:|--:|\n",
            "| a\\|\\<b\\> | best | **27.50** ± 0.71 | 0.5500 ± 0.0707 | 2 |\n| b | −1.50 | 26.00 | — | 1 |\n",
            "| arm | psnr_db ↑ | l1 ↓ |\n|---|--:|--:|\n",
            "| a\\|\\<b\\> | **27.50** ± 0.71 | **2.75** ± 0.35 |\n",
            "| b | 26.00 | 3.50 |\n",
            "| b | — |\n",
            "± is the standard deviation over n seeds",
            "## Absent\n\n- ms_ssim of a\\|\\<b\\>: images under 176 px\n",
            "## Failed runs\n\n- b, seed 0: loss is \\*NaN\\* at step 3\n",
            "- `usage`: share of codes that occur among all tokens evaluated",
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
            "| arm | rfid ↓ † |\n",
            "| b | 2.00 |\n",
            "\n† is over each evaluation's own images",
            "## Left out\n\n- b, seed 0: \\_c\\_.png: its reconstruction: broken PNG\n",
            "\nNotes:\n\n- b, seed 0: it is \\*green\\*\n",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert_eq!(text.matches("**30.00**").count(), 4, "in the main table and in the details: {text}");
    }

    #[test]
    fn what_is_the_same_for_all_has_no_column() {
        let figures = |db: f64, rate: f64| json!({"psnr_db": db, "images": 129, "bits_per_pixel": rate});
        let mut comparison = fixture::comparison(&[
            ("a", "s", &[figures(30.0, 0.5)]),
            ("b", "s", &[figures(31.0, 0.5)]),
            ("c", "s", &[figures(32.0, 0.75)]),
        ]);
        comparison.arms[2].parameters = Some(99);
        let text = markdown(&comparison);
        for part in [
            "| *0.500 bits per pixel* | | | |\n| b | best | 0.5000 | **31.00** |\n| a | −1.00 | 0.5000 | 30.00 |\n\
             | *0.750 bits per pixel* | | | |\n| c | — | 0.7500 | 32.00 |\n",
            "\nFor all arms: 1 seed.\n",
            "\nFor all arms: images 129.\n",
            "| arm | parameters | psnr_db ↑ |\n",
            "| c | 99 | 32.00 |\n",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(!text.contains("## What was evaluated"), "{text}");
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
