//! Tests transformers in what a tokenizer does for a user: images become tokens in every format,
//! and images again.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::sequence::{FSQ, RESIDUAL, SIZE, decoding, encoded, encoding, picture, pictures};
use crate::batches::{picture_of, tensor_of};
use crate::config::Config;
use crate::export::{DecodeOptions, EncodeOptions, decode_by};
use crate::model::{Tokenizer, images_from_bytes};
use crate::run::{Opened, Tell, Trained};
use crate::variables::{Component, Role, Variables};
use pixtok_base::seed::Seed;
use pixtok_tokens::{FormatKind, TokenSet};
use pixtok_torch::no_grad;

const VQ: &str = "kind = \"vq\"\ncodebook_size = 8\ncodebook_dim = 3\nstart = \"kmeans\"";
const VIT: &str = "kind = \"vit\"\npatch = 4\nwidth = 32\ndepth = 1\nheads = 2\nregisters = 1";
const ONE_D: &str = "kind = \"one-d\"\npatch = 4\nwidth = 32\ndepth = 1\nheads = 2\nlatent_tokens = 5\n\
    tail_drop = { keep_full = 0.5 }";

/// A tokenizer as if it was trained: codes that differ lie among its latents, which differ.
fn tokenizer(quantizer: &str, model: &str) -> Trained {
    let data = "train = \"none\"\nimage_size = [16, 24]";
    let text = format!("[data]\n{data}\n[quantizer]\n{quantizer}\n[model]\n{model}\n");
    let config = toml::from_str::<Config>(&text).unwrap().resolved();
    let store = Variables::new(Device::Cpu);
    pixtok_torch::reseed(Seed(1));
    let mut tokenizer =
        Tokenizer::new(&store, config.model.settings(), &config.quantizer, &config.data).unwrap();
    for variable in store.entries() {
        let layer = matches!(variable.role, Role::Matrix | Role::Conv);
        if layer && variable.component == Component::Encoder {
            let mut matrix = variable.tensor;
            no_grad(|| matrix *= 3.0);
        }
    }
    if tokenizer.quantizer.start_vectors().is_some() {
        let noise = Tensor::randint(256, [8, 3, 16, 24], (Kind::Uint8, Device::Cpu));
        let latents = no_grad(|| tokenizer.latents(&images_from_bytes(&noise)));
        tokenizer.quantizer.start(&latents, Seed(2), &mut || true).unwrap();
    }
    Trained::from_parts(config, tokenizer, store)
}

/// images → tokens → file → images equals images → tokens → images, bit for bit.
#[test]
fn what_a_transformer_encoded_is_decoded_from_every_format() {
    let scratch = tempfile::tempdir().unwrap();
    let images = pictures(scratch.path());
    for (network, model) in [("vit", VIT), ("one-d", ONE_D)] {
        for (name, quantizer) in [("fsq", FSQ), ("vq", VQ), ("residual", RESIDUAL)] {
            let opened = Opened::Own(Box::new(tokenizer(quantizer, model)));
            let codec = opened.codec();
            // One image at a time here and below, because matrix products of other sizes may differ
            // in their last bits.
            let expected: BTreeMap<String, Tensor> = (0..7)
                .map(|i| {
                    let original = tensor_of(&picture(&images.join(format!("{i}.png")))).unwrap();
                    (i.to_string(), codec.encode(&original.unsqueeze(0)).unwrap())
                })
                .collect();
            let all = Tensor::cat(&expected.values().collect::<Vec<_>>(), 0);
            assert!(all.max().int64_value(&[]) > all.min().int64_value(&[]), "{network} {name}");
            for &format in FormatKind::ALL {
                let what = format!("{network}-{name}-{format}");
                let at = |part: &str| scratch.path().join(format!("{what}-{part}"));
                let one = EncodeOptions { batch_size: Some(1), ..encoding(&images, &at("tokens"), format) };
                encoded(&opened, &one).unwrap();
                let sets = TokenSet::find(&at("tokens")).unwrap();
                let one = DecodeOptions { batch_size: Some(1), ..decoding(&at("tokens"), &at("images")) };
                decode_by(&opened, Device::Cpu, &sets, &one, Tell::to(&|_| ())).unwrap();
                let rows: Vec<_> = sets[0].rows().map(Result::unwrap).collect();
                assert_eq!(rows.len(), 7, "{what}");
                for row in rows {
                    let indices = &expected[&row.key];
                    let codes: Vec<i64> = Vec::try_from(indices.flatten(0, -1)).unwrap();
                    let ids: Vec<i64> = row.ids.iter().map(|&id| id.into()).collect();
                    assert_eq!(ids, codes, "{what}: {}", row.key);
                    let recon = codec.decode(indices, SIZE).unwrap().get(0);
                    let written = picture(&at("images").join(format!("{}.png", row.key)));
                    assert_eq!(written, picture_of(&recon).unwrap(), "{what}: {}", row.key);
                }
            }
        }
    }
}
