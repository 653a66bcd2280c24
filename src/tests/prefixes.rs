//! Tests tail drop, and what is done with the first tokens of an image: decoding, evaluating and
//! storing them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::sequence::{
    DIM, FSQ, RESIDUAL, SEQUENCE, SIZE, TOKENS, decoding, encoded, encoding, parts, picture, pictures, toy,
    toy_of,
};
use crate::batches::{Loader, tensor_of};
use crate::codec::{Codec, Prefix, first_of, trace};
use crate::commands::inspect;
use crate::config::Config;
use crate::evaluate::{Evaluation, Measures, Options, Subject, evaluate};
use crate::export::{EncodeOptions, decode_by, merge};
use crate::model::tail_drop::{Tail, TailDrop, VECTOR};
use crate::model::{TokenShape, Tokenizer, images_from_bytes};
use crate::quantizer::Mode;
use crate::run::{Opened, Tell, Trained};
use crate::variables::{Component, Variables};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_images::data::{Dataset, Split};
use pixtok_tokens::{FormatKind, PrefixAxis, StatedPrefix, TokenSet};
use pixtok_torch::{Noise, no_grad};

const GRID: TokenShape = TokenShape::Grid { h: 2, w: 3 };
const WHOLE: StatedPrefix = StatedPrefix { axis: PrefixAxis::Tokens, of: TOKENS as u32 };
const STAGES: StatedPrefix = StatedPrefix { axis: PrefixAxis::Codebooks, of: 2 };

/// The toy with tail drop, in training.
fn tailed(quantizer: &str, keep_full: f64) -> (Config, Tokenizer, Variables) {
    let (config, tokenizer, store) = parts(quantizer, SEQUENCE);
    let scope = store.scope(Component::Decoder);
    let tail = Tail::new(TailDrop { keep_full }, SEQUENCE, DIM, &scope).unwrap();
    (config, tokenizer.with_tail(tail), store)
}

/// The same as if it was trained.
fn trained(quantizer: &str) -> Trained {
    let (config, tokenizer, store) = tailed(quantizer, 0.5);
    Trained::from_parts(config, tokenizer, store)
}

fn images(count: i64) -> Tensor {
    pixtok_torch::reseed(Seed(3));
    images_from_bytes(&Tensor::randint(256, [count, 3, 16, 24], (Kind::Uint8, Device::Cpu)))
}

fn largest(difference: &Tensor) -> f64 {
    difference.abs().max().double_value(&[])
}

fn kept(keep_full: f64, count: i64, noise: Noise) -> Tensor {
    TailDrop { keep_full }.kept(count, TOKENS, noise, Device::Cpu)
}

#[test]
fn some_images_keep_all_tokens_and_the_vector_learns_from_the_others() {
    for quantizer in [FSQ, RESIDUAL] {
        let (images, noise) = (images(16), Noise::new(Seed(4)));
        let train = Mode::Train { noise, world: World::alone() };
        let (_config, plain, _store) = parts(quantizer, SEQUENCE);
        let whole = plain.forward(&images, train).unwrap();
        let (_config, tokenizer, store) = tailed(quantizer, 0.5);
        let out = tokenizer.forward(&images, train).unwrap();
        // Codes and latents are of all tokens.
        assert_eq!(out.quantized.indices, whole.quantized.indices, "{quantizer}");
        assert_eq!(out.quantized.latent, whole.quantized.latent, "{quantizer}");
        let kept = kept(0.5, 16, noise);
        let full: Vec<bool> = Vec::try_from(kept.all_dim(1, false)).unwrap();
        assert!(full.contains(&true) && full.contains(&false), "{full:?}");
        for (image, &full) in (0..).zip(&full) {
            let off = largest(&(out.recon.get(image) - whole.recon.get(image)));
            assert_eq!(off == 0.0, full, "{quantizer}: image {image} differs by {off}");
        }
        // The decoder is one matrix, so the gradient of the vector is known.
        (&out.recon - &images).square().mean(Kind::Float).backward();
        let variables = store.tensors();
        let error = (out.recon.detach() - &images).flatten(1, -1) * (2.0 / images.numel() as f64);
        let of_latents = error.matmul(&variables["decoder.weight"].detach().tr()).view([16, TOKENS, DIM]);
        let absent = of_latents.where_scalarother(&kept.logical_not().unsqueeze(2), 0.0);
        let expected = absent.sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Float);
        let found = variables[VECTOR].grad();
        assert_eq!(found.size(), [1, DIM]);
        assert!(largest(&expected) > 0.0);
        assert!(largest(&(found - &expected)) <= 1e-5 * largest(&expected), "{quantizer}");
    }
}

#[test]
fn with_a_share_of_1_nothing_is_dropped_and_in_evaluation_neither() {
    let images = images(6);
    let (_config, plain, _store) = parts(FSQ, SEQUENCE);
    let (_config, all, store) = tailed(FSQ, 1.0);
    let train = Mode::train(Seed(4));
    let (whole, out) = (plain.forward(&images, train).unwrap(), all.forward(&images, train).unwrap());
    assert_eq!(out.recon, whole.recon);
    out.recon.sum(Kind::Float).backward();
    // So that processes find a gradient of every variable.
    assert_eq!(largest(&store.tensors()[VECTOR].grad()), 0.0);
    let (_config, never, _store) = tailed(FSQ, 0.0);
    let evaluated = never.forward(&images, Mode::Eval).unwrap();
    assert_eq!(evaluated.recon, plain.forward(&images, Mode::Eval).unwrap().recon);
}

#[test]
fn micro_batches_drop_what_the_whole_batch_drops() {
    let (_config, tokenizer, _store) = tailed(FSQ, 0.3);
    let (images, noise) = (images(8), Noise::new(Seed(5)));
    let recon = |part: &Tensor, first: u64| {
        let mode = Mode::Train { noise: noise.at_place(first), world: World::alone() };
        tokenizer.forward(part, mode).unwrap().recon
    };
    let whole = recon(&images, 0);
    let halves = [0, 4].map(|first| recon(&images.narrow(0, first, 4), first as u64));
    assert!(largest(&(whole - Tensor::cat(&halves, 0))) < 1e-5);
}

#[test]
fn absent_tokens_are_the_learned_vector() {
    let (_config, tokenizer, store) = tailed(RESIDUAL, 0.5);
    no_grad(|| {
        let indices = tokenizer.encode(&images(3)).unwrap();
        let variables = store.tensors();
        for n in 1..=TOKENS {
            let first = indices.narrow(1, 0, n);
            let absent = variables[VECTOR].expand([3, TOKENS - n, DIM], false);
            let latent = Tensor::cat(&[tokenizer.quantizer.lookup(&first), absent], 1);
            let expected = latent.flatten(1, 2).matmul(&variables["decoder.weight"]).view([-1, 3, 16, 24]);
            assert_eq!(tokenizer.decode(&first, SIZE), expected, "{n} tokens");
        }
        let whole = tokenizer.forward(&images(3), Mode::Eval).unwrap().recon;
        assert_eq!(tokenizer.decode(&indices, SIZE), whole);
    });
}

#[test]
fn a_traced_decoder_takes_every_prefix() {
    let trained = trained(FSQ);
    let decoder = trace::decoder(&trained.tokenizer, SIZE).unwrap();
    no_grad(|| {
        let indices = trained.tokenizer.encode(&images(3)).unwrap();
        for n in 1..=TOKENS {
            let first = indices.narrow(1, 0, n);
            let off = decoder.forward_ts(&[&first]).unwrap() - trained.tokenizer.decode(&first, SIZE);
            assert!(largest(&off) < 1e-5, "{n} tokens");
        }
    });
}

#[test]
fn prefixes_that_a_tokenizer_does_not_decode_are_refused() {
    let (plain, residual, grid) = (toy(FSQ), toy(RESIDUAL), toy_of(RESIDUAL, GRID));
    let tailed = trained(FSQ);
    let tokens = |count: i64| Tensor::zeros([1, count], (Kind::Int64, Device::Cpu));
    let stages = |count: i64| tokens(TOKENS).unsqueeze(2).expand([-1, -1, count], false);
    let of_grid = |count: i64| Tensor::zeros([1, 2, 3, count], (Kind::Int64, Device::Cpu));
    for (trained, indices, part) in [
        (&plain, tokens(3), "3 of the 5 tokens of an image are given"),
        (&plain, tokens(6), "has 5 tokens here, and 6 are given"),
        (&tailed, tokens(6), "has 5 tokens here, and 6 are given"),
        (&tailed, tokens(0), "0 of the 5 tokens"),
        (&residual, stages(3), "the tokens are of 3 codebooks, and this tokenizer has 2"),
        (&grid, of_grid(3), "the tokens are of 3 codebooks, and this tokenizer has 2"),
        (&grid, of_grid(2).transpose(1, 2), "has 2×3 tokens here, and 3×2 are given; give 2×3"),
        (&grid, of_grid(1).narrow(1, 0, 1), "has 2×3 tokens here, and 1×3 are given; give 2×3"),
        (&grid, stages(2), "has 2×3 tokens here, and 5 are given; give 2×3"),
        (&tailed, tokens(6).view([1, 2, 3]), "has 5 tokens here, and 2×3 are given; give 5"),
    ] {
        let words = trained.codec().decode(&indices, SIZE).unwrap_err().to_string();
        assert!(words.contains(part), "{words}");
    }
    for (trained, indices) in [(&tailed, tokens(1)), (&residual, stages(1)), (&grid, of_grid(1))] {
        assert_eq!(trained.codec().decode(&indices, SIZE).unwrap().size(), [1, 3, 16, 24]);
    }
    let store = Variables::new(Device::Cpu);
    let tail = |keep_full: f64, shape| {
        let made = Tail::new(TailDrop { keep_full }, shape, DIM, &store.scope(Component::Decoder));
        made.map(|_| ()).unwrap_err().to_string()
    };
    assert!(tail(0.5, GRID).contains("the tokens of this network are a grid"));
    assert!(tail(-1.0, SEQUENCE).contains("model.tail_drop.keep_full is -1; it is the share"));
    assert!(store.entries().is_empty());
}

/// Each tokenizer with prefixes: a prefix that is not all, and what it is of.
fn with_prefixes() -> Vec<(&'static str, Trained, u32, StatedPrefix)> {
    vec![
        ("tokens", trained(FSQ), 2, WHOLE),
        ("tokens of two codebooks", trained(RESIDUAL), 3, WHOLE),
        ("stages", toy(RESIDUAL), 1, STAGES),
        ("stages of a grid", toy_of(RESIDUAL, GRID), 1, STAGES),
    ]
}

#[test]
fn the_first_tokens_come_back_from_every_format() {
    let scratch = tempfile::tempdir().unwrap();
    let images = pictures(scratch.path());
    for (name, trained, length, whole) in with_prefixes() {
        let opened = Opened::Own(Box::new(trained));
        for &format in FormatKind::ALL {
            let at = |part: &str| scratch.path().join(format!("{name}-{format}-{part}"));
            let first = EncodeOptions { prefix: Some(length), ..encoding(&images, &at("first"), format) };
            encoded(&opened, &first).unwrap();
            let sets = TokenSet::find(&at("first")).unwrap();
            let sidecar = &sets[0].sidecar;
            assert_eq!((sidecar.prefix, sidecar.kept()), (Some(whole), Some((length, whole))), "{name}");
            let words = inspect::stated(&sets[0]);
            assert!(words.contains(&whole.words(length)), "{name}: {words}");

            encoded(&opened, &encoding(&images, &at("all"), format)).unwrap();
            let all = TokenSet::find(&at("all")).unwrap();
            assert_eq!(all[0].sidecar.prefix, None);
            let rows = |set: &TokenSet| -> BTreeMap<String, Vec<u32>> {
                set.rows().map(Result::unwrap).map(|row| (row.key, row.ids)).collect()
            };
            let (rows, of_all) = (rows(&sets[0]), rows(&all[0]));
            assert_eq!(rows.len(), 7, "{name}");
            let numbers = all[0].sidecar.tokenizer.numbers as usize;
            for (key, ids) in &rows {
                let expected: Vec<u32> = match whole.axis {
                    PrefixAxis::Tokens => of_all[key][..length as usize * numbers].to_vec(),
                    PrefixAxis::Codebooks => of_all[key].iter().copied().step_by(numbers).collect(),
                };
                assert_eq!(ids, &expected, "{name}, {format}: {key}");
            }

            let tell = Tell::to(&|_| ());
            decode_by(&opened, Device::Cpu, &sets, &decoding(&at("first"), &at("back")), tell).unwrap();
            for key in rows.keys() {
                let original = tensor_of(&picture(&images.join(format!("{key}.png")))).unwrap();
                let codec = opened.codec();
                let indices = codec.encode(&original.unsqueeze(0)).unwrap();
                let recon = codec.decode(&first_of(&indices, whole.axis, length), SIZE).unwrap().get(0);
                let stored = tensor_of(&picture(&at("back").join(format!("{key}.png")))).unwrap();
                let off = largest(&(recon.to_kind(Kind::Int) - stored.to_kind(Kind::Int)));
                assert!(off <= 1.0, "{name}, {format}: {key} is off by {off}");
            }
        }
    }
}

#[test]
fn sets_of_prefixes_are_told_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let images = pictures(scratch.path());
    let at = |part: &str| scratch.path().join(part);
    let opened = Opened::Own(Box::new(trained(FSQ)));
    let options = |prefix: Option<u32>, out: &str| EncodeOptions {
        prefix,
        ..encoding(&images, &at(out), FormatKind::Npy)
    };
    for (prefix, out) in [(Some(2), "two"), (Some(3), "three"), (Some(5), "all")] {
        encoded(&opened, &options(prefix, out)).unwrap();
    }
    let found = |out: &str| TokenSet::find(&at(out)).unwrap().remove(0);
    // All tokens are no prefix.
    assert_eq!(found("all").sidecar.prefix, None);
    for other in ["three", "all"] {
        let merged = merge(&[found("two"), found(other)], &at("merged"), None, false);
        let words = merged.map(|_| ()).unwrap_err().to_string();
        assert!(words.contains("differ in how many of an image's tokens they hold"), "{words}");
    }
    let refused = |opened: &Opened, prefix: u32, out: &str| {
        format!("{:#}", encoded(opened, &options(Some(prefix), out)).map(|_| ()).unwrap_err())
    };
    let words = refused(&opened, 3, "two");
    assert!(words.contains("holds another job") && words.contains("set.grid.w was 2 and is 3"), "{words}");

    for (trained, prefix, part) in [
        (trained(FSQ), 6, "--prefix 6: this tokenizer has 5 tokens for an image; give a number from 1 to 5"),
        (trained(FSQ), 0, "--prefix 0: this tokenizer has 5 tokens"),
        (toy(FSQ), 2, "--prefix 2: this tokenizer decodes an image only from all of its tokens"),
        (toy_of(FSQ, GRID), 2, "trained with model.tail_drop (kind = \"one-d\"), and for residual"),
        (toy(RESIDUAL), 3, "this tokenizer has 2 codebooks (the stages of its residual quantizer)"),
    ] {
        let opened = Opened::Own(Box::new(trained));
        let words = refused(&opened, prefix, "no");
        assert!(words.contains(part), "{words}");
        assert!(!at("no").exists());
    }
    // Another tokenizer, which has no prefixes.
    let other = Opened::Own(Box::new(toy(FSQ)));
    let (sets, tell) = ([found("two")], Tell::to(&|_| ()));
    let decoded = decode_by(&other, Device::Cpu, &sets, &decoding(&at("two"), &at("back")), tell);
    let words = decoded.unwrap_err().to_string();
    assert!(words.contains("holds the first 2 of the 5 tokens of each image, and this tokenizer"), "{words}");

    let path = at("two").join("tokens.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"of\": 5", "\"of\": 2")).unwrap();
    let words = TokenSet::find(&at("two")).map(|_| ()).unwrap_err().to_string();
    assert!(words.contains("its prefix is not a part of what it is of"), "{words}");
}

#[test]
fn figures_of_prefixes_stand_beside_those_of_all_tokens() {
    let scratch = tempfile::tempdir().unwrap();
    let images = pictures(scratch.path());
    let dataset = Arc::new(Dataset::open(&images, Split::All).unwrap());
    let measured = |trained: &Trained, codec: &dyn Codec, prefixes: &[u32]| -> Evaluation {
        let (data, dataset) = (&trained.config.data, Arc::clone(&dataset));
        let loader = Loader::eval(dataset, data, 4, None, Device::Cpu, &World::single()).unwrap();
        let measures = Measures { prefixes: prefixes.to_vec(), ..Measures::cheap() };
        let world = World::single();
        let options = Options { device: Device::Cpu, pictures: Default::default(), foreign: false, world };
        evaluate(Subject::Codec { codec, loader, stability: false }, &measures, &options).unwrap()
    };
    for (name, trained, length, whole) in with_prefixes() {
        let codec = trained.codec();
        let found = measured(&trained, &codec, &[length]);
        let curve = found.curve.unwrap();
        assert_eq!(curve.whole, whole, "{name}");
        let [(first, of_first), (all, of_all)] = &curve.points[..] else { panic!("{name}: {curve:?}") };
        assert_eq!((*first, *all), (length, whole.of), "{name}");
        // The same tokenizer that makes no more tokens.
        let prefix = Prefix::new(Box::new(trained.codec()), length).unwrap();
        let alone = measured(&trained, &prefix, &[]);
        assert!(alone.curve.is_none());
        for figure in ["psnr_db", "ssim", "l1", "bits_per_pixel"] {
            let (own, alone) = (of_first.value(figure), alone.figures.value(figure));
            assert!((own.unwrap() - alone.unwrap()).abs() < 1e-6, "{name}, {figure}: {own:?} and {alone:?}");
            assert_eq!(of_all.value(figure), found.figures.value(figure), "{name}");
        }
        assert_ne!(of_first.value("psnr_db"), of_all.value("psnr_db"), "{name}");
        assert_eq!(found.scores.columns.len(), 3);
    }
}
