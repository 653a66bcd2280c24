//! Encoders and decoders agree with stored numbers of transcriptions, with the same weights; the
//! programs in `tests/reference/` made them. `PIXTOK_TEST_DEVICE` chooses the device (default
//! `cpu`).
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;

use numbers::{Numbers, assert_close, device, leaf};
use pixtok::model::{self, Decode, Decoder, Encoder, ImageSize, TokenShape};
use pixtok::quantizer::{Mode, QuantizerConfig};
use pixtok::variables::{Component, Variables};
use pixtok_torch::no_grad;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// The allowed difference of results and gradients, as a share of the largest.
const ALLOWED: f64 = 1e-5;

/// Both halves of a network with stored weights.
struct Halves {
    variables: Variables,
    encoder: Box<dyn Encoder>,
    decoder: Box<dyn Decoder>,
}

impl Halves {
    /// The network of these settings, trained on images of this size. Its weights are stored under
    /// `prefix`.
    fn new(numbers: &Numbers, prefix: &str, model: Value, trained: ImageSize) -> Self {
        let config: model::Config = serde_json::from_value(model).unwrap();
        let quantizer: QuantizerConfig =
            serde_json::from_value(json!({ "kind": "fsq", "levels": [8, 5, 5, 5, 5] })).unwrap();
        let plan = config.settings().plan(&quantizer, trained.into()).unwrap();
        let variables = Variables::new(device());
        let encoder = plan.encoder(&variables.scope(Component::Encoder));
        let decoder = plan.decoder(&variables.scope(Component::Decoder));
        no_grad(|| {
            for (name, tensor) in &mut variables.tensors() {
                let value = numbers.get(&format!("{prefix}{name}"));
                assert_eq!(tensor.size(), value.size(), "{name}");
                tensor.copy_(&value);
            }
        });
        Self { variables, encoder, decoder }
    }

    /// Compares the results at this size with those stored under `case`, whose inputs are stored
    /// under `inputs`, and the gradients of as many weights as are stored.
    fn compare(&self, numbers: &Numbers, inputs: &str, case: &str) {
        let input = |name: &str| numbers.get(&format!("{inputs}{name}"));
        let theirs = |name: &str| numbers.get(&format!("{case}{name}"));
        let close = |name: &str, ours: &Tensor| {
            assert_close(&format!("{case}{name}"), &ours.detach(), &theirs(name), ALLOWED);
        };
        let (images, z) = (leaf(&input("images")), leaf(&input("z")));
        let image = model::size_of(&images);
        let shape = self.encoder.shape(image).unwrap();
        let latents = self.encoder.forward(&images, Mode::Eval);
        close("latents", &latents);
        let how = Decode { mode: Mode::Eval, places: None };
        let recon = self.decoder.forward(&z, shape, image, &how);
        close("recon", &recon);
        // As the codec decodes, from indices in their grid.
        if let TokenShape::Grid { h, w } = shape {
            let places = Tensor::zeros([1, i64::from(h), i64::from(w)], (Kind::Int64, device()));
            let by_places = Decode { places: Some(&places), ..how };
            let decoded = |how| no_grad(|| self.decoder.forward(&z, shape, image, how));
            assert_eq!(decoded(&by_places), decoded(&how));
        }

        for tensor in self.variables.tensors().values_mut() {
            tensor.zero_grad();
        }
        let total = |ours: Tensor, gradient: &str| (ours * input(gradient)).sum(Kind::Float);
        (total(latents, "g_latents") + total(recon, "g_recon")).backward();
        close("grad/images", &images.grad());
        close("grad/z", &z.grad());
        for (name, tensor) in self.variables.tensors() {
            let name = format!("grad/{name}");
            if numbers.find(&format!("{case}{name}")).is_some() {
                close(&name, &tensor.grad());
            }
        }
    }
}

/// Of the images of `vit.py` at the trained size.
const TRAINED: ImageSize = ImageSize { height: 6, width: 8 };

#[test]
fn a_vit_with_rotary_positions_agrees_with_its_transcription() {
    let numbers = Numbers::read("vit");
    for attention_norm in ["none", "qk-rms", "key-l2"] {
        for extension in ["none", "interpolate", "ntk"] {
            let model = json!({
                "kind": "vit", "patch": 2, "width": 16, "depth": 2, "heads": 2,
                "decoder_width": 12, "decoder_depth": 1, "decoder_heads": 1,
                "attention_norm": attention_norm, "extension": extension,
            });
            let halves = Halves::new(&numbers, "rope/var/", model, TRAINED);
            // An extension changes nothing at the trained size.
            let trained = format!("rope/trained/{attention_norm}/none/");
            halves.compare(&numbers, "rope/trained/", &trained);
            let larger = format!("rope/larger/{attention_norm}/{extension}/");
            halves.compare(&numbers, "rope/larger/", &larger);
        }
    }
}

#[test]
fn a_vit_with_learned_positions_agrees_with_its_transcription() {
    let numbers = Numbers::read("vit");
    let model = json!({
        "kind": "vit", "patch": 2, "width": 8, "depth": 1, "heads": 2,
        "decoder_width": 12, "decoder_depth": 1, "decoder_heads": 1,
        "norm": "layer", "feed_forward": "gelu", "positions": "learned", "extension": "interpolate",
        "registers": 3, "layer_scale": 1e-5, "head_conv": true,
    });
    let halves = Halves::new(&numbers, "learned/var/", model, TRAINED);
    halves.compare(&numbers, "learned/trained/", "learned/trained/none/none/");
    halves.compare(&numbers, "learned/larger/", "learned/larger/none/interpolate/");
}
