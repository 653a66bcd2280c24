//! The kinds of quantizers and of networks, with what the tests expect of each: `tests/kinds/` has
//! a file for each kind, and every test that goes over all kinds reads them. So a new kind needs
//! one file there, and no list elsewhere. `scripts/test_python.py` reads the same files.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A kind of quantizer: `tests/kinds/quantizer/KIND.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizerKind {
    /// The name of the file, which is that in configs.
    #[serde(skip)]
    pub name: String,
    /// Settings small enough for tests, in all ways that compute differently.
    pub variants: Vec<Variant>,
    pub any_size: AnySize,
    /// For each key what a fuzzed config may have there: `integer`, `number`, `levels`, `parts`,
    /// `quantizer`, one of a list, or a table of such keys.
    pub fuzz: Map<String, Value>,
    /// Quantizers with many codes that take no more than 64 MiB for 4,096 vectors.
    #[serde(default)]
    pub memory: Vec<Large>,
    /// Trainings with a stored loss curve.
    pub golden: Vec<Golden>,
    /// Comparisons with stored numbers of an independent source.
    #[serde(default)]
    pub reference: Vec<Reference>,
    /// Trainings whose tokenizers Python reads.
    pub python: Vec<Python>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub name: String,
    pub quantizer: Value,
    /// The losses in order: the name of each, then what its gradient moves, `latent` or `codes`.
    #[serde(default)]
    pub losses: Vec<Vec<String>>,
    /// Whether the latent of a code is quantized to that code. FSQ bounds a latent before it rounds
    /// (its own tests use the inverse of the bound), IBQ takes the largest product, and stages
    /// quantize residues.
    #[serde(default)]
    pub own_nearest: bool,
    /// Name, role, and `trained` or `fixed` of each variable; absent: not checked.
    pub variables: Option<Vec<[String; 3]>>,
}

/// A config for any number of codes: `LEVELS`, `SIZE`, `DIM`, `PARTS` and `BOUND` are replaced.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnySize {
    quantizer: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Large {
    pub quantizer: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The curve is in `tests/golden/NAME.json`.
    pub name: String,
    /// Settings, each as `key=value`.
    pub set: Vec<String>,
    /// A loss weight changed by one percent, which the curve must show.
    pub changed: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The file in `tests/reference/`, and the case in it.
    pub numbers: String,
    /// Whose numbers they are.
    pub source: String,
    pub quantizer: Value,
    /// Of the losses, by name.
    pub weights: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    pub name: String,
    /// The config in `configs/` that it starts from.
    pub config: String,
    /// Settings, each as `key=value`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Of how many tokens, or stages of a residual quantizer, its prefixes are read too.
    pub prefix: Option<u32>,
}

/// A kind of network: `tests/kinds/network/KIND.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Height and width of the images that a trace is made from.
    pub example: [u32; 2],
    /// Those of other images that the trace must take.
    pub others: Vec<[u32; 2]>,
    /// Settings small enough for tests, in all ways that compute differently.
    pub variants: Vec<NetworkVariant>,
    /// Trainings whose tokenizers Python reads.
    pub python: Vec<Python>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkVariant {
    pub name: String,
    pub model: Value,
    /// Sizes of images that the trace of the encoder takes, but not that of the decoder.
    #[serde(default)]
    pub encoder_others: Vec<[u32; 2]>,
}

/// The values that stand for the placeholders of an [`AnySize`].
pub struct Sizes<'a> {
    pub levels: &'a [i64],
    pub size: i64,
    pub dim: i64,
    pub parts: i64,
    pub bound: &'a str,
}

impl AnySize {
    /// The config of these sizes.
    pub fn of(&self, sizes: &Sizes) -> Value {
        filled(&self.quantizer, sizes)
    }
}

fn filled(value: &Value, sizes: &Sizes) -> Value {
    match value {
        Value::Object(keys) => {
            let filled = keys.iter().map(|(key, value)| (key.clone(), filled(value, sizes)));
            Value::Object(filled.collect())
        }
        Value::String(name) => match name.as_str() {
            "LEVELS" => sizes.levels.into(),
            "SIZE" => sizes.size.into(),
            "DIM" => sizes.dim.into(),
            "PARTS" => sizes.parts.into(),
            "BOUND" => sizes.bound.into(),
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

/// The files of a folder of `tests/kinds/` with their names, in the order of these.
fn files<T: DeserializeOwned>(folder: &str) -> Vec<(String, T)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kinds").join(folder);
    let mut found: Vec<(String, T)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let read = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), read)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Every kind of quantizer.
pub fn quantizers() -> Vec<QuantizerKind> {
    files::<QuantizerKind>("quantizer")
        .into_iter()
        .map(|(name, kind)| QuantizerKind { name, ..kind })
        .collect()
}

/// Every kind of network.
pub fn networks() -> Vec<Network> {
    files("network").into_iter().map(|(_, network)| network).collect()
}

/// The variants of every kind.
pub fn variants() -> Vec<Variant> {
    quantizers().into_iter().flat_map(|kind| kind.variants).collect()
}

/// Name and config of each of them.
pub fn kinds() -> Vec<(String, Value)> {
    variants().into_iter().map(|variant| (variant.name, variant.quantizer)).collect()
}
