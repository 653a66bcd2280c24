//! Checks the pages: links lead to files, functions that a page names in a file exist, and lines
//! are short.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest line of a page, except for tables, code and link definitions.
const COLUMNS: usize = 120;
/// The largest number of lines of the front page.
const README_LINES: usize = 150;

/// Every page, relative to the repository, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from).into();
    pages.extend(["data", "checkpoints", "python"].map(|folder| Path::new(folder).join("README.md")));
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        pages.push(Path::new("docs").join(entry.unwrap().file_name()));
    }
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        pages.push(Path::new("crates").join(entry.unwrap().file_name()).join("README.md"));
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages.into_iter().map(|page| (page.clone(), fs::read_to_string(root.join(&page)).unwrap())).collect()
}

/// The page without its code blocks, whose lines become empty.
fn prose(text: &str) -> String {
    let mut code = false;
    let kept = text.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        let shown = !code && !fence;
        code ^= fence;
        if shown { line } else { "" }
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// The path of a link's target, relative to `page`.
fn file(page: &Path, target: &str) -> PathBuf {
    let target = target.split('#').next().unwrap();
    Path::new(env!("CARGO_MANIFEST_DIR")).join(page.parent().unwrap()).join(target)
}

/// The targets that are defined on separate lines, by name: `[name]: target`.
fn definitions(prose: &str) -> HashMap<&str, &str> {
    prose.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect()
}

/// The targets of all links in files.
fn targets(prose: &str) -> Vec<&str> {
    let inline = prose.match_indices("](").map(|(at, _)| prose[at + 2..].split(')').next().unwrap());
    let all = inline.chain(definitions(prose).into_values());
    all.filter(|target| !target.starts_with("http") && !target.starts_with('#')).collect()
}

/// The names in backticks right after each link to a Rust file, with the link's target.
fn named(prose: &str) -> Vec<(&str, Vec<&str>)> {
    let definitions = definitions(prose);
    let mut found = vec![];
    for (at, _) in prose.match_indices(".rs]") {
        let label = &prose[prose[..at].rfind('[').unwrap() + 1..at + 3];
        let mut rest = &prose[at + 4..];
        let target = match rest.strip_prefix('(') {
            Some(inside) => {
                let (target, after) = inside.split_once(')').unwrap();
                rest = after;
                target
            }
            // The definition itself.
            None if rest.starts_with(": ../") => continue,
            None => definitions[label],
        };
        let mut names = vec![];
        rest = rest.trim_start_matches([':', ' ', '\n']);
        while let Some((name, after)) = rest.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
            names.push(name);
            rest = after.trim_start_matches([',', ' ', '\n']);
        }
        found.push((target, names));
    }
    found
}

/// Whether `source` defines the last part of `name`, for instance `next` of `TrainPass::next`.
fn defines(source: &str, name: &str) -> bool {
    let last = name.rsplit("::").next().unwrap();
    ["fn", "struct", "enum", "trait", "const"].iter().any(|kind| {
        source.match_indices(&format!("{kind} {last}")).any(|(at, found)| {
            !source[at + found.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
        })
    })
}

#[test]
fn links_lead_to_files() {
    let mut checked = 0;
    for (page, text) in pages() {
        for target in targets(&prose(&text)) {
            assert!(file(&page, target).exists(), "{} links to {target}, which is not there", page.display());
            checked += 1;
        }
    }
    assert!(checked > 200, "only {checked} links were found: the test reads them wrongly");
}

#[test]
fn the_architecture_page_names_what_is_there() {
    let (page, text) = pages().into_iter().find(|(page, _)| page.ends_with("architecture.md")).unwrap();
    let mut checked = 0;
    for (target, names) in named(&prose(&text)) {
        let source = fs::read_to_string(file(&page, target)).unwrap();
        for name in names {
            assert!(defines(&source, name), "{} names {name} in {target}, which lacks it", page.display());
            checked += 1;
        }
    }
    assert!(checked > 150, "only {checked} names were found: the test reads them wrongly");
}

#[test]
fn lines_are_short_and_the_front_page_too() {
    // Branches add to the changelog at the same time, so it is never rewrapped.
    for (page, text) in pages().into_iter().filter(|(page, _)| page != Path::new("CHANGELOG.md")) {
        for (number, line) in (1..).zip(prose(&text).lines()) {
            let free = line.starts_with('|') || (line.starts_with('[') && line.contains("]: "));
            let columns = line.chars().count();
            assert!(free || columns <= COLUMNS, "{}:{number} has {columns} columns", page.display());
        }
        if page == Path::new("README.md") {
            let lines = text.lines().count();
            assert!(lines <= README_LINES, "README.md has {lines} lines");
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= COLUMNS, "README.md has a line of {longest} columns");
        }
    }
}
