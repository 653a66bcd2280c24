//! Checks the dependencies: a module imports only from modules above it in `src/lib.rs`, and each
//! external library is named only where it belongs. The crates' manifests do the same for the
//! crates.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Rust files below `folder`, with their text. Names in `src` leave out the folder.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending: Vec<PathBuf> = vec![root.join(folder)];
    let mut found = vec![];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let name = name.strip_prefix("src/").unwrap_or(name).to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// The module that a file belongs to: its first folder, or its own name.
fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn order() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    modules.map(str::to_owned).collect()
}

/// The modules of this crate that a source names after `crate::`, including those in braces.
fn imported(text: &str) -> Vec<String> {
    let mut names = vec![];
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(inside) => top_level_items(inside),
            None => vec![rest],
        };
        names.extend(list.into_iter().map(|item| {
            let item = item.trim_start();
            item.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap().to_owned()
        }));
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The items between the commas of a braced list that starts before `inside`; nested lists stay
/// whole.
fn top_level_items(inside: &str) -> Vec<&str> {
    let (mut items, mut start, mut depth) = (vec![], 0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                items.push(&inside[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items
}

#[test]
fn nested_lists_are_read() {
    let names = imported("use crate::{a::{B, C}, d};\nuse crate::e::F;");
    assert_eq!(names, ["a", "d", "e"]);
}

#[test]
fn imports_go_up_the_list_alone() {
    let order = order();
    let place = |module: &str| order.iter().position(|found| found == module);
    let mut checked = 0;
    for (file, text) in sources("src") {
        // Those of several modules together, which import all of them.
        if module_of(&file) == "tests" {
            continue;
        }
        let Some(own) = place(module_of(&file)) else {
            assert!(
                matches!(file.as_str(), "lib.rs" | "main.rs"),
                "{file} belongs to no module of src/lib.rs"
            );
            continue;
        };
        for name in imported(&text) {
            let Some(other) = place(&name) else { continue };
            assert!(other <= own, "{file} imports {name}, which is below it in src/lib.rs");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} imports were found: the test reads them wrongly");
}

#[test]
fn each_library_is_named_where_it_belongs() {
    let homes: [(&str, &[&str]); 4] = [
        ("tensorboard_rs", &["logger"]),
        ("clap::", &["cli", "main"]),
        ("parquet::", &["evaluate"]),
        ("csv::", &["evaluate"]),
    ];
    for (file, text) in sources("src") {
        for (library, modules) in homes {
            let named = text
                .match_indices(library)
                .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
            assert!(!named || modules.contains(&module_of(&file)), "{file} names {library}");
        }
    }
}

#[test]
fn unsafe_code_has_three_homes() {
    let homes = ["crates/torch/", "crates/pixels/", "crates/images/src/data/cache.rs"];
    for (file, text) in sources("src").into_iter().chain(sources("crates")) {
        let unsafe_code = text.lines().any(|line| {
            let code = line.trim_start();
            !code.starts_with("//") && code.contains("unsafe ")
        });
        assert!(!unsafe_code || homes.iter().any(|home| file.starts_with(home)), "{file} has unsafe code");
    }
}

/// `scripts/run_test.sh` decides by the name of a test file how many of its tests run at a time.
#[test]
fn tests_that_start_the_program_have_its_name() {
    let binary = concat!("CARGO_BIN_", "EXE");
    let seeds = concat!("pixtok_torch::", "reseed");
    let mut programs = 0;
    for (file, text) in sources("tests") {
        let name = file.strip_prefix("tests/").unwrap();
        if name.contains('/') {
            continue;
        }
        let starts = text.contains(binary) || text.lines().any(|line| line == "mod common;");
        assert_eq!(
            starts,
            name.starts_with("program_"),
            "{file}: tests that start pixtok, and no others, are called tests/program_*.rs"
        );
        let locks = text.contains("generator()");
        assert!(!starts || !text.contains(seeds) || locks, "{file} seeds without common::generator");
        programs += usize::from(starts);
    }
    assert!(programs > 10, "only {programs} test files start pixtok: the test reads them wrongly");
}

#[test]
fn only_tests_of_the_program_run_two_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/run_test.sh");
    for (name, threads) in [("program_cli-0123", "2"), ("quantizers-0123", "1")] {
        let test = folder.path().join(name);
        symlink("/bin/sh", &test).unwrap();
        let mut command = Command::new(&script);
        command.arg(test).args(["-c", "echo $RUST_TEST_THREADS $0", "argument"]);
        let output = command.env("RUST_TEST_THREADS", "1").output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{threads} argument\n"), "{name}");
    }
}

/// Crates that need no libtorch build without it, because other programs use them.
#[test]
fn only_the_torch_crate_and_the_program_name_tch() {
    for (file, text) in sources("crates") {
        let named = file.starts_with("crates/torch/") || !text.contains("tch::");
        assert!(named, "{file} names tch");
    }
}

/// The exit code is the class of an error, so each error states its class, and `exit_code` asks for
/// it.
#[test]
fn each_error_knows_its_class() {
    let all: Vec<_> = sources("src").into_iter().chain(sources("crates")).collect();
    let (_, asks) = all.iter().find(|(file, _)| file == "commands/exit_code.rs").unwrap();
    let mut checked = 0;
    for (file, text) in &all {
        for (at, _) in text.match_indices("Error)]\n") {
            let derive = text[..at].rsplit('\n').next().unwrap();
            if !derive.starts_with("#[derive(") {
                continue;
            }
            let item = text[at..].lines().find_map(|line| line.strip_prefix("pub ")).unwrap();
            let name = item.split(|c: char| !c.is_alphanumeric() && c != ' ').next().unwrap();
            let name = name.split(' ').nth(1).unwrap();
            assert!(text.contains(&format!("impl Classified for {name} ")), "{file}: {name} has no class");
            // The callers distinguish what a codec does.
            let asked = asks.contains(&format!("of::<{name}>")) || asks.contains(&format!("::{name}>"));
            assert!(asked || name == "CodecError", "exit_code does not ask {name} of {file} for its class");
            checked += 1;
        }
    }
    assert!(checked > 25, "only {checked} errors were found: the test reads them wrongly");
}
