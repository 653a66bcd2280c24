//! The main table for a paper.

use std::fmt::Write as _;

use super::Comparison;
use super::columns::{Cell, Spread, columns};
use super::main_table::{MainColumn, MainTable};
use super::ranking::Ranking;
use crate::definition::Better;

/// What precedes the table: how it is used.
const HEAD: &str = "% Made by pixtok compare. A table that is too wide for its page is made smaller:\n\
    %   \\documentclass{article}\n\
    %   \\usepackage{booktabs,graphicx}\n\
    %   \\begin{document}\n\
    %   \\input{results}\n\
    %   \\end{document}\n";

/// Renders the main table as a `table` of LaTeX with the rules of booktabs, to be read by `\input`.
#[must_use]
pub fn latex(comparison: &Comparison) -> String {
    let (columns, ranking) = (columns(comparison), Ranking::of(comparison));
    let table = MainTable::of(comparison, &columns, &ranking);
    let mut text = HEAD.to_owned();
    text += "\\begin{table}\n\\centering\n\\small\n";
    text += "\\setlength{\\tabcolsep}{4pt}\n\\setlength{\\belowcaptionskip}{4pt}\n";
    let _ = writeln!(text, "\\caption{{{}}}", caption(comparison, &table));
    text += "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n";
    let _ = writeln!(text, "\\begin{{tabular}}{{l{}}}", "r".repeat(table.columns.len()));
    let heads = std::iter::once("arm".to_owned()).chain(table.columns.iter().map(head));
    let _ = writeln!(text, "\\toprule\n{} \\\\", heads.collect::<Vec<_>>().join(" & "));
    for block in &table.blocks {
        text += "\\midrule\n";
        if !block.title.is_empty() {
            let width = table.columns.len() + 1;
            let _ =
                writeln!(text, "\\multicolumn{{{width}}}{{l}}{{\\emph{{{}}}}} \\\\", escape(&block.title));
        }
        for &arm in &block.arms {
            let cells = table.columns.iter().map(|column| cell(column.cells[arm].as_ref()));
            let row = std::iter::once(escape(&comparison.arms[arm].name)).chain(cells);
            let _ = writeln!(text, "{} \\\\", row.collect::<Vec<_>>().join(" & "));
        }
    }
    text + "\\bottomrule\n\\end{tabular}}\n\\end{table}\n"
}

fn caption(comparison: &Comparison, table: &MainTable) -> String {
    let mut words = format!("{}.", escape(&comparison.name));
    let cells = || table.columns.iter().flat_map(|column| column.cells.iter().flatten());
    if cells().any(|cell| matches!(cell.spread, Some(Spread::Deviation(_)))) {
        words += " Means over $n$ seeds $\\pm$ their standard deviation.";
    }
    if cells().any(|cell| cell.best) {
        words += " Bold: the best, and those level with it.";
    }
    if !table.note.is_empty() {
        let _ = write!(words, " {}", escape(&table.note));
    }
    if table.columns.iter().any(|column| column.of_own_images) {
        words += " \\dag: over each evaluation's own images, which differ.";
    }
    if !table.same.is_empty() {
        let _ = write!(words, " The same for all: {}.", escape(&table.same));
    }
    words
}

fn head(column: &MainColumn) -> String {
    let name = match column.name {
        "K" | "n" => format!("${}$", column.name),
        "bits_per_pixel" => "bits/pixel".to_owned(),
        "psnr_db" => "PSNR (dB)".to_owned(),
        "ssim" => "SSIM".to_owned(),
        "lpips_alex" => "LPIPS (AlexNet)".to_owned(),
        "lpips_vgg" => "LPIPS (VGG)".to_owned(),
        "rfid" => "rFID".to_owned(),
        name => escape(&name.replace('_', " ")),
    };
    let arrow = match column.better {
        Better::Higher => " $\\uparrow$",
        Better::Lower => " $\\downarrow$",
        Better::Neither => "",
    };
    format!("{name}{arrow}{}", if column.of_own_images { " \\dag" } else { "" })
}

fn cell(cell: Option<&Cell>) -> String {
    let Some(cell) = cell else { return "--".to_owned() };
    let mean = escape(&cell.mean);
    let mean = if cell.best { format!("\\textbf{{{mean}}}") } else { mean };
    let spread = cell.spread.as_ref().map(|spread| format!(" {}", escape(&spread.words())));
    mean + &spread.unwrap_or_default()
}

/// Escapes `text` so that LaTeX prints it unchanged, on one line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped += "\\textbackslash{}",
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '<' => escaped += "\\textless{}",
            '>' => escaped += "\\textgreater{}",
            '|' => escaped += "\\textbar{}",
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            // In braces, so that no row begins with an optional argument of the line end before it.
            '[' | ']' | '*' => escaped.extend(['{', c, '}']),
            '−' => escaped += "$-$",
            '±' => escaped += "$\\pm$",
            '×' => escaped += "$\\times$",
            '√' => escaped += "$\\surd$",
            '–' => escaped += "--",
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_stand_between_the_rules_of_booktabs() {
        let figures =
            |db: f64, rate: f64| json!({"psnr_db": db, "bits_per_pixel": rate, "codebook_size": 1024});
        let mut comparison = fixture::comparison(&[
            ("fsq_8", "s", &[figures(27.0, 0.625), figures(28.0, 0.625)]),
            ("vq", "s", &[figures(26.0, 0.625), figures(26.5, 0.625)]),
            ("50% & more", "t", &[json!({"psnr_db": 30.0})]),
        ]);
        comparison.arms[2].runs[0].seed = None;
        comparison.name = "fsq-vs-vq".into();
        let text = latex(&comparison);
        let table = text.split_once("\\begin{tabular}").unwrap().1;
        assert_eq!(
            table,
            "{lrrrrr}\n\\toprule\n\
             arm & to the best & $K$ & bits/pixel & PSNR (dB) $\\uparrow$ & $n$ \\\\\n\
             \\midrule\n\
             \\multicolumn{6}{l}{\\emph{0.625 bits per pixel}} \\\\\n\
             fsq\\_8 & best & 1,024 & 0.6250 & \\textbf{27.50} $\\pm$ 0.71 & 2 \\\\\n\
             vq & $-$1.25 & 1,024 & 0.6250 & 26.25 $\\pm$ 0.35 & 2 \\\\\n\
             \\midrule\n\
             \\multicolumn{6}{l}{\\emph{not trained here, not ranked}} \\\\\n\
             50\\% \\& more & -- & -- & unknown & 30.00 & 1 \\\\\n\
             \\bottomrule\n\\end{tabular}}\n\\end{table}\n"
        );
        let before = text.split_once("\\begin{tabular}").unwrap().0;
        assert!(before.contains("\\caption{fsq-vs-vq. Means over $n$ seeds $\\pm$"), "{before}");
        assert!(before.contains("\\usepackage{booktabs,graphicx}"), "{before}");
    }

    #[test]
    fn names_mean_nothing_to_latex() {
        let cases = [
            ("a_b", "a\\_b"),
            ("50%", "50\\%"),
            ("\\input{x}", "\\textbackslash{}input\\{x\\}"),
            ("~^", "\\textasciitilde{}\\textasciicircum{}"),
            ("[1]", "{[}1{]}"),
            ("−0.5 ± 1", "$-$0.5 $\\pm$ 1"),
            ("a\nb", "a b"),
        ];
        for (text, escaped) in cases {
            assert_eq!(escape(text), escaped);
        }
    }
}
