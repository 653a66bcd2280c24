//! The guarantees of every quantizer: the round trip bit for bit, also through a checkpoint;
//! gradients that reach what they should; indices in range for any input; bad configs that are
//! refused without a panic.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/kinds.rs"]
mod kinds;
#[path = "common/numbers.rs"]
mod numbers;

use std::collections::BTreeMap;

use kinds::{QuantizerKind, Sizes, kinds, quantizers, variants};
use numbers::{OnGrids, device, quantizer};
use pixtok::checkpoint::{RunFolder, RunWriter, Snapshot, copy_into};
use pixtok::model::{self, ImageSize, Tokenizer};
use pixtok::quantizer::{Mode, Quantizer, QuantizerConfig};
use pixtok::statistics::{Statistic, merge};
use pixtok::variables::{Component, Variables};
use pixtok::world::World;
use pixtok_base::seed::Seed;
use pixtok_torch::{Noise, Precision, no_grad, with_precision};
use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Map, Value, json};
use strum::VariantNames;
use tch::{Kind, Tensor};

const TRAIN: Mode = Mode::train(Seed(1));

fn parsed(config: &Value) -> QuantizerConfig {
    serde_json::from_value(config.clone()).unwrap_or_else(|e| panic!("{config}: {e}"))
}

fn natural_width(config: &Value) -> i64 {
    parsed(config).settings().natural_width()
}

/// Latents with some exact zeros and one −0.0.
fn latents(shape: &[i64], seed: u64) -> Tensor {
    pixtok_torch::reseed(Seed(seed));
    let z = Tensor::randn(shape, (Kind::Float, device()));
    let z = z.where_self(&z.abs().gt(0.05), &z.zeros_like());
    let _ = z.view([-1]).get(0).fill_(-0.0);
    z
}

/// A quantizer that was started and has taken a step, so that its codes lie where the latents are.
fn trained(config: &Value, channels: i64) -> (Variables, Box<dyn Quantizer>) {
    pixtok_torch::reseed(Seed(2));
    let (store, mut quantizer) = quantizer(config.clone(), channels);
    if quantizer.start_vectors().is_some() {
        quantizer.start(&latents(&[3, channels, 5, 7], 3), Seed(3), &mut || true).unwrap();
        assert_eq!(quantizer.start_vectors(), None, "a second start");
    }
    let statistics = quantizer.quantize(&latents(&[3, channels, 5, 7], 4), TRAIN).statistics;
    quantizer.update(&statistics, Seed(4));
    (store, quantizer)
}

fn bits(t: &Tensor) -> Tensor {
    t.contiguous().view_dtype(Kind::Int)
}

#[test]
fn lookup_is_the_latent_bit_for_bit() {
    for (name, config) in kinds() {
        let width = natural_width(&config);
        // Its own width, and one that needs a projection (and can be divided into any number of
        // groups here).
        for channels in [width, 12 * width] {
            let (_store, quantizer) = trained(&config, channels);
            for (mode, shape) in [(TRAIN, [2, channels, 5, 7]), (Mode::Eval, [1, channels, 7, 3])] {
                let quantized = quantizer.quantize(&(latents(&shape, 5) * 1.5), mode);
                let looked_up = quantizer.lookup(&quantized.indices);
                assert_eq!(
                    bits(&looked_up),
                    bits(&quantized.latent),
                    "{name}, {channels} channels, {mode:?}"
                );
                assert_eq!(looked_up.size(), shape);
            }
        }
    }
}

/// All codes of the codebook, or of all codebooks at the same time.
fn all_indices(quantizer: &dyn Quantizer) -> Tensor {
    let shape = quantizer.codebook();
    let all = Tensor::arange(shape.size, (Kind::Int64, device())).view([1, 1, -1]);
    if shape.codebooks == 1 { all } else { all.unsqueeze(3).repeat([1, 1, 1, shape.codebooks]) }
}

/// The result of a projection of codes, with its layer's own variables; unchanged if the widths
/// agree.
fn projected(store: &Variables, part: &str, codes: Tensor) -> Tensor {
    let variables = store.tensors();
    let layer = |name: &str| variables.get(&format!("{part}project_out.{name}"));
    let Some(weight) = layer("weight") else { return codes };
    codes.conv2d(weight, layer("bias"), [1, 1], [0, 0], [1, 1], 1)
}

#[test]
fn lookup_is_of_the_codes() {
    for (name, config) in kinds() {
        let width = natural_width(&config);
        for channels in [width, 12 * width] {
            let (store, quantizer) = trained(&config, channels);
            let (shape, all) = (quantizer.codebook(), all_indices(&*quantizer));
            let one = Tensor::arange(shape.size, (Kind::Int64, device())).view([1, 1, -1]);
            let codes: Vec<Tensor> =
                (0..shape.codebooks).map(|codebook| quantizer.codes(codebook, &one)).collect();
            assert!(codes.iter().all(|codes| codes.size() == [1, shape.dim, 1, shape.size]), "{name}");
            let sum =
                |codes: &[Tensor]| codes[1..].iter().fold(codes[0].shallow_clone(), |sum, code| sum + code);
            let grouped = config["kind"] == "grouped";
            let expected = if grouped {
                let groups = config["groups"].as_i64().unwrap();
                let of_group = |(group, codes): (usize, &[Tensor])| {
                    projected(&store, &format!("groups.{group}."), sum(codes))
                };
                let parts: Vec<Tensor> =
                    codes.chunks((shape.codebooks / groups) as usize).enumerate().map(of_group).collect();
                Tensor::cat(&parts, 1)
            } else {
                projected(&store, "", sum(&codes))
            };
            let looked_up = quantizer.lookup(&all);
            let off = (&looked_up - &expected).abs().max().double_value(&[]);
            // A convolution may add in a different order.
            let allowed = if channels == width { 0.0 } else { 1e-6 * expected.abs().max().double_value(&[]) };
            assert!(off <= allowed, "{name}, {channels} channels: {off:e}");
        }
    }
}

#[test]
fn every_code_comes_back_as_it_is() {
    for variant in variants() {
        let (name, config) = (variant.name, variant.quantizer);
        let (_store, quantizer) = trained(&config, natural_width(&config));
        let all = all_indices(&*quantizer);
        let codes = quantizer.lookup(&all);
        let again = quantizer.quantize(&codes, Mode::Eval);
        assert_eq!(bits(&quantizer.lookup(&again.indices)), bits(&again.latent), "{name}");
        if variant.own_nearest {
            assert_eq!(again.indices, all, "{name}");
        }
    }
}

#[test]
fn every_kind_has_its_file() {
    let mut kinds = QuantizerConfig::VARIANTS.to_vec();
    kinds.sort_unstable();
    let described: Vec<String> = quantizers().into_iter().map(|kind| kind.name).collect();
    assert_eq!(described, kinds, "tests/kinds/quantizer has a file for each kind");
    for kind in quantizers() {
        let stated = kind.variants.iter().any(|variant| variant.variables.is_some());
        assert!(stated && !kind.golden.is_empty() && !kind.python.is_empty(), "{}", kind.name);
        let own = |config: &Value| config["kind"] == kind.name.as_str();
        assert!(kind.variants.iter().all(|variant| own(&variant.quantizer)), "{}", kind.name);
        assert!(kind.reference.iter().all(|reference| own(&reference.quantizer)), "{}", kind.name);
    }
}

#[test]
fn every_variable_has_its_role() {
    for variant in variants() {
        let Some(mut expected) = variant.variables else { continue };
        let (store, _quantizer) = quantizer(variant.quantizer.clone(), natural_width(&variant.quantizer));
        let mut found: Vec<[String; 3]> = vec![];
        for variable in store.entries() {
            assert!(!variable.touches_pixels, "{}: {}", variant.name, variable.name);
            let trained = if variable.trained { "trained" } else { "fixed" };
            let role = format!("{:?}", variable.role).to_lowercase();
            found.push([variable.name, role, trained.to_owned()]);
        }
        expected.sort();
        assert_eq!(found, expected, "{}", variant.name);
    }
}

#[test]
fn indices_out_of_range_and_latents_that_are_no_numbers_stay_in_range() {
    for (name, config) in kinds() {
        let width = natural_width(&config);
        let (_store, quantizer) = trained(&config, width);
        let shape = quantizer.codebook();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e38] {
            let z = Tensor::full([1, width, 2, 3], value, (Kind::Float, device()));
            let indices = quantizer.quantize(&z, Mode::Eval).indices;
            let (least, most) = (indices.min().int64_value(&[]), indices.max().int64_value(&[]));
            assert!(least >= 0 && most < shape.size, "{name}: {value} becomes {least} to {most}");
        }
        let all = all_indices(&*quantizer);
        let outside = [&all - shape.size, &all + shape.size].map(|indices| quantizer.lookup(&indices));
        assert!(outside.iter().all(|codes| codes.isfinite().all().int64_value(&[]) == 1), "{name}");
        // Indices may have any memory layout.
        let turned = all.transpose(1, 2);
        assert_eq!(quantizer.lookup(&turned), quantizer.lookup(&turned.contiguous()), "{name}");
    }
}

#[test]
fn autocast_changes_no_index() {
    for (name, config) in kinds() {
        let width = natural_width(&config);
        let (_store, quantizer) = trained(&config, width);
        let z = latents(&[2, width, 5, 7], 6);
        let plain = quantizer.quantize(&z, TRAIN);
        let cast = with_precision(Precision::Bf16, || quantizer.quantize(&z, TRAIN));
        assert_eq!(cast.indices, plain.indices, "{name}");
        assert_eq!(bits(&cast.latent), bits(&plain.latent), "{name}");
        for (cast, plain) in cast.losses.iter().zip(&plain.losses) {
            assert_eq!(cast.value, plain.value, "{name}: {}", plain.name);
        }
        let looked_up = with_precision(Precision::Bf16, || quantizer.lookup(&plain.indices));
        assert_eq!(bits(&looked_up), bits(&plain.latent), "{name}");
    }
}

/// The tensors that learn by gradient.
fn parameters(store: &Variables) -> Vec<Tensor> {
    store.entries().into_iter().filter(|found| found.trained).map(|found| found.tensor).collect()
}

fn state(store: &Variables) -> BTreeMap<String, Tensor> {
    store.tensors().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
}

#[test]
fn quantize_is_pure() {
    for (name, config) in kinds() {
        let width = natural_width(&config);
        let (store, quantizer) = trained(&config, width);
        let before = state(&store);
        let first = quantizer.quantize(&latents(&[2, width, 5, 7], 7), TRAIN);
        let second = quantizer.quantize(&latents(&[2, width, 5, 7], 7), TRAIN);
        assert_eq!(state(&store), before, "{name}");
        assert_eq!(first.latent, second.latent, "{name}");
        let evaluated = quantizer.quantize(&latents(&[2, width, 5, 7], 7), Mode::Eval);
        assert!(evaluated.losses.is_empty() && evaluated.statistics.is_empty(), "{name}");
        // Neither the start nor a pass writes to the latents that it is given.
        let (z, untouched) = (latents(&[2, width, 5, 7], 7), latents(&[2, width, 5, 7], 7));
        let (_store, mut quantizer) = numbers::quantizer(config, width);
        quantizer.start(&z, Seed(3), &mut || true).unwrap();
        quantizer.update(&quantizer.quantize(&z, TRAIN).statistics, Seed(4));
        assert_eq!(bits(&z), bits(&untouched), "{name}");
    }
}

#[test]
fn each_loss_moves_its_own_tensor() {
    for variant in variants() {
        let (name, config) = (variant.name, variant.quantizer);
        let width = natural_width(&config);
        let (store, quantizer) = trained(&config, width);
        let z = latents(&[2, width, 5, 7], 8).set_requires_grad(true);
        let found: Vec<&str> = quantizer.quantize(&z, TRAIN).losses.iter().map(|term| term.name).collect();
        assert_eq!(found, variant.losses.iter().map(|loss| &loss[0]).collect::<Vec<_>>(), "{name}");
        let moved = |t: &Tensor| t.grad().defined() && t.grad().abs().max().double_value(&[]) > 0.0;
        for (i, loss) in variant.losses.iter().enumerate() {
            let (term, moves) = (&loss[0], &loss[1..]);
            let known = moves.iter().all(|what| ["latent", "codes"].contains(&what.as_str()));
            assert!(known, "{name}: a loss moves `latent` or `codes`, not {moves:?}");
            let is_moved = |what: &str| moves.iter().any(|found| found == what);
            z.shallow_clone().zero_grad();
            parameters(&store).iter_mut().for_each(Tensor::zero_grad);
            quantizer.quantize(&z, TRAIN).losses[i].value.backward();
            assert_eq!(moved(&z), is_moved("latent"), "{name}: {term} and the latent");
            let codes_moved = parameters(&store).iter().any(moved);
            assert_eq!(codes_moved, is_moved("codes"), "{name}: {term} and the codebook");
        }
    }
}

const SIZE: ImageSize = ImageSize { height: 10, width: 14 };

fn tokenizer(config: &Value) -> (Variables, Tokenizer) {
    let store = Variables::new(device());
    pixtok_torch::reseed(Seed(9));
    let network =
        model::cnn::Config { channels: 4, multipliers: vec![1, 2], ..model::cnn::Config::default() };
    let tokenizer = Tokenizer::new(&store, &network, &parsed(config), SIZE).unwrap();
    (store, tokenizer)
}

fn images() -> Tensor {
    pixtok_torch::reseed(Seed(10));
    Tensor::rand([3, 3, 10, 14], (Kind::Float, device())) * 2.0 - 1.0
}

fn start_and_update(tokenizer: &mut Tokenizer) {
    let z = no_grad(|| tokenizer.latents(&images()));
    if tokenizer.quantizer.start_vectors().is_some() {
        tokenizer.quantizer.start(&z, Seed(11), &mut || true).unwrap();
    }
    let statistics = tokenizer.quantizer.quantize(&z, TRAIN).statistics;
    tokenizer.quantizer.update(&statistics, Seed(12));
}

#[test]
fn the_reconstruction_reaches_the_encoder() {
    for (name, config) in kinds() {
        let (store, mut tokenizer) = tokenizer(&config);
        start_and_update(&mut tokenizer);
        (tokenizer.forward(&images(), TRAIN).unwrap().recon - images()).square().mean(Kind::Float).backward();
        for (variable, tensor) in store.tensors() {
            if variable.starts_with("encoder.") && variable.ends_with(".weight") {
                let moved = tensor.grad().defined() && tensor.grad().abs().max().double_value(&[]) > 0.0;
                assert!(moved, "{name}: no gradient reaches {variable}");
            }
        }
    }
}

/// encode → save → load → decode, with the model in a checkpoint and the tokens in a file, as in
/// two processes.
#[test]
fn tokens_decode_from_a_checkpoint_as_in_memory() {
    for (name, config) in kinds() {
        let scratch = tempfile::tempdir().unwrap();
        let (run, tokens) = (scratch.path().join("run"), scratch.path().join("tokens.safetensors"));
        let (store, mut first) = tokenizer(&config);
        start_and_update(&mut first);
        let in_memory = no_grad(|| first.forward(&images(), Mode::Eval)).unwrap();
        let indices = no_grad(|| first.encode(&images())).unwrap();
        assert_eq!(indices.flatten(1, 2), in_memory.quantized.indices, "{name}");
        Tensor::write_safetensors(&[("tokens", &indices)], &tokens).unwrap();
        let snapshot = Snapshot {
            model: state(&store),
            ema: None,
            companions: None,
            optimizer: BTreeMap::new(),
            state: json!({}),
        };
        RunWriter::create(&run).unwrap().save(1, &snapshot).unwrap();
        drop((store, first));

        let store = Variables::new(device());
        pixtok_torch::reseed(Seed(99));
        let network =
            model::cnn::Config { channels: 4, multipliers: vec![1, 2], ..model::cnn::Config::default() };
        let second = Tokenizer::new(&store, &network, &parsed(&config), SIZE).unwrap();
        let saved = RunFolder::open(&run).unwrap().load_model(1, false).unwrap();
        copy_into(&store.tensors(), &saved.weights, "the checkpoint").unwrap();
        assert_eq!(second.quantizer.start_vectors(), None, "{name}: a loaded codebook would start again");
        let tokens = Tensor::read_safetensors(&tokens).unwrap().remove(0).1.to_device(device());
        let decoded = no_grad(|| second.decode(&tokens, SIZE));
        assert_eq!(bits(&decoded), bits(&in_memory.recon), "{name}");
    }
}

#[test]
fn micro_batches_update_like_one_batch() {
    for (name, config) in kinds() {
        let width = natural_width(&config);
        let z = latents(&[4, width, 5, 7], 13);
        let updated = |parts: i64| {
            let (store, mut quantizer) = trained(&config, width);
            let images = 4 / parts as u64;
            let lists: Vec<Vec<Statistic>> = (0..)
                .zip(z.chunk(parts, 0))
                .map(|(i, part)| {
                    let noise = Noise::new(Seed(13)).at_place(i * images);
                    quantizer.quantize(&part, Mode::Train { noise, world: World::alone() }).statistics
                })
                .collect();
            quantizer.update(&merge(lists), Seed(14));
            state(&store)
        };
        for ((variable, whole), parts) in updated(1).into_iter().zip(updated(2).into_values()) {
            let off = (whole - parts).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{name}: {variable} differs by {off:e}");
        }
    }
}

#[test]
fn restarts_are_counted_for_each_part() {
    for (kind, names) in [
        ("vq", &["codebook/restarts"][..]),
        ("residual vq", &["codebook/restarts/0", "codebook/restarts/1"]),
        ("grouped vq", &["codebook/restarts/0", "codebook/restarts/1"]),
    ] {
        let config = kinds().into_iter().find(|(name, _)| *name == kind).unwrap().1;
        let width = natural_width(&config);
        let (store, mut quantizer) = trained(&config, width);
        // Equal latents leave every code but one without a vector; the averages take many steps to
        // follow.
        let z = Tensor::ones([2, width, 5, 7], (Kind::Float, device()));
        for name in store.tensors().keys().filter(|name| name.ends_with("counts")) {
            let _ = no_grad(|| store.tensors()[name].shallow_clone().zero_());
        }
        let report = quantizer.update(&quantizer.quantize(&z, TRAIN).statistics, Seed(15));
        let found: Vec<&str> = report.monitors.iter().map(|monitor| monitor.name.as_str()).collect();
        assert_eq!(found, names);
        assert!(report.monitors.iter().all(|monitor| monitor.value.double_value(&[]) == 24.0), "{kind}");
        for rows in &report.replaced_rows {
            assert!(store.tensors()[&rows.variable].requires_grad(), "{} is no parameter", rows.variable);
        }
        let by_gradient = kind == "grouped vq";
        assert_eq!(report.replaced_rows.len(), if by_gradient { 2 } else { 0 });
    }
}

/// Any value of a key, as a file of `tests/kinds/quantizer` describes it. `each` is the quantizer
/// inside another one.
fn any_value(described: &Value, each: Option<&BoxedStrategy<Value>>) -> BoxedStrategy<Value> {
    // Mostly valid values, so that most configs are built and used.
    let integer = prop_oneof![
        40 => 1i64..13,
        3 => -3i64..40,
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
        1 => Just(1 << 31),
        1 => Just((1 << 31) + 1),
        1 => Just(65537)
    ];
    let number = prop_oneof![
        40 => 0.01..1.0f64,
        1 => Just(-1.0),
        2 => Just(0.0),
        1 => Just(f64::MAX),
        1 => Just(f64::MIN_POSITIVE),
        1 => Just(1e-40)
    ];
    let level = prop_oneof![40 => 2i64..9, 1 => -1i64..2, 1 => Just(1001), 1 => Just(i64::MAX)];
    let levels = prop_oneof![20 => prop::collection::vec(level, 1..5), 1 => Just(vec![])];
    match described {
        Value::Array(choices) => prop::sample::select(choices.clone()).boxed(),
        Value::Object(keys) => any_table(keys, each),
        Value::String(what) => match (what.as_str(), each) {
            ("integer", _) => integer.prop_map(Value::from).boxed(),
            ("number", _) => number.prop_map(Value::from).boxed(),
            ("levels", _) => levels.prop_map(Value::from).boxed(),
            ("parts", _) => prop_oneof![8 => 1i64..4, 1 => -1i64..1].prop_map(Value::from).boxed(),
            ("quantizer", Some(each)) => each.clone(),
            _ => panic!("{what} is no kind of value"),
        },
        other => panic!("{other} is no kind of value"),
    }
}

/// A table with all of `keys`.
fn any_table(keys: &Map<String, Value>, each: Option<&BoxedStrategy<Value>>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<String>, Vec<BoxedStrategy<Value>>) =
        keys.iter().map(|(key, described)| (key.clone(), any_value(described, each))).unzip();
    let together = move |values: Vec<Value>| Value::Object(names.iter().cloned().zip(values).collect());
    values.prop_map(together).boxed()
}

/// Whether this kind is made of others.
fn wraps(kind: &QuantizerKind) -> bool {
    kind.fuzz.values().any(|described| described == "quantizer")
}

/// A config of one quantizer with values that may be out of any range. Any of its keys may be left
/// out.
fn any_single() -> BoxedStrategy<Value> {
    let configs = quantizers().into_iter().filter(|kind| !wraps(kind)).map(|kind| {
        let drawn = (any_table(&kind.fuzz, None), any::<u16>());
        drawn.prop_map(move |(all, mask)| {
            let kept = all.as_object().unwrap().iter().enumerate().filter(|(i, _)| mask >> i & 1 == 0);
            let mut config = json!({ "kind": kind.name });
            config
                .as_object_mut()
                .unwrap()
                .extend(kept.map(|(_, (key, value))| (key.clone(), value.clone())));
            config
        })
    });
    Union::new(configs.map(Strategy::boxed)).boxed()
}

/// A config of several of `each`.
fn wrapped(each: &BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let configs = quantizers().into_iter().filter(wraps).map(|kind| {
        any_table(&kind.fuzz, Some(each)).prop_map(move |mut config| {
            config["kind"] = kind.name.clone().into();
            config
        })
    });
    Union::new(configs.map(Strategy::boxed)).boxed()
}

/// A config of any kind with values that may be out of any range.
fn any_config() -> impl Strategy<Value = Value> {
    let single = any_single();
    let once = wrapped(&single);
    let twice = wrapped(&once);
    prop_oneof![6 => single, 3 => once, 1 => twice]
}

proptest! {
    // Deterministic, like all tests.
    #![proptest_config(ProptestConfig {
        cases: 400, failure_persistence: None,
        rng_seed: prop::test_runner::RngSeed::Fixed(16), ..ProptestConfig::default()
    })]

    /// A config is either refused with a message or works: it never panics.
    #[test]
    fn fuzzed_configs_never_panic(config in any_config(), channels in 1i64..7) {
        let Ok(parsed) = serde_json::from_value::<QuantizerConfig>(config.clone()) else { return Ok(()) };
        let settings = parsed.settings();
        let checked = settings.check();
        if let Err(error) = &checked {
            prop_assert!(error.to_string().contains("quantizer."), "{config}: {error}");
        }
        let fits = checked.is_ok() && settings.check_width(channels).is_ok();
        let (saved, step) = (settings.saved_bytes(i64::MAX), settings.check_step(i64::MAX));
        if checked.is_ok() {
            prop_assert_eq!(saved == 0, step.is_ok(), "{}", config);
        }
        let _ = settings.advice(channels);
        let written = serde_json::to_value(parsed.clone().resolved()).unwrap();
        prop_assert_eq!(serde_json::from_value::<QuantizerConfig>(written).unwrap(), parsed.clone().resolved());
        // Tables of many codes take long to make, and test nothing new.
        let small = !["2147483648", "65537", "1001"].iter().any(|large| config.to_string().contains(large));
        if fits && small {
            let store = Variables::new(device());
            let mut quantizer = OnGrids(settings.build(&store.root(Component::Quantizer), channels).unwrap());
            let z = latents(&[1, channels, 2, 3], 17).set_requires_grad(true);
            let quantized = quantizer.quantize(&z, TRAIN);
            prop_assert_eq!(quantized.latent.size(), [1, channels, 2, 3]);
            prop_assert_eq!(quantizer.lookup(&quantized.indices).size(), [1, channels, 2, 3]);
            let losses = quantized.losses.iter().map(|term| &term.value * term.weight);
            losses.fold(quantized.latent.sum(Kind::Float), |sum, loss| sum + loss).backward();
            quantizer.update(&quantized.statistics, Seed(1));
        } else if !fits && small {
            let store = Variables::new(device());
            prop_assert!(settings.build(&store.root(Component::Quantizer), channels).is_err(), "{}", config);
        }
    }

    /// For any shape (including batch 1 and shapes that are not square), level list and code size:
    /// the round trip is exact, indices are in range, and codes and digits are one to one.
    #[test]
    fn any_shape_and_size_makes_the_round_trip(
        which in any::<prop::sample::Index>(),
        levels in prop::collection::vec(2i64..12, 1..5),
        size in 2i64..80,
        dim in 1i64..9,
        parts in 1i64..4,
        (b, h, w) in (1i64..4, 1i64..8, 1i64..8),
        projected in any::<bool>(),
    ) {
        let bound = ["paper", "tanh", "sigmoid"][(size % 3) as usize];
        let sizes = Sizes { levels: &levels, size, dim, parts, bound };
        let config = which.get(&quantizers()).any_size.of(&sizes);
        let width = natural_width(&config);
        let channels = if projected { width * 2 } else { width };
        let (_store, quantizer) = trained(&config, channels);
        let quantized = quantizer.quantize(&latents(&[b, channels, h, w], 18), TRAIN);
        prop_assert_eq!(bits(&quantizer.lookup(&quantized.indices)), bits(&quantized.latent), "{}", config);
        let shape = quantizer.codebook();
        let mut expected = vec![b, h, w];
        if shape.codebooks > 1 {
            expected.push(shape.codebooks);
        }
        prop_assert_eq!(quantized.indices.size(), expected);
        let (least, most) =
            (quantized.indices.min().int64_value(&[]), quantized.indices.max().int64_value(&[]));
        prop_assert!(least >= 0 && most < shape.size);
        if let Some(radix) = quantizer.digits().filter(|_| shape.codebooks == 1) {
            let digits = radix.digits_from_indices(&quantized.indices);
            prop_assert_eq!(radix.indices_from_digits(&digits), quantized.indices);
        }
    }
}
