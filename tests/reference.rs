//! Agreement with stored numbers of scikit-image, vector-quantize-pytorch and PyTorch;
//! `tests/reference/` has the numbers and the programs that made them. `PIXTOK_TEST_DEVICE` chooses
//! the device (default `cpu`).

#[path = "common/numbers.rs"]
mod numbers;

use numbers::{Numbers, assert_close, leaf, quantizer};
use pixtok::metrics::{Computation, Metric};
use pixtok::optim::{self, Adamw, Decayed, Muon, Optimizer, Schedule, Sharing, muon};
use pixtok::quantizer::{LossTerm, Mode, Quantized, Quantizer};
use pixtok::variables::{Component, Role, Variable, Variables};
use pixtok_base::seed::Seed;
use pixtok_torch::no_grad;
use serde_json::json;
use tch::{Kind, Tensor};

/// The largest allowed difference of a value, relative to the largest of its tensor.
const VALUES: f64 = 1e-6;
/// The largest allowed difference of a gradient, relative to the largest of its tensor.
const GRADIENTS: f64 = 1e-5;
/// No noise is drawn in these tests.
const TRAIN: Mode = Mode::train(Seed(0));

#[test]
fn metrics_agree_with_scikit_image_and_torchmetrics() {
    let numbers = Numbers::read("metrics");
    for &metric in Metric::ALL {
        let Computation::Image(computed) = metric.computation() else { continue };
        // Its own tests compare it with what its crate gave.
        if metric == Metric::Ssimulacra2 {
            continue;
        }
        let (name, mut compared) = (metric.name(), 0);
        for (pair, theirs) in Vec::<f64>::try_from(numbers.get(name)).unwrap().into_iter().enumerate() {
            let image = |which: &str| numbers.get(&format!("{pair}/{which}")).unsqueeze(0);
            // NaN if the images are too small for the metric.
            match computed.measure(&image("a"), &image("b")) {
                Err(absent) => assert!(theirs.is_nan(), "pair {pair}, {name}: {absent:?}"),
                Ok(ours) => {
                    let ours = ours.double_value(&[0]);
                    assert!((ours - theirs).abs() < VALUES, "pair {pair}, {name}: {ours} against {theirs}");
                    compared += 1;
                }
            }
        }
        // The last five pairs are large enough for each.
        assert!(compared >= 5, "{name}: {compared} pairs were compared");
    }
}

#[test]
fn fsq_agrees_with_the_notebook_and_with_vector_quantize_pytorch() {
    let numbers = Numbers::read("fsq");
    let level_sets: [&[i64]; 5] = [&[8, 5, 5, 5], &[5, 3], &[8, 6, 5], &[7, 5, 5, 5, 5], &[8, 8, 8, 5, 5, 5]];
    for levels in level_sets {
        let set = levels.iter().map(i64::to_string).collect::<Vec<_>>().join("-");
        for (bound, settings) in [
            ("paper", json!({ "bound": "paper" })),
            ("tanh", json!({ "bound": "tanh" })),
            ("sigmoid-1.0", json!({ "bound": "sigmoid", "slope": 1.0 })),
            ("sigmoid-1.6", json!({ "bound": "sigmoid", "slope": 1.6 })),
            ("sigmoid-2.0", json!({ "bound": "sigmoid", "slope": 2.0 })),
        ] {
            let mut config = settings;
            config["kind"] = json!("fsq");
            config["levels"] = json!(levels);
            let (_store, fsq) = quantizer(config, levels.len() as i64);
            let z = leaf(&numbers.get(&format!("{set}/z")));
            let Quantized { latent, indices, .. } = fsq.quantize(&z, TRAIN);
            (&latent * numbers.get(&format!("{set}/g"))).sum(Kind::Float).backward();
            let (key, what) = (|name: &str| format!("{set}/{bound}/{name}"), format!("{set} {bound}"));
            assert_eq!(indices, numbers.get(&key("indices")), "{what}: indices");
            assert_close(&format!("{what}: latent"), &latent, &numbers.get(&key("latent")), VALUES);
            assert_close(&format!("{what}: dz"), &z.grad(), &numbers.get(&key("dz")), GRADIENTS);
            assert_close(&format!("{what}: lookup"), &fsq.lookup(&indices), &latent, 0.0);
        }
    }
}

/// The case of `vq.py`: K = 32, D = 8, with the codebook that the numbers start from.
fn vq(
    numbers: &Numbers,
    update: serde_json::Value,
    restart_threshold: f64,
) -> (Variables, Box<dyn Quantizer>) {
    let config = json!({
        "kind": "vq", "codebook_size": 32, "codebook_dim": 8, "commitment_weight": 0.25,
        "codebook_update": update, "start": "uniform", "restart_threshold": restart_threshold,
    });
    let (store, vq) = quantizer(config, 8);
    for name in ["codebook", "sums"] {
        if let Some(variable) = store.tensors().get_mut(name) {
            no_grad(|| variable.copy_(&numbers.get("codebook")));
        }
    }
    (store, vq)
}

fn ema() -> serde_json::Value {
    json!({ "kind": "ema", "decay": 0.99 })
}

fn loss<'a>(losses: &'a [LossTerm], name: &str) -> &'a LossTerm {
    losses.iter().find(|term| term.name == name).unwrap_or_else(|| panic!("no loss `{name}`"))
}

/// The gradients of (latent · g).sum() for z, and of the weighted losses for each of `inputs`. They
/// are separate because the second are a thousandth of the first.
fn gradients(quantized: &Quantized, g: &Tensor, inputs: &[&Tensor]) -> (Tensor, Vec<Tensor>) {
    let latent = (&quantized.latent * g).sum(Kind::Float);
    let dz_latent = Tensor::run_backward(&[latent], &inputs[..1], true, false).remove(0);
    let losses: Tensor = quantized.losses.iter().map(|term| &term.value * term.weight).sum();
    (dz_latent, Tensor::run_backward(&[losses], inputs, false, false))
}

#[test]
fn vq_by_moving_average_agrees_with_vector_quantize_pytorch_over_two_steps() {
    let numbers = Numbers::read("vq");
    let (store, mut vq) = vq(&numbers, ema(), 0.0);
    for step in 1..=2 {
        let theirs = |name: &str| numbers.get(&format!("ema/{step}/{name}"));
        let z = leaf(&numbers.get(&format!("z{step}")));
        let quantized = vq.quantize(&z, TRAIN);
        let (dz_latent, dz_losses) = gradients(&quantized, &numbers.get(&format!("g{step}")), &[&z]);
        let losses = &quantized.losses;
        assert_eq!(losses.len(), 1, "the codebook has no loss of its own");
        assert_eq!(loss(losses, "commitment").weight, 0.25);
        assert_eq!(quantized.indices, theirs("indices"), "step {step}: indices");
        for (name, ours, allowed) in [
            ("latent", &quantized.latent, VALUES),
            ("commitment", &loss(losses, "commitment").value, VALUES),
            ("dz_latent", &dz_latent, GRADIENTS),
            ("dz_losses", &dz_losses[0], GRADIENTS),
        ] {
            assert_close(&format!("step {step}: {name}"), ours, &theirs(name), allowed);
        }
        vq.update(&quantized.statistics, Seed(0));
        for (ours, name) in [("codebook", "embed"), ("counts", "cluster_size"), ("sums", "embed_avg")] {
            let variable = &store.tensors()[ours];
            assert_close(&format!("step {step}: {ours}"), variable, &theirs(name), VALUES);
        }
    }
}

#[test]
fn vq_restarts_the_codes_that_vector_quantize_pytorch_restarts() {
    let numbers = Numbers::read("vq");
    let theirs = |name: &str| numbers.get(&format!("restart/{name}"));
    let (store, mut vq) = vq(&numbers, ema(), 0.995);
    let z = numbers.get("z1");
    let quantized = vq.quantize(&z, TRAIN);
    let report = vq.update(&quantized.statistics, Seed(0));
    assert!(report.replaced_rows.is_empty(), "a buffer has no optimizer moments");

    let replaced = theirs("replaced").nonzero().squeeze_dim(1);
    let kept = theirs("replaced").logical_not().nonzero().squeeze_dim(1);
    let ours = |name: &str, rows: &Tensor| store.tensors()[name].index_select(0, rows);
    assert_close("all counts", &store.tensors()["counts"], &theirs("cluster_size"), VALUES);
    for (name, library) in [("codebook", "embed"), ("sums", "embed_avg")] {
        assert_close(
            &format!("kept {name}"),
            &ours(name, &kept),
            &theirs(library).index_select(0, &kept),
            VALUES,
        );
    }
    // The vectors of replaced codes are random: each is one of this step's, and none is used twice.
    let vectors = z.permute([0, 2, 3, 1]).reshape([-1, 8]);
    let codes = ours("codebook", &replaced);
    let equal = codes.unsqueeze(1).eq_tensor(&vectors.unsqueeze(0)).all_dim(2, false);
    let ones = Tensor::ones_like(&replaced);
    assert_eq!(equal.sum_dim_intlist(1, false, Kind::Int64), ones, "a replaced code is a vector of the step");
    assert_eq!(
        equal.any_dim(0, false).sum(Kind::Int64),
        replaced.size()[0].into(),
        "two codes at one vector"
    );
    assert_close("replaced sums", &ours("sums", &replaced), &(codes * 0.995), VALUES);
}

#[test]
fn vq_by_gradient_agrees_with_vector_quantize_pytorch() {
    let numbers = Numbers::read("vq");
    let theirs = |name: &str| numbers.get(&format!("trained/{name}"));
    let (store, vq) = vq(&numbers, json!({ "kind": "gradient" }), 0.0);
    let z = leaf(&numbers.get("z1"));
    let quantized = vq.quantize(&z, TRAIN);
    let codebook = &store.tensors()["codebook"];
    let (dz_latent, of_losses) = gradients(&quantized, &numbers.get("g1"), &[&z, codebook]);
    let losses = &quantized.losses;
    assert_eq!((loss(losses, "codebook").weight, loss(losses, "commitment").weight), (1.0, 0.25));
    assert_eq!(quantized.indices, theirs("indices"));
    for (name, ours, allowed) in [
        ("latent", &quantized.latent, VALUES),
        ("codebook_loss", &loss(losses, "codebook").value, VALUES),
        ("commitment", &loss(losses, "commitment").value, VALUES),
        ("dz_latent", &dz_latent, GRADIENTS),
        ("dz_losses", &of_losses[0], GRADIENTS),
        ("dcodebook", &of_losses[1], GRADIENTS),
    ] {
        assert_close(name, ours, &theirs(name), allowed);
    }
}

/// These tensors as weights called 0, 1, 2.
fn variables(parameters: &[Tensor]) -> Vec<Variable> {
    let weight = |(i, tensor): (usize, &Tensor)| Variable {
        name: i.to_string(),
        tensor: tensor.shallow_clone(),
        role: Role::Matrix,
        component: Component::Decoder,
        touches_pixels: false,
        trained: true,
    };
    parameters.iter().enumerate().map(weight).collect()
}

/// Parameters with these values, and AdamW for them under the names 0, 1, 2.
fn adamw(config: &optim::Config, values: &[Tensor]) -> (Vec<Tensor>, Adamw) {
    let parameters: Vec<Tensor> = values.iter().map(leaf).collect();
    let adamw = Adamw::new(config, variables(&parameters));
    (parameters, adamw)
}

/// Sets the gradient of each parameter to exactly `gradient`.
fn set_gradients(parameters: &[Tensor], gradient: impl Fn(usize) -> Tensor) {
    let terms =
        parameters.iter().enumerate().map(|(i, parameter)| (parameter * gradient(i)).sum(Kind::Float));
    terms.sum::<Tensor>().backward();
}

#[test]
fn adamw_agrees_with_pytorch_step_for_step() {
    let numbers = Numbers::read("adamw");
    let initial = [0, 1, 2].map(|i| numbers.get(&format!("{i}/initial")));
    for (run, weight_decay) in [("fused", 1e-4), ("plain", 1e-4), ("decay", 0.1)] {
        let schedule = Schedule::Cosine { warmup_steps: 4, final_factor: 0.0 };
        let config = optim::Config {
            lr: 1e-2,
            betas: (0.9, 0.95),
            weight_decay,
            decayed: Decayed::All,
            schedule,
            ..optim::Config::default()
        };
        let (parameters, mut adamw) = adamw(&config, &initial);
        for step in 0..10 {
            set_gradients(&parameters, |i| numbers.get(&format!("gradient/{step}/{i}")));
            adamw.step(config.lr * config.schedule.factor(step, 10), None).unwrap();
            for parameter in &parameters {
                parameter.shallow_clone().zero_grad();
            }
            let state = adamw.state();
            for (i, parameter) in parameters.iter().enumerate() {
                let key = |name: &str| format!("{run}/{step}/{i}/{name}");
                assert_close(&key("value"), parameter, &numbers.get(&key("value")), VALUES);
                for moment in ["exp_avg", "exp_avg_sq"] {
                    assert_close(
                        &key(moment),
                        &state[&format!("{i}.{moment}")],
                        &numbers.get(&key(moment)),
                        VALUES,
                    );
                }
            }
        }
    }
}

#[test]
fn muon_agrees_with_pytorch_step_for_step() {
    let numbers = Numbers::read("muon");
    let parameters = [0, 1, 2].map(|i| leaf(&numbers.get(&format!("{i}/initial"))));
    let mut muon = Muon::new(&muon::Config { lr: 0.04, momentum: 0.95 }, 0.1, variables(&parameters));
    for step in 0..6 {
        set_gradients(&parameters, |i| numbers.get(&format!("gradient/{step}/{i}")));
        muon.step(0.5, None);
        let state = muon.state();
        for (i, parameter) in parameters.iter().enumerate() {
            parameter.shallow_clone().zero_grad();
            let key = |name: &str| format!("{step}/{i}/{name}");
            assert_close(&key("value"), parameter, &numbers.get(&key("value")), VALUES);
            let momentum = &state[&format!("{i}.momentum_buffer")];
            assert_close(&key("momentum"), momentum, &numbers.get(&key("momentum_buffer")), VALUES);
        }
    }
}

#[test]
fn clipping_agrees_with_pytorch() {
    let numbers = Numbers::read("adamw");
    for case in ["over", "under"] {
        let gradient = |i: usize| numbers.get(&format!("clip/{case}/gradient/{i}"));
        let config = optim::Config { clip_norm: 1.0, ..optim::Config::default() };
        let parameters = [0, 1, 2].map(|i| leaf(&gradient(i)));
        let optimizer = Optimizer::new(&config, variables(&parameters), Sharing::WHOLE);
        set_gradients(&parameters, gradient);
        let norm = optimizer.clip().unwrap();
        assert_close(&format!("{case}: norm"), &norm, &numbers.get(&format!("clip/{case}/norm")), VALUES);
        for (i, parameter) in parameters.iter().enumerate() {
            let key = format!("clip/{case}/{i}");
            assert_close(&key, &parameter.grad(), &numbers.get(&key), GRADIENTS);
        }
    }
}

#[test]
fn the_schedule_is_the_yardsticks() {
    let theirs = Vec::<f64>::try_from(Numbers::read("adamw").get("schedule")).unwrap();
    let schedule = Schedule::Cosine { warmup_steps: 50, final_factor: 0.0 };
    for (step, theirs) in (0..).zip(theirs) {
        let ours = 2e-3 * schedule.factor(step, 600);
        assert!((ours - theirs).abs() <= 1e-15, "step {step}: {ours} against {theirs}");
    }
}
