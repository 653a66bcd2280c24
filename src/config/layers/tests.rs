use std::path::PathBuf;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    #[serde(default)]
    seed: u64,
    name: Option<String>,
    data: Data,
    train: Train,
    quantizer: Quantizer,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    train: PathBuf,
    #[serde(default)]
    image_size: Vec<u32>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Train {
    steps: u64,
    #[serde(default)]
    batch_size: u8,
    #[serde(default)]
    lr: f64,
    betas: Option<[f64; 2]>,
    precision: Option<Precision>,
    #[serde(default)]
    verbose: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Precision {
    Fp32,
    Bf16,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Quantizer {
    Fsq(Fsq),
    Vq(Vq),
    LookupFree(LookupFree),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fsq {
    levels: Vec<u32>,
    #[serde(default)]
    width: u32,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vq {
    codebook_size: u32,
    codebook_dim: u32,
    #[serde(default)]
    width: u32,
    codebook_update: Update,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupFree {
    codebook_dim: u32,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Update {
    Gradient(Gradient),
    Ema(Ema),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gradient {}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ema {
    decay: f64,
}

const FSQ: &str = r#"
seed = 7
[data]
train = "photos"
[train]
steps = 600
[quantizer]
kind = "fsq"
levels = [8, 5]
width = 3
"#;

const VQ: &str = r#"
[data]
train = "photos"
[train]
steps = 600
[quantizer]
kind = "vq"
codebook_size = 1024
codebook_dim = 8
codebook_update = { kind = "ema", decay = 0.99 }
"#;

const ORIGIN: &str = "configs/x.toml";

fn read_with(text: &str, sets: &[&str]) -> Result<(Root, Vec<String>), ConfigError> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    read(text, ORIGIN, &sets)
}

fn error_of(text: &str, sets: &[&str]) -> String {
    read_with(text, sets).unwrap_err().to_string()
}

/// The error of [`FSQ`] or [`VQ`] with one piece of text replaced.
fn error_with(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old));
    error_of(&text.replace(old, new), &[])
}

#[test]
fn a_good_config_reads_without_notes() {
    let (config, notes) = read_with(FSQ, &[]).unwrap();
    assert_eq!(config.seed, 7);
    assert_eq!(config.quantizer, Quantizer::Fsq(Fsq { levels: vec![8, 5], width: 3 }));
    assert!(notes.is_empty());
    let (config, _) = read_with(VQ, &[]).unwrap();
    let Quantizer::Vq(vq) = config.quantizer else { panic!() };
    assert_eq!(vq.codebook_update, Update::Ema(Ema { decay: 0.99 }));
}

#[test]
fn overrides_are_typed_and_applied_in_order() {
    let sets = [
        "train.steps=5",
        "train.steps = 9",
        "train.lr=1e-3",
        "train.precision=bf16",
        "train.verbose=true",
        "data.image_size=[5, 7]",
        "data.train=/a b/c=d",
        "name=\"12\"",
        r#"quantizer={kind="vq", codebook_size=16, codebook_dim=4, codebook_update={kind="gradient"}}"#,
        "quantizer.codebook_size=32",
    ];
    let (config, notes) = read_with(FSQ, &sets).unwrap();
    assert_eq!((config.train.steps, config.train.lr, config.train.verbose), (9, 1e-3, true));
    assert_eq!(config.train.precision, Some(Precision::Bf16));
    assert_eq!(config.data.image_size, [5, 7]);
    assert_eq!(config.data.train, PathBuf::from("/a b/c=d"));
    assert_eq!(config.name.as_deref(), Some("12"));
    let Quantizer::Vq(vq) = config.quantizer else { panic!() };
    assert_eq!((vq.codebook_size, vq.codebook_update), (32, Update::Gradient(Gradient {})));
    assert!(notes.is_empty(), "a replaced table drops nothing silently: {notes:?}");
}

#[test]
fn overrides_that_cannot_be_applied() {
    for (set, expected) in [
        ("train.steps", "--set train.steps: there is no '='"),
        ("=3", "names joined by dots"),
        ("train..steps=3", "names joined by dots"),
        ("train.steps.x=3", "--set train.steps.x=3: train.steps is 600 and has no keys below it"),
    ] {
        let message = error_of(FSQ, &[set]);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn syntax_errors_name_the_line() {
    let message = error_of("seed = 1\n[train]\nsteps = = 3\n", &[]);
    assert!(message.starts_with("configs/x.toml:3:9: ") && message.ends_with("`steps = = 3`"), "{message}");
    let message = error_of("seed = 1\nseed = 2\n", &[]);
    assert!(message.starts_with("configs/x.toml:2:1: ") && message.contains("duplicate key"), "{message}");
    assert!(error_of("[train", &[]).starts_with("configs/x.toml:1:"));
}

#[test]
fn unknown_keys_name_the_nearest_and_the_allowed() {
    assert_eq!(
        error_with(FSQ, "steps = 600", "stepz = 600"),
        "configs/x.toml: unknown key \"train.stepz\"; did you mean \"steps\"? \
         allowed: batch_size, betas, lr, precision, steps, verbose"
    );
    assert_eq!(
        error_of(FSQ, &["train.colour=1"]),
        "--set train.colour=1: unknown key \"train.colour\"; allowed: batch_size, betas, lr, precision, steps, verbose"
    );
    let message = error_with(FSQ, "[train]", "[trian]");
    assert!(message.contains("unknown key \"trian\"; did you mean \"train\"?"), "{message}");
    // Inside tagged tables, where serde knows no path.
    let message = error_with(FSQ, "levels", "levelz");
    assert!(
        message.contains("\"quantizer.levelz\"; did you mean \"levels\"? allowed: kind, levels, width"),
        "{message}"
    );
    let message = error_with(VQ, "decay", "decoy");
    assert!(message.contains("\"quantizer.codebook_update.decoy\"; did you mean \"decay\"?"), "{message}");
    let message = error_with(VQ, "kind = \"ema\"", "kind = \"gradient\"");
    assert!(message.contains("unknown key \"quantizer.codebook_update.decay\"; allowed: kind"), "{message}");
}

#[test]
fn wrong_types_name_the_value_and_what_is_due() {
    for (old, new, expected) in [
        ("steps = 600", "steps = \"x\"", "train.steps is \"x\"; it must be a whole number, 0 or more"),
        ("steps = 600", "steps = -1", "train.steps is -1; it must be a whole number, 0 or more"),
        ("steps = 600", "steps = 1.5", "train.steps is 1.5; it must be a whole number, 0 or more"),
        (
            "steps = 600",
            "steps = 1\nbatch_size = 300",
            "train.batch_size is 300; it must be a whole number from 0 to 255",
        ),
        ("steps = 600", "steps = 1\nverbose = 1", "train.verbose is 1; it must be true or false"),
        ("steps = 600", "steps = 1\nlr = true", "train.lr is true; it must be a number"),
        ("steps = 600", "steps = 1\nprecision = 32", "train.precision is 32; it must be one of fp32, bf16"),
        ("train = \"photos\"", "train = 3", "data.train is 3; it must be a string in quotes"),
        (
            "train = \"photos\"",
            "train = \"p\"\nimage_size = [5, \"x\"]",
            "data.image_size[1] is string \"x\"; it must be a whole",
        ),
        ("train = \"photos\"", "train = \"p\"\nimage_size = 5", "data.image_size is 5; it must be a list"),
        ("levels = [8, 5]", "levels = 8", "quantizer.levels is 8; it must be a list"),
        ("steps = 600", "steps = 1\nbetas = [0.9]", "train.betas is [0.9]; it must be a list of two numbers"),
        (
            "steps = 600",
            "steps = 1\nbetas = [1, 2, 3]",
            "train.betas is [1, 2, 3]; it must be a list of two numbers",
        ),
        ("steps = 600", "steps = 1\nbetas = 0.9", "train.betas is 0.9; it must be a list of two numbers"),
        (
            "steps = 600",
            "steps = 1\nbetas = [1, \"x\"]",
            "train.betas[1] is string \"x\"; it must be a number",
        ),
        (
            "levels = [8, 5]",
            "levels = [8, \"5\"]",
            "quantizer.levels is [8, \"5\"]; it must be a list, each item a whole",
        ),
        ("width = 3", "width = [3]", "quantizer.width is [3]; it must be a whole number from 0"),
        ("kind = \"fsq\"", "kind = 3", "quantizer.kind is 3; it must be a string in quotes"),
    ] {
        let message = error_with(FSQ, old, new);
        assert!(message.starts_with(&format!("configs/x.toml: {expected}")), "{message}");
    }
    let message = error_with(VQ, "decay = 0.99", "decay = \"high\"");
    assert_eq!(message, "configs/x.toml: quantizer.codebook_update.decay is \"high\"; it must be a number");
    let message = error_with(VQ, "{ kind = \"ema\", decay = 0.99 }", "0.99");
    assert!(message.contains("quantizer.codebook_update is 0.99; it must be a table"), "{message}");
    let message = error_of(FSQ, &["quantizer=vq"]);
    let expected = "it must be a table that names its kind: { kind = \"...\" }";
    assert_eq!(message, format!("--set quantizer=vq: quantizer is \"vq\"; {expected}"));
    let message = error_of(FSQ, &["train=[1, 2]"]);
    assert_eq!(message, "--set train=[1, 2]: train is [1, 2]; it must be a table");
    // Two keys with the very same problem: either is right to name.
    let message = error_with(FSQ, "levels = [8, 5]\nwidth = 3", "levels = [8, \"a\"]\nwidth = \"a\"");
    assert!(message.contains("quantizer.levels") || message.contains("quantizer.width"), "{message}");
}

#[test]
fn unknown_choices_name_the_nearest() {
    assert_eq!(
        error_of(FSQ, &["train.precision=bf61"]),
        "--set train.precision=bf61: train.precision is \"bf61\"; did you mean \"bf16\"? allowed: fp32, bf16"
    );
    assert_eq!(
        error_with(FSQ, "\"fsq\"", "\"fqs\""),
        "configs/x.toml: quantizer.kind is \"fqs\"; did you mean \"fsq\"? allowed: fsq, vq, lookup-free"
    );
    assert_eq!(
        error_with(VQ, "\"ema\"", "\"emma\""),
        "configs/x.toml: quantizer.codebook_update.kind is \"emma\"; did you mean \"ema\"? allowed: gradient, ema"
    );
}

#[test]
fn missing_keys_say_what_they_could_be() {
    assert_eq!(error_with(FSQ, "steps = 600", ""), "configs/x.toml: train.steps is missing");
    assert_eq!(error_with(FSQ, "train = \"photos\"", ""), "configs/x.toml: data.train is missing");
    assert_eq!(error_of("", &[]), "configs/x.toml: data is missing");
    assert_eq!(error_with(FSQ, "levels = [8, 5]", ""), "configs/x.toml: quantizer.levels is missing");
    assert_eq!(
        error_with(FSQ, "kind = \"fsq\"", ""),
        "configs/x.toml: quantizer.kind is missing; it is one of: fsq, vq, lookup-free"
    );
    assert_eq!(
        error_with(VQ, "kind = \"ema\", ", ""),
        "configs/x.toml: quantizer.codebook_update.kind is missing; it is one of: gradient, ema"
    );
    assert_eq!(
        error_with(VQ, ", decay = 0.99", ""),
        "configs/x.toml: quantizer.codebook_update.decay is missing"
    );
    assert_eq!(error_with(VQ, "codebook_dim = 8", ""), "configs/x.toml: quantizer.codebook_dim is missing");
}

#[test]
fn a_change_of_kind_drops_what_the_new_kind_lacks_and_says_so() {
    let update = r#"quantizer.codebook_update={kind="gradient"}"#;
    let rest = ["quantizer.codebook_size=16", "quantizer.codebook_dim=4", update];
    let sets = [&["quantizer.kind=vq"], &rest[..]].concat();
    let (config, notes) = read_with(FSQ, &sets).unwrap();
    let Quantizer::Vq(vq) = config.quantizer else { panic!() };
    assert_eq!((vq.codebook_size, vq.width), (16, 3), "a key that both kinds have stays");
    assert_eq!(notes, ["quantizer.kind = \"vq\": dropped quantizer.levels, which this kind does not have"]);

    // Also where the rest of the config is completed only later.
    let text = FSQ.replace("train = \"photos\"", "");
    let (_, notes) = read_with(&text, &[&sets[..], &["data.train=x"]].concat()).unwrap();
    assert_eq!(notes.len(), 1);

    let (config, notes) = read_with(VQ, &["quantizer.kind=lookup-free"]).unwrap();
    assert_eq!(config.quantizer, Quantizer::LookupFree(LookupFree { codebook_dim: 8 }));
    assert_eq!(
        notes,
        ["quantizer.kind = \"lookup-free\": dropped quantizer.codebook_size, quantizer.codebook_update, \
          which this kind does not have"]
    );

    let (config, notes) = read_with(VQ, &["quantizer.codebook_update.kind=gradient"]).unwrap();
    let Quantizer::Vq(vq) = config.quantizer else { panic!() };
    assert_eq!(vq.codebook_update, Update::Gradient(Gradient {}));
    assert!(notes[0].contains("dropped quantizer.codebook_update.decay,"), "{notes:?}");
}

#[test]
fn a_change_of_kind_excuses_no_other_mistake() {
    let message = error_of(VQ, &["quantizer.kind=lookup-free", "quantizer.codebook_size=3"]);
    assert!(message.starts_with("--set quantizer.codebook_size=3: unknown key"), "set after: {message}");
    let message = error_of(VQ, &["quantizer.kind=lookup-free", "quantizer.codebook_dimm=3"]);
    assert!(message.contains("\"quantizer.codebook_dimm\"; did you mean \"codebook_dim\"?"), "{message}");
    let message = error_of(VQ, &["quantizer.kind=vq", "quantizer.levels=[3]"]);
    assert!(message.contains("unknown key \"quantizer.levels\""), "{message}");
    let message = error_of(FSQ, &["quantizer.kind=vq"]);
    assert_eq!(message, "configs/x.toml: quantizer.codebook_size is missing");
    let message = error_of(FSQ, &["quantizer.kind=lookup"]);
    assert!(message.starts_with("--set quantizer.kind=lookup: quantizer.kind is \"lookup\""), "{message}");
    let message = error_of(&VQ.replace("steps", "stepz"), &["quantizer.kind=lookup-free"]);
    assert!(message.contains("\"train.stepz\""), "{message}");
}
