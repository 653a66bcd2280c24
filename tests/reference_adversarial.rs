//! The losses of discriminator and tokenizer agree with transcriptions in PyTorch;
//! `tests/reference/adversarial.py` made the numbers. `PIXTOK_TEST_DEVICE` chooses the device
//! (default `cpu`).
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;

use numbers::{Numbers, assert_close, device, leaf};
use pixtok::adversarial::{
    Adversary, Config, GanLoss, Lecam, LecamConfig, adaptive_weight, gradient_penalty,
};
use pixtok::variables::{Component, Variables};
use pixtok::world::World;
use pixtok_base::seed::Seed;
use pixtok_torch::{Noise, no_grad};
use tch::{Kind, Tensor};

const VALUES: f64 = 1e-6;
const GRADIENTS: f64 = 1e-5;

/// Asserts that the gradients of `value` at both leaves are those stored under `key`, if there are
/// any.
fn assert_gradients(numbers: &Numbers, key: &str, value: &Tensor, leaves: [&Tensor; 2]) {
    assert_close(key, &value.detach(), &numbers.get(key), VALUES);
    value.backward();
    for (side, leaf) in ["real", "fake"].into_iter().zip(leaves) {
        if let Some(expected) = numbers.find(&format!("{key}/gradient_{side}")) {
            assert_close(&format!("{key}/{side}"), &leaf.grad(), &expected, GRADIENTS);
        }
    }
}

#[test]
fn both_sides_losses_are_the_fields() {
    let numbers = Numbers::read("adversarial");
    let logits = || ["real", "fake"].map(|side| leaf(&numbers.get(&format!("logits/{side}"))));
    for (name, loss) in [
        ("hinge", GanLoss::Hinge),
        ("non-saturating", GanLoss::NonSaturating),
        ("least-squares", GanLoss::LeastSquares),
    ] {
        let [real, fake] = logits();
        let value = loss.of_tokenizer(&fake);
        assert_gradients(&numbers, &format!("{name}/tokenizer"), &value, [&real, &fake]);
        let [real, fake] = logits();
        let value = loss.of_discriminator(&real, &fake);
        assert_gradients(&numbers, &format!("{name}/discriminator"), &value, [&real, &fake]);
    }
}

#[test]
fn lecam_is_the_papers() {
    let numbers = Numbers::read("adversarial");
    let store = Variables::new(device());
    let mut lecam =
        Lecam::new(&store.root(Component::Discriminator), &LecamConfig { weight: 1.0, decay: 0.999 });
    for (name, mut average) in store.tensors() {
        average.copy_(&numbers.get(&format!("lecam/average_{name}")));
    }
    let [real, fake] = ["real", "fake"].map(|side| leaf(&numbers.get(&format!("logits/{side}"))));
    let value = lecam.regularization(&real, &fake);
    assert_gradients(&numbers, "lecam/value", &value, [&real, &fake]);
}

/// Asserts that a discriminator with `config` has the logits and the gradient penalty stored under
/// `key`. If it starts from its first images, its norms must reach the stored values by themselves.
fn assert_discriminator(numbers: &Numbers, key: &str, images: &Tensor, config: &str, starts: bool) {
    let config: Config = toml::from_str(&format!("discriminator = {{ {config} }}")).unwrap();
    let store = Variables::new(device());
    let adversary = Adversary::new(&store, &config, (24, 40)).unwrap();
    let variables = store.tensors();
    let stored = numbers.under(&format!("{key}/weights/"));
    assert_eq!(stored.len(), variables.len(), "{key}: as many parameters");
    for (name, value) in &stored {
        if !(starts && name.contains("norm")) {
            no_grad(|| variables[&format!("discriminator.{name}")].shallow_clone().copy_(value));
        }
    }
    adversary.discriminator.start(images, World::alone());
    for (name, value) in &stored {
        let ours = variables[&format!("discriminator.{name}")].detach();
        assert_close(&format!("{key}: {name}"), &ours, value, GRADIENTS);
    }
    let get = |name: &str| numbers.get(&format!("{key}/{name}"));
    let logits = adversary.judge(images, Noise::new(Seed(0)), World::alone());
    assert_close(&format!("{key}: logits"), &logits.detach(), &get("logits"), 1e-5);
    let x = leaf(images);
    let penalty = gradient_penalty(&adversary.discriminator.logits(&x, World::alone()), &x);
    assert_close(&format!("{key}: r1"), &penalty.detach(), &get("r1"), 1e-5);
    penalty.backward();
    let gradients = numbers.under(&format!("{key}/r1_gradient/"));
    assert!(gradients.len() > 4);
    for (name, gradient) in gradients {
        let ours = variables[&format!("discriminator.{name}")].grad();
        assert_close(&format!("{key}: gradient of {name}"), &ours, &gradient, 1e-4);
    }
}

#[test]
fn patches_and_their_gradient_penalty_are_the_originals() {
    let numbers = Numbers::read("adversarial");
    for norm in ["batch", "actnorm"] {
        let config = format!("kind = \"patch\", channels = 8, layers = 2, norm = \"{norm}\"");
        let key = format!("patch/{norm}");
        assert_discriminator(&numbers, &key, &numbers.get("patch/images"), &config, norm == "actnorm");
    }
}

#[test]
fn stylegans_and_their_gradient_penalty_are_the_originals() {
    let numbers = Numbers::read("adversarial");
    let config = "kind = \"stylegan\", channels = 8, most_channels = 16";
    assert_discriminator(&numbers, "stylegan", &numbers.get("stylegan/images"), config, false);
}

#[test]
fn the_adaptive_weight_is_tamings() {
    let numbers = Numbers::read("adversarial");
    let get = |name: &str| numbers.get(&format!("adaptive/{name}"));
    let weight = leaf(&get("weight"));
    let recon = get("features").conv2d(&weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1);
    let of_terms = recon.l1_loss(&get("images"), tch::Reduction::Mean);
    let of_adversary: Tensor = -recon.square().mean(Kind::Float);
    let [of_terms, of_adversary] =
        [of_terms, of_adversary].map(|loss| Tensor::run_backward(&[loss], &[&weight], true, false).remove(0));
    assert_close("of the terms", &of_terms, &get("of_terms"), GRADIENTS);
    assert_close("of the adversary", &of_adversary, &get("of_adversary"), GRADIENTS);
    assert_close("the weight", &adaptive_weight(&of_terms, &of_adversary, 1e4), &get("value"), GRADIENTS);
    assert_close("its limit", &adaptive_weight(&of_terms, &of_adversary, 0.01), &get("clamped"), GRADIENTS);
}
