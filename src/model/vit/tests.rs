use super::*;
use crate::layers::{AttentionNorm, FeedForwardKind, NormKind};
use crate::model::size_of;
use crate::model::testing::{build, build_with, fsq, size};
use crate::model::transformer::{NamedSize, Sizes};
use crate::quantizer::Mode;
use crate::variables::{Role, Variables};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_torch::{Noise, Precision, no_grad, with_precision};
use serde_json::json;
use tch::{Kind, Tensor};

/// Patches of 4×4, and sizes for tests.
fn small() -> Config {
    Config { patch: 4, width: Some(32), depth: Some(2), heads: Some(2), ..Config::default() }
}

/// The same with everything that a network may have.
fn full() -> Config {
    Config {
        norm: NormKind::Layer,
        feed_forward: FeedForwardKind::Gelu,
        attention_norm: AttentionNorm::QkRms,
        layer_scale: Some(0.1),
        registers: 3,
        head_conv: true,
        decoder_width: Some(24),
        decoder_depth: Some(1),
        latent_channels: Some(9),
        ..small()
    }
}

fn images(batch: i64, (h, w): (u32, u32)) -> Tensor {
    pixtok_torch::reseed(Seed(2));
    Tensor::rand([batch, 3, i64::from(h), i64::from(w)], (Kind::Float, Device::Cpu)) * 2.0 - 1.0
}

fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

#[test]
fn shapes_follow_the_patch_at_any_size() {
    let learned = Config { positions: Positions::Learned, extension: Extension::Interpolate, ..full() };
    for (config, patch) in [(small(), 4), (full(), 4), (Config { patch: 3, ..small() }, 3), (learned, 4)] {
        let trained = (5 * patch, 7 * patch);
        let (_vs, tokenizer) = build(&config, trained).unwrap();
        let plan = config.plan(&fsq(), size(trained).into()).unwrap();
        assert_eq!((tokenizer.side_multiple(), plan.side_multiple()), (i64::from(patch), i64::from(patch)));
        assert_eq!(plan.shape(), TokenShape::Grid { h: 5, w: 7 });
        for (h, w) in [(5, 7), (2, 3), (9, 11)] {
            let image = (h * patch, w * patch);
            assert_eq!(tokenizer.shape(size(image)).unwrap(), TokenShape::Grid { h, w });
            let [h, w] = [h, w].map(i64::from);
            let images = images(2, image);
            assert_eq!(tokenizer.encode(&images).unwrap().size(), [2, h, w]);
            let out = tokenizer.forward(&images, Mode::Eval).unwrap();
            assert_eq!(out.quantized.indices.size(), [2, h * w]);
            assert_eq!(out.recon.size(), images.size());
            assert_eq!(out.recon.stride(), images.stride());
        }
    }
}

/// The parameters of a block: linear layers with biases, and normalisations.
fn of_block(config: &Config, width: i64) -> i64 {
    let linear = |from: i64, to: i64| from * to + to;
    let hidden = config.hidden(width);
    let norm = if config.norm == NormKind::Layer { 2 * width } else { width };
    let gated = if config.feed_forward == FeedForwardKind::SwiGlu { linear(width, hidden) } else { 0 };
    let attention = linear(width, 3 * width) + linear(width, width);
    attention + gated + linear(width, hidden) + linear(hidden, width) + 2 * norm
}

#[test]
fn the_named_sizes_have_the_parameters_that_their_formula_says() {
    let gelu = Config { norm: NormKind::Layer, feed_forward: FeedForwardKind::Gelu, ..Config::default() };
    for (named, parameters, published) in [
        (Size::S, 21_290_496, 21_293_568),
        (Size::B, 85_048_320, 85_054_464),
        (Size::L, 303_866_880, 302_309_376),
    ] {
        let Sizes { width, depth, heads } = named.sizes();
        assert_eq!(width / heads, 64);
        assert_eq!(depth * of_block(&Config::default(), width), parameters);
        // Of the published ViT: 12·width² + 13·width in each block.
        assert_eq!(depth * of_block(&gelu, width), published);
    }
    // What is built: the stem, the blocks, the last norm, and the layer to the latent.
    let config = Config { size: Some(Size::S), latent_channels: Some(9), ..Config::default() };
    let plan = config.plan(&fsq(), size((32, 48)).into()).unwrap();
    let vs = Variables::new(Device::Cpu);
    plan.encoder(&vs.scope(Component::Encoder));
    let ends = (3 * 256 * 384 + 384) + 384 + (384 * 9 + 9);
    assert_eq!(vs.parameters(&[Component::Encoder]), 21_290_496 + ends);
    // Without a size it is S, and the decoder is as the encoder.
    assert_eq!(Config::default().halves().sizes(), [Size::S.sizes(); 2]);
    assert_eq!(config.halves().sizes(), [Size::S.sizes(); 2]);
    assert_eq!((small().hidden(32), gelu.hidden(32), small().hidden(384)), (128, 128, 1024));
}

#[test]
fn decode_of_the_indices_is_the_reconstruction() {
    let larger = Config { extension: Extension::Ntk, ..full() };
    for config in [small(), larger] {
        let (_vs, tokenizer) = build(&config, (20, 28)).unwrap();
        for precision in [Precision::Fp32, Precision::Bf16] {
            with_precision(precision, || {
                for image in [(20, 28), (32, 36)] {
                    let images = images(2, image);
                    let out = tokenizer.forward(&images, Mode::Eval).unwrap();
                    let indices = tokenizer.encode(&images).unwrap();
                    assert_eq!(indices.flatten(1, 2), out.quantized.indices);
                    assert_eq!(tokenizer.decode(&indices, size_of(&images)), out.recon, "{precision}");
                }
            });
        }
    }
}

/// Latents of images of this size with each extension, after a training on these sizes.
fn extended(trained: TrainedSizes, image: (u32, u32)) -> [Tensor; 3] {
    [Extension::None, Extension::Interpolate, Extension::Ntk].map(|extension| {
        let (vs, tokenizer) = build_with(&Config { extension, ..small() }, &fsq(), trained).unwrap();
        // New weights hardly prefer one position to another.
        no_grad(|| {
            for (name, weight) in &mut vs.tensors() {
                if name.ends_with("qkv.weight") {
                    *weight *= 20.0;
                }
            }
        });
        no_grad(|| tokenizer.latents(&images(2, image)))
    })
}

fn assert_all_differ(latents: &[Tensor; 3]) {
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert!(largest(&(&latents[a] - &latents[b])) > 1e-3 * largest(&latents[a]), "{a}, {b}");
    }
}

#[test]
fn an_extension_changes_larger_sizes_alone() {
    let trained = size((20, 28)).into();
    for image in [(20, 28), (12, 16)] {
        let [plain, interpolated, ntk] = extended(trained, image);
        assert_eq!((&interpolated, &ntk), (&plain, &plain));
    }
    // Along one axis only.
    assert_all_differ(&extended(trained, (40, 28)));
}

#[test]
fn positions_extend_from_the_most_rows_and_columns_in_training() {
    // Of images of 20×28, 40×20 and 16×44 pixels.
    let trained = TrainedSizes { image: size((20, 28)), largest: size((40, 44)) };
    for image in [(20, 28), (40, 20), (16, 44), (40, 44)] {
        let [plain, interpolated, ntk] = extended(trained, image);
        assert_eq!((&interpolated, &ntk), (&plain, &plain), "{image:?}");
    }
    for image in [(80, 28), (20, 88)] {
        assert_all_differ(&extended(trained, image));
    }
    // The table of learned ones has as many.
    let learned = Config { positions: Positions::Learned, extension: Extension::Interpolate, ..small() };
    let (vs, tokenizer) = build_with(&learned, &fsq(), trained).unwrap();
    assert_eq!(vs.tensors()["encoder.positions"].size(), [110, 32]);
    for (h, w) in [(5, 7), (10, 5), (4, 11)] {
        let image = (4 * h, 4 * w);
        assert_eq!(tokenizer.shape(size(image)).unwrap(), TokenShape::Grid { h, w });
        let recon = tokenizer.forward(&images(1, image), Mode::Eval).unwrap().recon;
        assert_eq!(recon.size(), images(1, image).size());
    }
    for config in [small(), learned] {
        let plan = config.plan(&fsq(), trained).unwrap();
        assert_eq!(plan.description().unwrap()["trained_grid"], json!([10, 11]));
        assert_eq!((plan.shape(), plan.only_size()), (TokenShape::Grid { h: 5, w: 7 }, None));
    }
}

#[test]
fn learned_positions_have_one_size_unless_they_are_interpolated() {
    let config = Config { positions: Positions::Learned, ..small() };
    let (vs, tokenizer) = build(&config, (20, 28)).unwrap();
    assert_eq!(vs.tensors()["encoder.positions"].size(), [35, 32]);
    assert_eq!(tokenizer.shape(size((20, 28))).unwrap(), TokenShape::Grid { h: 5, w: 7 });
    let words = tokenizer.shape(size((28, 20))).unwrap_err().to_string();
    assert!(words.contains("28×20 pixels") && words.contains("only size, 20×28"), "{words}");
    assert_eq!(tokenizer.encode(&images(1, (28, 20))).unwrap_err().to_string(), words);
    let interpolated = Config { extension: Extension::Interpolate, ..config.clone() };
    let (_vs, other) = build(&interpolated, (20, 28)).unwrap();
    assert!(other.shape(size((28, 20))).is_ok());
    // At the trained size they are the same network.
    let images = images(2, (20, 28));
    assert_eq!(no_grad(|| other.latents(&images)), no_grad(|| tokenizer.latents(&images)));
    let only = |config: &Config| config.plan(&fsq(), size((20, 28)).into()).unwrap().only_size();
    assert_eq!((only(&config), only(&interpolated), only(&small())), (Some(size((20, 28))), None, None));
    assert_eq!(config.with_extension(Extension::Ntk), None);
    assert_eq!(config.with_extension(Extension::Interpolate), Some(model::Config::Vit(interpolated)));
}

/// The matrices of the blocks and around the latent are Muon's; what touches pixels, what is added
/// or looked up, and vectors are not.
#[test]
fn variables_have_their_names_and_roles() {
    let (vs, tokenizer) = build(&Config { positions: Positions::Learned, ..full() }, (20, 28)).unwrap();
    let entries = vs.entries();
    let names = |role: Role, touches_pixels: bool| -> Vec<&str> {
        let found = entries.iter().filter(|variable| {
            variable.role == role
                && variable.touches_pixels == touches_pixels
                && !variable.name.contains(".block1.")
                && !variable.name.starts_with("quantizer.")
        });
        found.map(|variable| variable.name.as_str()).collect()
    };
    let of_block = ["attention.out", "attention.qkv", "feed_forward.down", "feed_forward.up"];
    let matrices = |half: &str| of_block.map(|name| format!("{half}.block0.{name}.weight"));
    let mut hidden = [matrices("decoder"), matrices("encoder")].concat();
    hidden.insert(4, "decoder.stem.weight".to_owned());
    hidden.push("encoder.head.weight".to_owned());
    assert_eq!(names(Role::Matrix, false), hidden);
    assert_eq!(names(Role::Matrix, true), ["decoder.head.weight"]);
    assert_eq!(names(Role::Conv, true), ["decoder.conv.weight", "encoder.stem.weight"]);
    assert!(names(Role::Conv, false).is_empty());
    let vectors = ["decoder.positions", "decoder.registers", "encoder.positions", "encoder.registers"];
    assert_eq!(names(Role::Embedding, false), vectors);
    assert!(names(Role::Norm, false).contains(&"encoder.block0.scale1"));
    // The pixels are made by the last layer.
    assert_eq!(tokenizer.last_layer().size(), [3, 3, 3, 3]);
    assert_eq!(build(&small(), (20, 28)).unwrap().1.last_layer().size(), [48, 32]);
}

#[test]
fn stochastic_depth_does_not_depend_on_micro_batches() {
    let config = Config { stochastic_depth: 0.5, depth: Some(3), registers: 1, ..small() };
    let (_vs, tokenizer) = build(&config, (20, 28)).unwrap();
    let images = images(8, (20, 28));
    let world = World::alone();
    let latents = |images: &Tensor, first: u64| {
        let mode = Mode::Train { noise: Noise::new(Seed(3)).at_place(first), world };
        no_grad(|| tokenizer.forward(images, mode).unwrap().latents)
    };
    let whole = latents(&images, 0);
    let parts = [0, 6].map(|first: i64| latents(&images.slice(0, first, first + 2, 1), first as u64));
    for (part, first) in parts.iter().zip([0, 6]) {
        let off = largest(&(part - whole.narrow(0, first, 2)));
        assert!(off < 1e-5 * largest(&whole), "{off}");
    }
    let evaluated = no_grad(|| tokenizer.latents(&images));
    // Some images left blocks out.
    let off = (&whole - &evaluated).abs().flatten(1, 2).amax([1], false);
    assert!(largest(&off) > 1e-5 * largest(&evaluated));
    // The rates grow from 0.
    let plan = Plan::new(&config, &fsq(), size((20, 28)).into()).unwrap();
    assert_eq!(
        [0, 1, 2].map(|i| plan.stack(plan.common.encoder).of_block(i).stochastic_depth),
        [0.0, 0.25, 0.5]
    );
}

#[test]
fn blocks_that_are_computed_again_have_the_same_gradients() {
    let gradients = |checkpoint_blocks: bool| {
        let config = Config { checkpoint_blocks, stochastic_depth: 0.5, ..full() };
        let (vs, tokenizer) = build(&config, (20, 28)).unwrap();
        let images = images(4, (20, 28));
        let out = tokenizer.forward(&images, Mode::train(Seed(3))).unwrap();
        (&out.recon - &images).square().mean(Kind::Float).backward();
        let trained = vs.tensors().into_iter().filter(|(_, variable)| variable.requires_grad());
        (out.recon.detach(), trained.map(|(name, variable)| (name, variable.grad())).collect::<Vec<_>>())
    };
    let ((recon, kept), (again, computed)) = (gradients(false), gradients(true));
    assert_eq!(recon, again);
    for ((name, ours), (_, theirs)) in computed.iter().zip(&kept) {
        let (off, most) = (largest(&(ours - theirs)), largest(theirs));
        assert!(off <= 1e-6 * most.max(1e-6), "{name}: {off} of {most}");
    }
}

#[test]
fn settings_that_do_not_fit_say_so() {
    let message = |config: Config, size| build(&config, size).map(|_| ()).unwrap_err().to_string();
    let image = (20, 28);
    assert!(message(small(), (18, 28)).contains("16 or 20"));
    assert!(message(small(), (2, 28)).contains("are: 4"));
    let words = message(Config { heads: Some(5), ..small() }, image);
    assert!(
        words.contains("model.heads is 5") && words.contains("width 32") && words.ends_with("is 4"),
        "{words}"
    );
    let words = message(Config { decoder_heads: Some(3), ..small() }, image);
    assert!(words.contains("model.decoder_heads is 3"), "{words}");
    let words = message(Config { heads: Some(16), ..small() }, image);
    assert!(words.contains("16 heads of 2") && words.contains("multiple of 4"), "{words}");
    let learned = Config { positions: Positions::Learned, heads: Some(16), ..small() };
    assert!(build(&learned, image).is_ok());
    let words = message(Config { extension: Extension::Ntk, ..learned }, image);
    assert!(words.contains("\"ntk\"") && words.contains("\"learned\""), "{words}");
    let words = message(Config { size: Some(Size::B), ..small() }, image);
    assert!(words.contains("model.size is B, which sets model.width too"), "{words}");
    for (config, key) in [
        (Config { patch: 0, ..small() }, "model.patch has 0"),
        (Config { depth: Some(0), ..small() }, "model.depth has 0"),
        (Config { heads: Some(0), ..small() }, "model.heads has 0"),
        (Config { registers: -1, ..small() }, "model.registers has -1"),
        (Config { rope_base: Some(1.0), ..small() }, "model.rope_base is 1;"),
        (
            Config { rope_base: Some(7.0), positions: Positions::Learned, ..small() },
            "model.rope_base is 7, and model.positions",
        ),
        (Config { stochastic_depth: 1.0, ..small() }, "model.stochastic_depth is 1"),
        (Config { stochastic_depth: f64::NAN, ..small() }, "model.stochastic_depth is NaN"),
        (Config { layer_scale: Some(0.0), ..small() }, "model.layer_scale is 0"),
    ] {
        let words = message(config, image);
        assert!(words.starts_with(key), "{words}");
    }
    let (_vs, tokenizer) = build(&small(), image).unwrap();
    let words = tokenizer.shape(size((20, 30))).unwrap_err().to_string();
    assert!(words.contains("20×30 pixels") && words.contains("by 4"), "{words}");
}

#[test]
fn absent_and_written_out_settings_are_one_network() {
    let read = |text: &str| toml::from_str::<Config>(text).unwrap();
    let by_name = read("size = \"B\"\nnorm = \"rms\"\nattention_norm = \"key-l2\"\nextension = \"ntk\"");
    assert_eq!((by_name.size, by_name.attention_norm), (Some(Size::B), AttentionNorm::KeyL2));
    let in_numbers =
        read("width = 768\ndepth = 12\nheads = 12\nattention_norm = \"key-l2\"\nextension = \"ntk\"");
    assert_eq!(by_name.written_out(&fsq()), in_numbers.written_out(&fsq()));
    // A saved config says how large the network is.
    let saved = Config::default().resolved();
    assert_eq!((saved.width, saved.depth, saved.heads), (Some(384), Some(12), Some(6)));
    assert_eq!(saved.rope_base, Some(100.0));
    let resolved = Config { rope_base: Some(100.0), ..by_name.clone() };
    assert_eq!(by_name.clone().resolved(), resolved);
    let learned = Config { positions: Positions::Learned, ..small() };
    assert_eq!(learned.resolved().rope_base, None);
    assert!(toml::from_str::<Config>("widht = 3").unwrap_err().to_string().contains("widht"));
    let described = by_name.plan(&fsq(), size((32, 48)).into()).unwrap().description().unwrap();
    for (key, value) in [
        ("kind", json!("vit")),
        ("width", json!(768)),
        ("decoder_depth", json!(12)),
        ("hidden", json!(2048)),
        ("decoder_hidden", json!(2048)),
        ("latent_channels", json!(4)),
        ("positions", json!("rope")),
        ("rope_base", json!(100.0)),
        ("eps", json!(1e-6)),
        ("trained_grid", json!([2, 3])),
    ] {
        assert_eq!(described[key], value, "{key}");
    }
    assert!(described.get("size").is_none());
    // Nothing that only training uses.
    let trained = Config { stochastic_depth: 0.5, checkpoint_blocks: true, ..small() };
    let described = trained.plan(&fsq(), size((20, 28)).into()).unwrap().description().unwrap();
    for key in ["stochastic_depth", "checkpoint_blocks"] {
        assert!(described.get(key).is_none(), "{key}");
    }
}

/// A key that is renamed would otherwise count as one of both halves.
#[test]
fn settings_of_only_the_decoder_are_keys_of_the_config() {
    let decoder_size = Some(Size::B);
    let config = Config {
        decoder_size,
        decoder_heads: Some(2),
        stochastic_depth: 0.5,
        checkpoint_blocks: true,
        ..full()
    };
    let keys = model::dotted_keys(&config);
    let of = |parts: &[Component]| -> Vec<&str> {
        keys.iter().filter(|key| config.components_of(key) == parts).map(String::as_str).collect()
    };
    let decoder = ["decoder_depth", "decoder_heads", "decoder_size", "decoder_width", "head_conv"];
    assert_eq!(of(&[Component::Decoder]), decoder);
    assert_eq!(of(&[]), ["checkpoint_blocks", "extension", "stochastic_depth"]);
}

#[test]
fn memory_grows_with_the_positions_and_not_with_their_square() {
    let numbers = |config: &Config, image| {
        let footprint = config.plan(&fsq(), size(image).into()).unwrap().footprint(Device::Cpu);
        footprint.activation_bytes(1, 4)
    };
    for config in [small(), full()] {
        let config = Config { registers: 0, ..config };
        assert_eq!(numbers(&config, (80, 112)), 16 * numbers(&config, (20, 28)));
        let again = Config { checkpoint_blocks: true, depth: Some(12), ..config.clone() };
        let kept = Config { checkpoint_blocks: false, ..again.clone() };
        assert!(2 * numbers(&again, (20, 28)) < numbers(&kept, (20, 28)));
    }
}
