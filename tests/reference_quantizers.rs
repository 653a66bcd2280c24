//! Every quantizer agrees with stored numbers of an independent source: values, indices, each loss,
//! and the gradients of latent and losses with respect to the latent and every parameter.
//! `tests/reference/` has the numbers and the programs that made them, which also say where a
//! definition differs from the source's on purpose.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;

use std::collections::BTreeMap;

use numbers::{Numbers, assert_close, leaf, quantizer};
use pixtok::quantizer::Mode;
use pixtok_base::seed::Seed;
use pixtok_torch::no_grad;
use serde_json::{Value, json};
use tch::Kind;

/// The largest allowed difference of a value or a gradient, relative to the largest of its tensor.
const TOLERANCE: f64 = 1e-5;
/// No noise is drawn in these tests.
const TRAIN: Mode = Mode::train(Seed(0));

/// Compares everything that `common.record` stored for `case`, and returns the losses' weights.
fn check(file: &str, case: &str, config: &Value) -> BTreeMap<String, f64> {
    let numbers = Numbers::read(file);
    let theirs = |name: &str| numbers.get(&format!("{case}/{name}"));
    let z = leaf(&theirs("z"));
    let (store, mut quantizer) = quantizer(config.clone(), z.size()[1]);
    let variables = store.tensors();
    for (name, value) in numbers.under(&format!("{case}/var/")) {
        no_grad(|| variables[&name].shallow_clone().copy_(&value));
    }
    let quantized = quantizer.quantize(&z, TRAIN);
    assert_eq!(quantized.indices, theirs("indices"), "{case}: indices");
    assert_close(&format!("{case}: latent"), &quantized.latent, &theirs("latent"), TOLERANCE);
    assert_eq!(quantizer.lookup(&quantized.indices), quantized.latent, "{case}: lookup");

    let losses = numbers.under(&format!("{case}/loss/"));
    assert_eq!(quantized.losses.len(), losses.len(), "{case}: number of losses");
    let mut inputs = vec![("z".to_owned(), z.shallow_clone())];
    inputs.extend(store.tensors().into_iter().filter(|(_, tensor)| tensor.requires_grad()));
    let g = theirs("g");
    for source in ["latent"].into_iter().chain(quantized.losses.iter().map(|term| term.name)) {
        // `quantize` is pure, so each gradient may have its own pass.
        let again = quantizer.quantize(&z, TRAIN);
        let value = match again.losses.into_iter().find(|term| term.name == source) {
            Some(term) => term.value,
            None => (again.latent * &g).sum(Kind::Float),
        };
        if source != "latent" {
            assert_close(
                &format!("{case}: loss {source}"),
                &value,
                &theirs(&format!("loss/{source}")),
                TOLERANCE,
            );
        }
        inputs.iter_mut().for_each(|(_, tensor)| tensor.zero_grad());
        value.backward();
        for (input, tensor) in &inputs {
            let (what, ours) = (format!("{case}: gradient of {source} at {input}"), tensor.grad());
            match numbers.find(&format!("{case}/grad/{source}/{input}")) {
                Some(theirs) => assert_close(&what, &ours, &theirs, TOLERANCE),
                None => {
                    let none = !ours.defined() || ours.abs().max().double_value(&[]) == 0.0;
                    assert!(none, "{what}: there should be none");
                }
            }
        }
    }
    quantizer.update(&quantized.statistics, Seed(0));
    for (name, theirs) in numbers.under(&format!("{case}/after/")) {
        assert_close(&format!("{case}: {name} after the update"), &variables[&name], &theirs, TOLERANCE);
    }
    quantized.losses.iter().map(|term| (term.name.to_owned(), term.weight)).collect()
}

fn weights(of: &[(&str, f64)]) -> BTreeMap<String, f64> {
    of.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect()
}

fn vq(changed: Value) -> Value {
    let mut config = json!({ "kind": "vq", "codebook_size": 32, "codebook_dim": 8, "start": "uniform" });
    config.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    config
}

#[test]
fn vq_rotates_gradients_as_vector_quantize_pytorch_does() {
    let config = vq(json!({ "gradient_estimator": "rotation" }));
    assert_eq!(check("variants", "rotation", &config), weights(&[("commitment", 0.25)]));
}

#[test]
fn vq_by_diveq_agrees_with_vector_quantize_pytorch_without_noise() {
    let config = vq(json!({ "gradient_estimator": "diveq", "codebook_update": { "kind": "gradient" } }));
    assert_eq!(check("variants", "diveq", &config), weights(&[]));
}

#[test]
fn vq_by_cosine_agrees_with_vector_quantize_pytorch() {
    let config = vq(json!({ "distance": "cosine" }));
    assert_eq!(check("variants", "cosine", &config), weights(&[("commitment", 0.25)]));
}

#[test]
fn vq_by_cosine_with_a_trained_codebook_agrees_with_llamagen() {
    let config = vq(json!({ "distance": "cosine", "codebook_update": { "kind": "gradient" } }));
    let expected = weights(&[("commitment", 0.25), ("codebook", 1.0)]);
    assert_eq!(check("variants", "cosine-trained", &config), expected);
}

#[test]
fn vq_with_an_entropy_loss_agrees_with_maskgit() {
    let config = vq(json!({
        "codebook_update": { "kind": "gradient" }, "entropy_weight": 0.1, "entropy_temperature": 0.1,
    }));
    let expected = weights(&[("commitment", 0.25), ("codebook", 1.0), ("entropy", 0.1)]);
    assert_eq!(check("variants", "entropy", &config), expected);
}

#[test]
fn simvq_agrees_with_vector_quantize_pytorch() {
    for (case, estimator, bias) in [
        ("straight-through", "straight-through", false),
        ("rotation", "rotation", false),
        ("bias", "straight-through", true),
    ] {
        let config = json!({
            "kind": "simvq", "codebook_size": 32, "codebook_dim": 8, "gradient_estimator": estimator, "bias": bias,
        });
        let expected = weights(&[("commitment", 0.25), ("codebook", 1.0)]);
        assert_eq!(check("simvq", case, &config), expected);
    }
}

#[test]
fn lfq_agrees_with_vector_quantize_pytorch_and_in_groups_with_open_magvit2() {
    // The library's inverse temperature is 1/τ.
    for (case, bits, temperature) in [("lfq", 5, 1.0), ("lfq-9", 9, 2.0), ("lfq-groups", 12, 2.0)] {
        let config = json!({ "kind": "lfq", "bits": bits, "entropy_temperature": temperature });
        let expected = weights(&[("commitment", 0.25), ("entropy", 0.1)]);
        assert_eq!(check("binary", case, &config), expected);
    }
}

#[test]
fn bsq_agrees_with_vector_quantize_pytorch_and_bsq_vit() {
    let config = json!({ "kind": "bsq", "bits": 6, "inverse_temperature": 2.0, "entropy_group_bits": 3 });
    let expected = weights(&[("commitment", 0.0), ("entropy", 0.1)]);
    assert_eq!(check("binary", "bsq-vit", &config), expected);
    // Twice the library's inverse temperature of 4.
    let config = json!({ "kind": "bsq", "bits": 6, "inverse_temperature": 8.0 });
    assert_eq!(check("binary", "bsq", &config), expected);
}

#[test]
fn ibq_agrees_with_the_paper() {
    let config = json!({ "kind": "ibq", "codebook_size": 32, "codebook_dim": 8, "entropy_temperature": 0.2 });
    let expected =
        weights(&[("quantization", 1.0), ("commitment", 1.0), ("codebook", 0.25), ("entropy", 0.05)]);
    assert_eq!(check("ibq", "ibq", &config), expected);
}

fn small_vq() -> Value {
    json!({ "kind": "vq", "codebook_size": 32, "codebook_dim": 4, "start": "uniform" })
}

#[test]
fn residual_quantizers_agree_with_vector_quantize_pytorch() {
    let config = json!({ "kind": "residual", "stages": 3, "each": small_vq() });
    assert_eq!(check("several", "residual-vq", &config), weights(&[("commitment", 0.25)]));
    let config = json!({ "kind": "residual", "stages": 3, "each": { "kind": "fsq", "levels": [8, 5, 5] } });
    assert_eq!(check("several", "residual-fsq", &config), weights(&[]));
}

#[test]
fn residual_lfq_agrees_with_vector_quantize_pytorch() {
    let config = json!({ "kind": "residual", "stages": 2, "each": { "kind": "lfq", "bits": 5 } });
    check("several", "residual-lfq", &config);
}

#[test]
fn grouped_quantizers_agree_with_vector_quantize_pytorch() {
    let config = json!({ "kind": "grouped", "groups": 2, "each": small_vq() });
    assert_eq!(check("several", "grouped-vq", &config), weights(&[("commitment", 0.25)]));
    let config = json!({ "kind": "grouped", "groups": 2, "each": { "kind": "fsq", "levels": [8, 5, 5] } });
    assert_eq!(check("several", "grouped-fsq", &config), weights(&[]));
}
