//! `pixtok configs`: lists the configs that come with pixtok, or prints one.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::print;
use crate::cli::ConfigsArgs;
use crate::config::shipped::{self, Shipped, ShippedKind};

/// The width of the list.
const COLUMNS: usize = 120;

/// Prints the list, or the file of a config.
pub(super) fn run(args: &ConfigsArgs) -> Result<()> {
    match &args.name {
        Some(name) => print(&text_of(name)?),
        None => print(&listed()?),
    }
}

/// The text of a shipped config of either kind.
fn text_of(name: &str) -> Result<String> {
    let path = shipped::named(name)?.path;
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn listed() -> Result<String> {
    let (runs, comparisons) = (shipped::list(ShippedKind::Run)?, shipped::list(ShippedKind::Comparison)?);
    let width = runs.iter().chain(&comparisons).map(|shipped| shipped.name.len()).max().unwrap_or(0);
    let folder = runs.first().and_then(|shipped| shipped.path.parent()).unwrap_or(Path::new(""));
    let mut text = String::new();
    for (heading, list) in [("pixtok train NAME", &runs), ("pixtok compare NAME", &comparisons)] {
        let _ = writeln!(text, "{heading}");
        for Shipped { name, about, .. } in list {
            let about = cut(about, COLUMNS.saturating_sub(width + 4));
            let _ = writeln!(text, "  {name:<width$}  {about}");
        }
        text += "\n";
    }
    let _ = writeln!(text, "They are in {}; pixtok configs NAME prints one.", folder.display());
    Ok(text)
}

/// The text, if need be only up to a colon, or cut between two words to `columns`.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    if let Some((clause, _)) = text.split_once(": ").filter(|(clause, _)| clause.chars().count() <= columns) {
        return clause.to_owned();
    }
    let start: String = text.chars().take(columns.saturating_sub(2)).collect();
    let words = start.rsplit_once(' ').map_or(&*start, |(words, _)| words);
    format!("{} …", words.trim_end_matches([',', ':', ';']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_config_in_a_line() {
        let text = listed().unwrap();
        for name in ["quickstart-fsq", "imagenet256-f16-vq-llamagen", "yardstick"] {
            assert!(text.lines().any(|line| line.starts_with(&format!("  {name} "))), "{text}");
        }
        // The last line has a path.
        let lines: Vec<&str> = text.trim_end().lines().collect();
        for line in &lines[..lines.len() - 1] {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
    }

    #[test]
    fn one_config_is_printed_as_it_is() {
        assert!(text_of("quickstart-fsq").unwrap().contains("[quantizer]"));
        assert!(text_of("yardstick.toml").unwrap().contains("[[arms]]"));
        assert!(text_of("quickstart").is_ok_and(|text| text.contains("base = ")));
        let misspelt = text_of("yardstik").unwrap_err().to_string();
        assert!(misspelt.contains("did you mean \"yardstick\"?"), "{misspelt}");
    }

    #[test]
    fn long_sentences_end_between_words() {
        assert_eq!(cut("one two, three", 14), "one two, three");
        assert_eq!(cut("one two, three", 13), "one two …");
        assert_eq!(cut("unbroken", 5), "unb …");
        assert_eq!(cut("one two: three", 13), "one two");
        assert_eq!(cut("one two: three", 6), "one …");
    }
}
