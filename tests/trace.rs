//! Traces of pixtok's tokenizer: every kind of quantizer, saved and loaded, on different numbers
//! and sizes of images.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/kinds.rs"]
mod kinds;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/torchscript.rs"]
mod torchscript;

use kinds::{kinds, networks};
use numbers::device;
use pixtok::codec::trace::{self, Agreement};
use pixtok::model::cnn::Config;
use pixtok::model::{self, ImageSize, Settings, Tokenizer};
use pixtok::quantizer::QuantizerConfig;
use pixtok::variables::{Component, Role, Variables};
use pixtok_base::seed::Seed;
use pixtok_torch::no_grad;
use serde_json::{Value, json};
use tch::{CModule, Kind, Tensor};
use torchscript::assert_loads_anywhere;

/// Of the example.
const SIZE: ImageSize = ImageSize { height: 24, width: 36 };

fn size([height, width]: [u32; 2]) -> ImageSize {
    ImageSize { height, width }
}

fn sizes(of: &[[u32; 2]]) -> Vec<ImageSize> {
    of.iter().copied().map(size).collect()
}

fn images(batch: i64, size: ImageSize) -> Tensor {
    pixtok_torch::reseed(Seed(7));
    let (height, width) = (i64::from(size.height), i64::from(size.width));
    Tensor::rand([batch, 3, height, width], (Kind::Float, device())) * 2.0 - 1.0
}

/// A tokenizer whose codebook, if it learns one, lies among its latents, for images of [`SIZE`].
fn build(model: &Config, quantizer: Value) -> (Variables, Tokenizer) {
    build_for(SIZE, model, quantizer)
}

/// The same for images of any size, by any network.
fn build_for(size: ImageSize, model: &dyn Settings, quantizer: Value) -> (Variables, Tokenizer) {
    let quantizer: QuantizerConfig = serde_json::from_value(quantizer).unwrap();
    let store = Variables::new(device());
    pixtok_torch::reseed(Seed(1));
    let mut tokenizer = Tokenizer::new(&store, model, &quantizer, size).unwrap();
    // A transformer starts nearly the same for all images and tokens. Codes that start from such
    // latents would be so near to each other that rounding decides between them.
    let transformer = store.entries().iter().any(|variable| variable.role == Role::Matrix);
    for variable in store.entries() {
        let layer = matches!(variable.role, Role::Matrix | Role::Conv);
        if transformer && layer && variable.component != Component::Decoder {
            let mut matrix = variable.tensor;
            no_grad(|| matrix *= 3.0);
        }
    }
    let latents = no_grad(|| tokenizer.latents(&images(4, size)));
    if tokenizer.quantizer.start_vectors().is_some() {
        tokenizer.quantizer.start(&latents, Seed(2), &mut || true).unwrap();
    }
    (store, tokenizer)
}

/// The sizes of the images of a trace.
#[derive(Clone)]
struct Sizes {
    example: ImageSize,
    /// Those that encoder and decoder must take.
    others: Vec<ImageSize>,
    /// Those that only the encoder must take.
    of_encoder: Vec<ImageSize>,
}

/// The agreement of a saved and loaded pair, which was traced with images of size `example`, on
/// images of two different numbers and of other sizes, twice each, because libtorch specialises a
/// function after its first run. Where only the encoder takes a size, the decoder is one that was
/// traced with it.
fn agreement(tokenizer: &Tokenizer, sizes: &Sizes) -> Agreement {
    let Sizes { example, others, of_encoder } = sizes;
    let folder = tempfile::tempdir().unwrap();
    let loaded = |name: &str, module: CModule| {
        let path = folder.path().join(name);
        module.save(&path).unwrap();
        assert_loads_anywhere(&path);
        CModule::load_on_device(&path, device()).unwrap()
    };
    let encoder = loaded("encoder.pt", trace::encoder(tokenizer, *example).unwrap());
    let decoder = loaded("decoder.pt", trace::decoder(tokenizer, *example).unwrap());
    let decoders: Vec<CModule> =
        of_encoder.iter().map(|size| trace::decoder(tokenizer, *size).unwrap()).collect();
    let mut all = Agreement::default();
    let pairs = others.iter().map(|size| (size, &decoder)).chain(of_encoder.iter().zip(&decoders));
    let batches = pairs.zip([3, 2].into_iter().cycle());
    for ((&other, decoder), batch) in batches.clone().chain(batches) {
        let images = images(batch, other);
        let found = trace::compare(tokenizer, (&encoder, decoder), &images).unwrap();
        all.positions += found.positions;
        all.ties += found.ties;
        all.wrong += found.wrong;
        all.image_difference = all.image_difference.max(found.image_difference);
    }
    all
}

#[test]
fn a_trace_of_any_kind_takes_images_of_any_number_and_size() {
    let mut all = kinds();
    let wide = json!({ "kind": "vq", "codebook_size": 24, "codebook_dim": 40 });
    // With 1 MiB, 819 codes are compared at a time.
    let blocks = json!({ "kind": "vq", "codebook_size": 2000, "codebook_dim": 40, "memory_budget": "1MiB" });
    all.extend([("vq of wide codes".to_owned(), wide), ("vq in blocks of codes".to_owned(), blocks)]);
    let networks: Vec<(String, model::Config, Sizes)> = networks()
        .into_iter()
        .flat_map(|network| {
            let (example, others) = (size(network.example), sizes(&network.others));
            network.variants.into_iter().map(move |variant| {
                let model = serde_json::from_value(variant.model).unwrap();
                let of_encoder = sizes(&variant.encoder_others);
                (variant.name, model, Sizes { example, others: others.clone(), of_encoder })
            })
        })
        .collect();
    let (mut positions, mut ties, mut difference) = (0, 0, 0f64);
    for (name, quantizer) in all {
        for (what, model, sizes) in &networks {
            let (store, tokenizer) = build_for(sizes.example, model.settings(), quantizer.clone());
            store.freeze(&Component::TOKENIZER);
            let found = agreement(&tokenizer, sizes);
            assert_eq!(found.wrong, 0, "{name}, {what}: {found:?}");
            assert!(found.image_difference <= 1e-5, "{name}, {what}: {found:?}");
            // Otherwise equal indices say nothing.
            let indices = tokenizer.encode(&images(4, sizes.example)).unwrap();
            assert!(indices.max().int64_value(&[]) > indices.min().int64_value(&[]), "{name}, {what}");
            positions += found.positions;
            ties += found.ties;
            difference = difference.max(found.image_difference);
        }
    }
    println!("{positions} positions, {ties} ties, images differ by {difference:e} at most");
    assert!(ties * 1000 <= positions, "{ties} of {positions} positions are ties");
}

#[test]
fn a_trace_that_fails_leaves_no_tracing_behind() {
    let model = Config { channels: 8, multipliers: vec![1, 2], ..Config::default() };
    let quantizer = json!({ "kind": "vq", "codebook_size": 24, "codebook_dim": 5 });
    let (store, tokenizer) = build(&model, quantizer);
    let refused = trace::encoder(&tokenizer, SIZE).unwrap_err().to_string();
    assert!(refused.contains("requires grad"), "{refused}");
    // libtorch refuses a trace inside another.
    store.freeze(&Component::TOKENIZER);
    trace::encoder(&tokenizer, SIZE).unwrap();
}

#[test]
fn what_rounding_decides_is_called_a_tie() {
    let model = Config { channels: 8, multipliers: vec![1, 2], ..Config::default() };
    // Latents that are the same everywhere, with the first number on either side of the edge at 0.
    let at_the_edge = |first: f32| {
        let (store, tokenizer) = build(&model, json!({ "kind": "lfq", "bits": 5 }));
        store.freeze(&Component::TOKENIZER);
        let mut variables = store.tensors();
        let _ = variables.get_mut("encoder.head.weight").unwrap().zero_();
        let bias = Tensor::from_slice(&[first, 1.0, -1.0, 1.0, -1.0]);
        variables.get_mut("encoder.head.bias").unwrap().copy_(&bias);
        tokenizer
    };
    let (ours, other) = (at_the_edge(1e-7), at_the_edge(-1e-7));
    let pair = (trace::encoder(&other, SIZE).unwrap(), trace::decoder(&other, SIZE).unwrap());
    let found = trace::compare(&ours, (&pair.0, &pair.1), &images(2, SIZE)).unwrap();
    assert_eq!((found.ties, found.wrong), (found.positions, 0), "{found:?}");
}

#[test]
fn what_is_no_tie_is_called_wrong() {
    let model = Config { channels: 8, multipliers: vec![1, 2], ..Config::default() };
    let fsq = json!({ "kind": "fsq", "levels": [8, 5, 3] });
    let [(a, ours), (b, other)] = [fsq.clone(), fsq].map(|fsq| build(&model, fsq));
    a.freeze(&Component::TOKENIZER);
    b.freeze(&Component::TOKENIZER);
    let _ = b.tensors().get_mut("encoder.stem.bias").unwrap().fill_(0.5);
    let encoder = trace::encoder(&other, SIZE).unwrap();
    let decoder = trace::decoder(&other, SIZE).unwrap();
    let found = trace::compare(&ours, (&encoder, &decoder), &images(2, SIZE)).unwrap();
    assert!(found.wrong > found.positions / 10 && found.image_difference <= 1e-5, "{found:?}");
}
