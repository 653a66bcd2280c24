use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tch::{Tensor, nn};

use super::*;
use crate::layers::norm_groups;
use crate::model;
use crate::optim::Decayed;
use crate::variables::{Role, Variable};

/// Two stages with attention in the middle, and projections around a VQ that learns by gradient.
const SMALL: &str = "
    [data]
    image_size = [20, 28]
    [model]
    channels = 8
    multipliers = [1, 2]
    mid_attention = true
    latent_channels = 6
    [quantizer]
    kind = \"vq\"
    codebook_size = 16
    codebook_dim = 4
    codebook_update = { kind = \"gradient\" }
";

fn config(text: &str) -> Config {
    toml::from_str::<Config>(text).unwrap().resolved()
}

fn build(config: &Config) -> Networks {
    Networks::build(config, Device::Cpu).unwrap()
}

/// By name: the role, whether pixels are input or output of the layer, and whether it is trained.
type Table = BTreeMap<String, (Role, bool, bool)>;

fn table(variables: Vec<Variable>) -> Table {
    let row = |found: Variable| (found.name, (found.role, found.touches_pixels, found.trained));
    variables.into_iter().map(row).collect()
}

/// The table of layers with `weight` and `bias`.
fn layers(layers: &[(&str, Role, bool)]) -> Table {
    let rows = layers.iter().flat_map(|&(layer, role, pixels)| {
        let of_bias = if role == Role::Norm { Role::Norm } else { Role::Bias };
        [
            (format!("{layer}.weight"), (role, pixels, true)),
            (format!("{layer}.bias"), (of_bias, pixels, true)),
        ]
    });
    rows.collect()
}

#[test]
fn every_variable_of_a_tokenizer_has_its_role() {
    let conv = |name| (name, Role::Conv, false);
    let norm = |name| (name, Role::Norm, false);
    let mut expected = layers(&[
        ("encoder.stem", Role::Conv, true),
        norm("encoder.stage0.res0.norm1"),
        conv("encoder.stage0.res0.conv1"),
        norm("encoder.stage0.res0.norm2"),
        conv("encoder.stage0.res0.conv2"),
        conv("encoder.stage0.down"),
        norm("encoder.stage1.res0.norm1"),
        conv("encoder.stage1.res0.conv1"),
        norm("encoder.stage1.res0.norm2"),
        conv("encoder.stage1.res0.conv2"),
        conv("encoder.stage1.res0.shortcut"),
        norm("encoder.middle.res0.norm1"),
        conv("encoder.middle.res0.conv1"),
        norm("encoder.middle.res0.norm2"),
        conv("encoder.middle.res0.conv2"),
        norm("encoder.middle.attention.norm"),
        conv("encoder.middle.attention.qkv"),
        conv("encoder.middle.attention.out"),
        norm("encoder.middle.res1.norm1"),
        conv("encoder.middle.res1.conv1"),
        norm("encoder.middle.res1.norm2"),
        conv("encoder.middle.res1.conv2"),
        norm("encoder.norm"),
        conv("encoder.head"),
        conv("quantizer.project_in"),
        conv("quantizer.project_out"),
        conv("decoder.stem"),
        norm("decoder.middle.res0.norm1"),
        conv("decoder.middle.res0.conv1"),
        norm("decoder.middle.res0.norm2"),
        conv("decoder.middle.res0.conv2"),
        norm("decoder.middle.attention.norm"),
        conv("decoder.middle.attention.qkv"),
        conv("decoder.middle.attention.out"),
        norm("decoder.middle.res1.norm1"),
        conv("decoder.middle.res1.conv1"),
        norm("decoder.middle.res1.norm2"),
        conv("decoder.middle.res1.conv2"),
        norm("decoder.stage1.res0.norm1"),
        conv("decoder.stage1.res0.conv1"),
        norm("decoder.stage1.res0.norm2"),
        conv("decoder.stage1.res0.conv2"),
        conv("decoder.stage1.up"),
        norm("decoder.stage0.res0.norm1"),
        conv("decoder.stage0.res0.conv1"),
        norm("decoder.stage0.res0.norm2"),
        conv("decoder.stage0.res0.conv2"),
        conv("decoder.stage0.res0.shortcut"),
        norm("decoder.norm"),
        ("decoder.head", Role::Conv, true),
    ]);
    expected.extend([
        ("quantizer.codebook".to_owned(), (Role::Codebook, false, true)),
        ("quantizer.counts".to_owned(), (Role::Buffer, false, false)),
        ("quantizer.started".to_owned(), (Role::Buffer, false, false)),
    ]);
    assert_eq!(table(build(&config(SMALL)).store.entries()), expected);
}

#[test]
fn every_variable_of_a_discriminator_has_its_role() {
    let build = |discriminator: &str| {
        let text = format!(
            "{SMALL}[adversarial]\nlecam = {{ weight = 1.0 }}\ndiscriminator = {{ {discriminator} }}\n"
        );
        let (store, _) = build(&config(&text)).adversary.unwrap();
        assert!(store.entries().iter().all(|found| found.component == Component::Discriminator));
        let mut table = table(store.entries());
        for average in ["lecam.real", "lecam.fake"] {
            assert_eq!(table.remove(average), Some((Role::Buffer, false, false)));
        }
        table
    };
    let patch = |norm: &str| build(&format!("kind = \"patch\", channels = 4, layers = 1, norm = \"{norm}\""));
    let first = ("discriminator.layer0.conv", Role::Conv, true);
    let second = ("discriminator.layer1.conv", Role::Conv, false);
    let last = ("discriminator.last", Role::Conv, false);
    let norm = ("discriminator.layer1.norm", Role::Norm, false);
    assert_eq!(patch("group"), layers(&[first, second, norm, last]));
    let mut unbiased = layers(&[first, second, norm, last]);
    unbiased.remove("discriminator.layer1.conv.bias");
    assert_eq!(patch("batch"), unbiased);
    let mut actnorm = layers(&[first, second, last]);
    for name in ["location", "scale"] {
        actnorm.insert(format!("discriminator.layer1.norm.{name}"), (Role::Norm, false, true));
    }
    assert_eq!(patch("actnorm"), actnorm);

    let mut expected = layers(&[
        ("discriminator.stem", Role::Conv, true),
        ("discriminator.last", Role::Conv, false),
        ("discriminator.hidden", Role::Matrix, false),
        ("discriminator.out", Role::Matrix, false),
    ]);
    for block in 0..2 {
        let parts = ["conv", "down", "shortcut"].map(|part| format!("discriminator.block{block}.{part}"));
        expected.extend(layers(&parts.each_ref().map(|part| (part.as_str(), Role::Conv, false))));
    }
    assert_eq!(build("kind = \"stylegan\", channels = 4"), expected);
}

/// Whether earlier versions decayed a variable, which they decided by name and axes. Resumed runs
/// of these versions must keep their choice.
fn decayed_before(variable: &Variable) -> bool {
    variable.name.ends_with(".weight") && variable.tensor.dim() > 1
}

/// Whether earlier versions gave a variable to Muon.
fn hidden_before(variable: &Variable) -> bool {
    let of_pixels = ["encoder.stem.weight", "decoder.head.weight"].contains(&variable.name.as_str());
    variable.tensor.dim() == 4 && !of_pixels && !variable.name.starts_with("quantizer.")
}

#[test]
fn optimizers_of_every_config_take_what_earlier_versions_took() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let (mut config, _) = Config::read(&path, &[]).unwrap();
        // Earlier versions had no other network.
        if !matches!(config.model, model::Config::Cnn(_)) {
            continue;
        }
        // The widths don't affect the choice.
        let mut model = serde_json::to_value(&config.model).unwrap();
        if let Some(channels) = model["channels"].as_i64() {
            model["channels"] = channels.min(32).into();
        }
        config.model = serde_json::from_value(model).unwrap();
        config.check().unwrap();
        let networks = build(&config);
        let decayed = config.optimizer.decayed;
        for variable in networks.store.entries() {
            let name = &variable.name;
            assert_eq!(Component::of_saved(name), Some(variable.component), "{name}");
            if variable.trained {
                let before = decayed == Decayed::All || decayed_before(&variable);
                assert_eq!(decayed.takes(&variable), before, "{}: {name}", path.display());
                assert_eq!(Decayed::Weights.takes(&variable), decayed_before(&variable), "{name}");
                assert_eq!(is_hidden(&variable), hidden_before(&variable), "{}: {name}", path.display());
                checked += 1;
            }
        }
        for variable in networks.adversary.iter().flat_map(|(store, _)| store.entries()) {
            let before = decayed_before(&variable);
            assert_eq!(Decayed::Weights.takes(&variable), before, "{}", variable.name);
        }
    }
    assert!(checked > 500, "{checked}");
}

#[test]
fn frozen_components_are_counted_as_fixed() {
    let networks = build(&config(SMALL));
    let all = networks.parameters(&Component::TOKENIZER);
    let [encoder, quantizer, decoder] =
        Component::TOKENIZER.map(|component| networks.parameters(&[component]));
    assert_eq!(all, encoder + quantizer + decoder);
    // The codebook, and projections of 6 to 4 channels and back with their biases.
    assert_eq!(quantizer, 16 * 4 + (6 * 4 + 4) + (4 * 6 + 6));
    // The counts and a flag.
    let buffers = 16 + 1;
    let numbers = |freeze: &str| {
        let config = config(&format!("{SMALL}[train]\nfreeze = [{freeze}]\n"));
        let numbers = build(&config).numbers(&config);
        (numbers.trained, numbers.fixed)
    };
    assert_eq!(numbers(""), (all, buffers));
    assert_eq!(numbers("\"encoder\""), (quantizer + decoder, encoder + buffers));
    assert_eq!(numbers("\"encoder\", \"quantizer\""), (decoder, encoder + quantizer + buffers));
}

/// Builds layers as tch does, in the order of calls.
struct Reference(nn::VarStore);

impl Reference {
    fn path(&self, name: &str) -> nn::Path<'_> {
        name.split('.').fold(self.0.root(), |path, part| path / part)
    }

    fn conv(&self, name: &str, from: i64, to: i64, kernel: i64) {
        let bound = 1.0 / ((from * kernel * kernel) as f64).sqrt();
        let init = nn::Init::Uniform { lo: -bound, up: bound };
        let config = nn::ConvConfig { ws_init: init, bs_init: init, ..Default::default() };
        nn::conv2d(self.path(name), from, to, kernel, config);
    }

    fn norm(&self, name: &str, channels: i64) {
        let config = nn::GroupNormConfig::default();
        nn::group_norm(self.path(name), norm_groups(channels), channels, config);
    }

    fn res_block(&self, name: &str, from: i64, to: i64) {
        self.norm(&format!("{name}.norm1"), from);
        self.conv(&format!("{name}.conv1"), from, to, 3);
        self.norm(&format!("{name}.norm2"), to);
        self.conv(&format!("{name}.conv2"), to, to, 3);
        if from != to {
            self.conv(&format!("{name}.shortcut"), from, to, 1);
        }
    }

    fn middle(&self, name: &str, channels: i64) {
        self.res_block(&format!("{name}.res0"), channels, channels);
        self.norm(&format!("{name}.attention.norm"), channels);
        self.conv(&format!("{name}.attention.qkv"), channels, 3 * channels, 1);
        self.conv(&format!("{name}.attention.out"), channels, channels, 1);
        self.res_block(&format!("{name}.res1"), channels, channels);
    }
}

#[test]
fn a_seed_gives_the_weights_that_it_always_gave() {
    let networks = build(&Config { seed: 5, ..config(SMALL) });
    let reference = Reference(nn::VarStore::new(Device::Cpu));
    pixtok_torch::reseed(Seed(5).derive("initialisation", &[]));
    reference.conv("encoder.stem", 3, 8, 3);
    reference.res_block("encoder.stage0.res0", 8, 8);
    reference.conv("encoder.stage0.down", 8, 8, 3);
    reference.res_block("encoder.stage1.res0", 8, 16);
    reference.middle("encoder.middle", 16);
    reference.norm("encoder.norm", 16);
    reference.conv("encoder.head", 16, 6, 1);
    let quantizer = reference.path("quantizer");
    let _ = quantizer.var("codebook", &[16, 4], nn::Init::Uniform { lo: -1.0 / 16.0, up: 1.0 / 16.0 });
    reference.conv("quantizer.project_in", 6, 4, 1);
    reference.conv("quantizer.project_out", 4, 6, 1);
    let _ = quantizer.ones_no_train("counts", &[16]);
    let _ = quantizer.zeros_no_train("started", &[1]);
    reference.conv("decoder.stem", 6, 16, 3);
    reference.middle("decoder.middle", 16);
    reference.res_block("decoder.stage1.res0", 16, 16);
    reference.conv("decoder.stage1.up", 16, 16, 3);
    reference.res_block("decoder.stage0.res0", 16, 8);
    reference.norm("decoder.norm", 8);
    reference.conv("decoder.head", 8, 3, 3);
    let expected: BTreeMap<String, Tensor> = reference.0.variables().into_iter().collect();
    let found = networks.variables();
    assert!(found.keys().eq(expected.keys()), "{:?} and {:?}", found.keys(), expected.keys());
    for (name, tensor) in &found {
        assert_eq!(tensor, &expected[name], "{name}");
        assert_eq!(tensor.requires_grad(), expected[name].requires_grad(), "{name}");
    }
}

#[test]
fn a_seed_gives_the_discriminator_that_it_always_gave() {
    let compare = |discriminator: &str, make: &dyn Fn(&Reference)| {
        let text = format!("seed = 5\n{SMALL}[adversarial]\ndiscriminator = {{ {discriminator} }}\n");
        let (store, _adversary) = build(&config(&text)).adversary.unwrap();
        let reference = Reference(nn::VarStore::new(Device::Cpu));
        pixtok_torch::reseed(Seed(5).derive("initialisation of the discriminator", &[]));
        make(&reference);
        let expected: BTreeMap<String, Tensor> = reference.0.variables().into_iter().collect();
        assert_eq!(store.tensors(), expected, "{discriminator}");
    };
    compare("kind = \"patch\", channels = 4, layers = 1, norm = \"batch\"", &|reference: &Reference| {
        let conv = |name: &str, from: i64, to: i64, bias: bool| {
            let bound = 1.0 / ((from * 4 * 4) as f64).sqrt();
            let config = nn::ConvConfig {
                bias,
                ws_init: nn::Init::Const(0.0),
                bs_init: nn::Init::Uniform { lo: -bound, up: bound },
                ..Default::default()
            };
            let conv = nn::conv2d(reference.path(name), from, to, 4, config);
            pixtok_torch::initialise_gaussian(&conv.ws, 0.0, 0.02);
        };
        conv("discriminator.layer0.conv", 3, 4, true);
        conv("discriminator.layer1.conv", 4, 8, false);
        let norm = reference.path("discriminator.layer1.norm");
        pixtok_torch::initialise_gaussian(&norm.ones("weight", &[8]), 1.0, 0.02);
        let _ = norm.zeros("bias", &[8]);
        conv("discriminator.last", 8, 1, true);
    });
    compare("kind = \"stylegan\", channels = 4", &|reference: &Reference| {
        for (block, from, to) in [(0, 4, 8), (1, 8, 16)] {
            reference.conv(&format!("discriminator.block{block}.conv"), from, from, 3);
            reference.conv(&format!("discriminator.block{block}.down"), from, to, 3);
            reference.conv(&format!("discriminator.block{block}.shortcut"), from, to, 1);
        }
        reference.conv("discriminator.stem", 3, 4, 1);
        reference.conv("discriminator.last", 17, 16, 3);
        for (name, from, to) in [("hidden", 16 * 5 * 7, 16), ("out", 16, 1)] {
            let bound = 1.0 / (from as f64).sqrt();
            let init = nn::Init::Uniform { lo: -bound, up: bound };
            let config = nn::LinearConfig { ws_init: init, bs_init: Some(init), bias: true };
            nn::linear(reference.path(&format!("discriminator.{name}")), from, to, config);
        }
    });
}
