use super::{Config, Layout, PixelDecoder, Positions, Size};
use crate::layers::Extension;
use crate::model::tail_drop::TailDrop;
use crate::model::testing::{build, build_with, fsq, size};
use crate::model::{Settings, TokenShape, TrainedSizes, dotted_keys};
use crate::quantizer::Mode;
use crate::variables::{Component, Role};
use pixtok_base::seed::Seed;
use pixtok_torch::{Precision, no_grad, with_precision};
use tch::{Device, Kind, Tensor};

/// 5×7 patches of 4×4 pixels.
const IMAGE: (u32, u32) = (20, 28);

fn small() -> Config {
    Config {
        width: Some(24),
        depth: Some(2),
        heads: Some(2),
        decoder_width: Some(36),
        decoder_heads: Some(3),
        patch: 4,
        latent_tokens: 6,
        ..Config::default()
    }
}

fn turned() -> Config {
    Config { positions: Positions::Rope, ..small() }
}

fn legacy() -> Config {
    let pixels = PixelDecoder {
        codes: 20,
        code_dim: 6,
        channels: 8,
        multipliers: vec![1, 2, 2],
        res_blocks: 1,
        norm_groups: 4,
    };
    Config { layout: Layout::Legacy, pixel_decoder: Some(pixels), ..small() }
}

fn refusal(config: &Config, image: (u32, u32)) -> String {
    build(config, image).map(|_| ()).unwrap_err().to_string()
}

fn images((height, width): (u32, u32)) -> Tensor {
    let shape = [2, 3, i64::from(height), i64::from(width)];
    Tensor::rand(shape, (Kind::Float, Device::Cpu)) * 2.0 - 1.0
}

#[test]
fn images_become_sequences_and_come_back() {
    for config in [small(), turned(), legacy(), Config { latent_channels: Some(9), ..small() }] {
        let (_vs, tokenizer) = build(&config, IMAGE).unwrap();
        let plan = config.plan(&fsq(), size(IMAGE).into()).unwrap();
        let sequence = TokenShape::Sequence { n: 6 };
        assert_eq!((tokenizer.side_multiple(), plan.side_multiple()), (4, 4));
        assert_eq!((tokenizer.shape(size(IMAGE)).unwrap(), plan.shape()), (sequence, sequence));
        for precision in [Precision::Fp32, Precision::Bf16] {
            with_precision(precision, || {
                let images = images(IMAGE);
                let indices = tokenizer.encode(&images).unwrap();
                assert_eq!(indices.size(), [2, 6]);
                let out = tokenizer.forward(&images, Mode::Eval).unwrap();
                assert_eq!((out.quantized.indices.size(), out.recon.size()), (vec![2, 6], images.size()));
                assert_eq!(indices, out.quantized.indices);
                assert_eq!(tokenizer.decode(&indices, size(IMAGE)), out.recon, "{precision}");
            });
        }
    }
}

#[test]
fn all_weights_learn_and_blocks_may_be_computed_again() {
    for config in [small(), turned(), legacy()] {
        let gradients = |checkpoint_blocks| {
            let (vs, tokenizer) = build(&Config { checkpoint_blocks, ..config.clone() }, IMAGE).unwrap();
            pixtok_torch::reseed(Seed(2));
            let images = images(IMAGE);
            let out = tokenizer.forward(&images, Mode::train(Seed(3))).unwrap();
            (&out.recon - &images).square().mean(Kind::Float).backward();
            vs.entries().into_iter().map(|variable| (variable.name, variable.tensor.grad()))
        };
        for ((name, kept), (_, again)) in gradients(false).zip(gradients(true)) {
            assert!(kept.defined() && kept.abs().max().double_value(&[]) > 0.0, "{name}");
            assert_eq!(kept, again, "{name}");
        }
    }
}

#[test]
fn only_turned_patches_allow_other_sizes() {
    let other = size((24, 36));
    let (_vs, tokenizer) = build(&small(), IMAGE).unwrap();
    assert_eq!(tokenizer.only_size(), Some(size(IMAGE)));
    let words = tokenizer.shape(other).unwrap_err().to_string();
    assert!(words.contains("24×36 pixels") && words.contains("only size, 20×28"), "{words}");

    let (_vs, tokenizer) = build(&turned(), IMAGE).unwrap();
    assert_eq!(tokenizer.only_size(), None);
    let out = no_grad(|| tokenizer.forward(&images((24, 36)), Mode::Eval)).unwrap();
    assert_eq!((out.latents.size(), out.recon.size()), (vec![2, 6, 4], vec![2, 3, 24, 36]));
    let words = tokenizer.shape(size((24, 30))).unwrap_err().to_string();
    assert!(words.contains("24×30 pixels") && words.contains("patches of 4×4"), "{words}");
    assert!(words.ends_with("the nearest to 30 that are: 28 or 32"), "{words}");
}

#[test]
fn an_extension_changes_only_larger_images() {
    let recon = |extension, image: (u32, u32)| {
        let (_vs, tokenizer) = build(&Config { extension, ..turned() }, IMAGE).unwrap();
        pixtok_torch::reseed(Seed(4));
        no_grad(|| tokenizer.forward(&images(image), Mode::Eval)).unwrap().recon
    };
    for extension in [Extension::Interpolate, Extension::Ntk] {
        assert_eq!(recon(extension, IMAGE), recon(Extension::None, IMAGE));
        assert_ne!(recon(extension, (40, 28)), recon(Extension::None, (40, 28)));
        assert_eq!(turned().with_extension(extension).unwrap().settings().extension(), Some(extension));
    }
    assert_eq!((small().extension(), small().with_extension(Extension::Ntk)), (None, None));
}

#[test]
fn rotations_extend_from_the_most_rows_and_columns_in_training() {
    let trained = TrainedSizes { image: size(IMAGE), largest: size((40, 44)) };
    let recon = |extension, image: (u32, u32)| {
        let (_vs, tokenizer) = build_with(&Config { extension, ..turned() }, &fsq(), trained).unwrap();
        pixtok_torch::reseed(Seed(4));
        no_grad(|| tokenizer.forward(&images(image), Mode::Eval)).unwrap().recon
    };
    for extension in [Extension::Interpolate, Extension::Ntk] {
        for image in [IMAGE, (40, 28), (20, 44)] {
            assert_eq!(recon(extension, image), recon(Extension::None, image), "{image:?}");
        }
        assert_ne!(recon(extension, (80, 28)), recon(Extension::None, (80, 28)));
    }
    let described = turned().plan(&fsq(), trained).unwrap().description().unwrap();
    assert_eq!(described["trained_grid"], serde_json::json!([10, 11]));
}

/// The latent of the first token depends on all tokens, as the published weights need it.
#[test]
fn the_legacy_layout_mixes_the_numbers_of_tokens() {
    let moved = |config: &Config| {
        let (vs, tokenizer) = build(config, IMAGE).unwrap();
        let images = images(IMAGE);
        no_grad(|| {
            let before = tokenizer.latents(&images);
            // Blocks that do nothing, so that tokens see nothing of each other.
            for (name, mut tensor) in vs.tensors() {
                if name.contains("attention.out") {
                    let _ = tensor.zero_();
                }
            }
            let apart = tokenizer.latents(&images);
            let tensors = vs.tensors();
            let _ = tensors["encoder.latent_tokens"].get(5).zero_();
            let after = tokenizer.latents(&images);
            assert_ne!(before, apart);
            let changed = (after - apart).abs().amax([0, 2], false).gt(0.0);
            changed.sum(Kind::Int64).int64_value(&[])
        })
    };
    assert_eq!(moved(&small()), 1);
    assert_eq!(moved(&legacy()), 6);
}

#[test]
fn sizes_and_absent_keys_are_numbers_in_the_description() {
    let config = Config { size: Some(Size::B), decoder_size: Some(Size::L), ..Config::default() };
    let config = Config { checkpoint_blocks: true, ..config };
    let described = config.plan(&fsq(), size((256, 256)).into()).unwrap().description().unwrap();
    let number = |key: &str| described[key].as_i64().unwrap();
    assert_eq!(["width", "depth", "heads"].map(number), [768, 12, 12]);
    assert_eq!(["decoder_width", "decoder_depth", "decoder_heads"].map(number), [1024, 24, 16]);
    assert_eq!((number("latent_channels"), &described["trained_grid"]), (4, &serde_json::json!([16, 16])));
    assert!(described.get("size").is_none() && described.get("checkpoint_blocks").is_none());

    // Absent settings and written-out ones are the same network.
    let numbers = Config { width: Some(768), depth: Some(12), heads: Some(12), ..config.clone() };
    let numbers = Config { size: None, ..numbers };
    assert_eq!(config.written_out(&fsq()), numbers.written_out(&fsq()));
    let saved = Config::default().resolved();
    assert_eq!((saved.width, saved.depth, saved.heads), (Some(512), Some(8), Some(8)));
    assert_eq!(turned().resolved().rope_base, Some(100.0));
    assert_eq!(config.clone().resolved(), config);
}

/// Muon takes matrices and convolutions that touch no pixels.
#[test]
fn variables_have_their_roles() {
    let linear = ["decoder.head", "decoder.pixels", "encoder.stem"];
    for (config, ends) in [(small(), &linear[..]), (legacy(), &["decoder.pixels.head", "encoder.stem"][..])] {
        let (vs, _tokenizer) = build(&config, IMAGE).unwrap();
        for variable in vs.entries() {
            let name = &variable.name;
            let (layer, last) = name.rsplit_once('.').unwrap();
            assert_eq!(variable.touches_pixels, ends.contains(&layer), "{name}");
            let vectors = ["token", "positions", "codebook"].iter().any(|part| last.contains(part));
            let norm = layer.contains("norm");
            let expected = match (last, variable.tensor.dim()) {
                _ if norm => Role::Norm,
                _ if vectors => Role::Embedding,
                ("bias", _) => Role::Bias,
                (_, 2) => Role::Matrix,
                _ => Role::Conv,
            };
            assert_eq!(variable.role, expected, "{name}");
        }
    }
}

#[test]
fn settings_that_do_not_fit_say_so() {
    let says = |config: &Config, parts: &[&str]| {
        let words = refusal(config, IMAGE);
        assert!(parts.iter().all(|part| words.contains(part)), "{words}");
    };
    says(&Config { latent_tokens: 36, ..small() }, &["latent_tokens is 36", "35 patches", "20×28"]);
    says(&Config { heads: Some(5), ..small() }, &["model.heads is 5", "width 24", "is 4"]);
    says(&Config { decoder_heads: Some(5), ..small() }, &["model.decoder_heads is 5", "width 36"]);
    says(&Config { size: Some(Size::B), ..small() }, &["model.size is B", "model.width", "leave one"]);
    says(&Config { decoder_size: Some(Size::S), ..small() }, &["model.decoder_size is S"]);
    says(&Config { depth: Some(0), ..small() }, &["model.depth has 0"]);
    says(&Config { extension: Extension::Ntk, ..small() }, &["model.extension", "rope"]);
    says(&Config { heads: Some(4), ..turned() }, &["4 heads of 6", "multiple of 4"]);
    says(&Config { rope_base: Some(1.0), ..turned() }, &["rope_base is 1;"]);
    says(&Config { rope_base: Some(7.0), ..small() }, &["rope_base is 7", "learned", "leave it out"]);
    says(&Config { positions: Positions::Rope, ..legacy() }, &["rope", "legacy"]);
    let tail_drop = Some(TailDrop { keep_full: 0.5 });
    says(&Config { tail_drop, ..legacy() }, &["model.tail_drop", "legacy", "mix"]);
    says(&Config { patch: 2, ..legacy() }, &["model.patch is 2", "4×4 pixels", "3 multipliers"]);
    says(&Config { layout: Layout::Vq8k, ..legacy() }, &["model.pixel_decoder belongs to"]);
    let pixels = PixelDecoder { norm_groups: 3, ..legacy().pixel_decoder.unwrap() };
    says(&Config { pixel_decoder: Some(pixels), ..legacy() }, &["8 channels", "3 norm_groups"]);
    assert!(refusal(&small(), (20, 30)).contains("28 or 32"));
    assert!(refusal(&small(), (3, 28)).contains("are: 4"));
}

/// A key that is renamed would otherwise count as one of both halves.
#[test]
fn settings_of_only_the_decoder_are_keys_of_the_config() {
    let config = Config {
        size: Some(Size::S),
        decoder_size: Some(Size::S),
        decoder_depth: Some(2),
        checkpoint_blocks: true,
        tail_drop: Some(TailDrop { keep_full: 0.5 }),
        ..legacy()
    };
    let keys = dotted_keys(&config);
    let of = |parts: &[Component]| -> Vec<&str> {
        keys.iter().filter(|key| config.components_of(key) == parts).map(String::as_str).collect()
    };
    let decoder = [
        "decoder_depth",
        "decoder_heads",
        "decoder_size",
        "decoder_width",
        "pixel_decoder.channels",
        "pixel_decoder.code_dim",
        "pixel_decoder.codes",
        "pixel_decoder.multipliers",
        "pixel_decoder.norm_groups",
        "pixel_decoder.res_blocks",
    ];
    assert_eq!(of(&[Component::Decoder]), decoder);
    assert_eq!(of(&[]), ["checkpoint_blocks", "extension", "tail_drop.keep_full"]);
}
