//! Every quantizer agrees with stored numbers of an independent source: values, indices, each loss,
//! and the gradients of latent and losses with respect to the latent and every parameter.
//! `tests/kinds/quantizer/` has the cases, `tests/reference/` the numbers and the programs that
//! made them, which also say where a definition differs from the source's on purpose.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/kinds.rs"]
mod kinds;
#[path = "common/numbers.rs"]
mod numbers;

use std::collections::BTreeMap;

use numbers::{Numbers, assert_close, leaf, quantizer};
use pixtok::quantizer::Mode;
use pixtok_base::seed::Seed;
use pixtok_torch::no_grad;
use serde_json::Value;
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

#[test]
fn quantizers_agree_with_independent_sources() {
    let mut checked = 0;
    for reference in kinds::quantizers().into_iter().flat_map(|kind| kind.reference) {
        let (file, case) = reference.numbers.split_once('/').unwrap();
        let weights = check(file, case, &reference.quantizer);
        assert_eq!(weights, reference.weights, "{}, by {}", reference.numbers, reference.source);
        checked += 1;
    }
    assert!(checked > 15, "only {checked} comparisons were found");
}
