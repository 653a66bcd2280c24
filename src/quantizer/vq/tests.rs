use tch::Device;

use super::*;
use crate::quantizer::GradientEstimator;
use crate::statistics::merge;
use crate::variables::{Component, Variables};
use pixtok_torch::no_grad;

fn config() -> Config {
    Config { codebook_size: 16, codebook_dim: 8, start: Start::Uniform, ..Config::default() }
}

fn gradient() -> CodebookUpdate {
    CodebookUpdate::Gradient { usage_decay: 0.99 }
}

fn build(config: &Config, channels: i64) -> (Variables, Vq) {
    pixtok_torch::reseed(Seed(11));
    let vs = Variables::new(Device::Cpu);
    let vq = Vq::new(&vs.scope(Component::Quantizer), config, channels).unwrap();
    (vs, vq)
}

fn latents(channels: i64) -> Tensor {
    pixtok_torch::reseed(Seed(12));
    Tensor::randn([2, 35, channels], (Kind::Float, Device::Cpu))
}

const TRAIN: Mode = Mode::train(Seed(1));

#[test]
fn lookup_is_the_latent_bit_for_bit() {
    for (channels, codebook_update) in [(8, CodebookUpdate::default()), (8, gradient()), (6, gradient())] {
        let (_vs, mut vq) = build(&Config { codebook_update, ..config() }, channels);
        // Codes that hold -0.0 must give the same result on both paths.
        let _ = no_grad(|| vq.codebook.select(1, 0).fill_(-0.0));
        vq.start(&latents(channels), Seed(1), &mut || true).unwrap();
        let _ = no_grad(|| vq.codebook.select(1, 0).fill_(-0.0));
        let quantized = vq.quantize(&latents(channels), TRAIN);
        let bits = |t: &Tensor| t.contiguous().view_dtype(Kind::Int);
        assert_eq!(bits(&quantized.latent), bits(&vq.lookup(&quantized.indices)));
    }
}

#[test]
fn each_loss_moves_its_own_tensor() {
    let (_vs, vq) = build(&Config { codebook_update: gradient(), ..config() }, 8);
    for (name, moves_codes) in [("commitment", false), ("codebook", true)] {
        let z = latents(8).set_requires_grad(true);
        let mut codebook = vq.codebook.shallow_clone();
        codebook.zero_grad();
        let losses = vq.quantize(&z, TRAIN).losses;
        let term = losses.iter().find(|term| term.name == name).unwrap();
        term.value.backward();
        let moved =
            |t: &Tensor| t.grad().defined() && t.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0;
        assert_eq!(moved(&vq.codebook), moves_codes, "{name} and the codebook");
        assert_eq!(moved(&z), !moves_codes, "{name} and the encoder");
    }
}

#[test]
fn the_reconstruction_reaches_the_encoder_and_not_the_codes() {
    let (_vs, vq) = build(&Config { codebook_update: gradient(), ..config() }, 8);
    let z = latents(8).set_requires_grad(true);
    vq.quantize(&z, TRAIN).latent.sum(Kind::Float).backward();
    assert_eq!(z.grad(), z.ones_like());
    assert!(!vq.codebook.grad().defined());
}

#[test]
fn quantize_changes_nothing_and_update_does() {
    let (_vs, mut vq) = build(&config(), 8);
    let state = |vq: &Vq| (vq.codebook.copy(), vq.counts.copy(), vq.sums.as_ref().unwrap().copy());
    let before = state(&vq);
    let quantized = vq.quantize(&latents(8), TRAIN);
    assert_eq!(state(&vq), before);
    vq.update(&quantized.statistics, Seed(0));
    assert_ne!(state(&vq), before);
    assert!(vq.quantize(&latents(8), Mode::Eval).statistics.is_empty());
}

#[test]
fn micro_batches_update_like_one_batch() {
    let whole = {
        let (_vs, mut vq) = build(&config(), 8);
        let quantized = vq.quantize(&latents(8), TRAIN);
        vq.update(&quantized.statistics, Seed(0));
        vq.codebook.copy()
    };
    let (_vs, mut vq) = build(&config(), 8);
    let parts = latents(8).chunk(2, 0).iter().map(|part| vq.quantize(part, TRAIN).statistics).collect();
    vq.update(&merge(parts), Seed(0));
    assert!((vq.codebook - whole).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn dead_codes_restart_at_vectors_of_the_step_and_stay() {
    for codebook_update in [CodebookUpdate::default(), gradient()] {
        let by_gradient = codebook_update == gradient();
        let (_vs, mut vq) =
            build(&Config { codebook_update, restart_threshold: 1.0, codebook_size: 32, ..config() }, 8);
        // One code near every vector, all others far away.
        no_grad(|| {
            let _ = vq.codebook.fill_(1e3);
            let _ = vq.codebook.select(0, 3).fill_(0.0);
            if let Some(sums) = &mut vq.sums {
                sums.copy_(&vq.codebook);
            }
        });
        let z = latents(8);
        let quantized = vq.quantize(&z, TRAIN);
        let report = vq.update(&quantized.statistics, Seed(0));
        assert_eq!(report.monitors[0].value.double_value(&[]), 31.0);
        let distance = Tensor::cdist(&vq.codebook, &vectors_from_latent(&z), 2.0, None).amin(1, false);
        let at_a_vector = distance.lt(1e-2).sum(Kind::Int64).int64_value(&[]);
        assert!(at_a_vector >= 31, "{at_a_vector} codes are at vectors");
        assert_eq!(report.replaced_rows.len(), usize::from(by_gradient));
        for rows in report.replaced_rows {
            assert_eq!(rows.variable, "quantizer.codebook");
            assert_eq!(rows.mask.sum(Kind::Int64).int64_value(&[]), 31);
        }
        let (unique, _, _) = vq.codebook.unique_dim(0, true, false, false);
        assert_eq!(unique.size()[0], 32, "distinct vectors while there are enough");
        // The restarted code keeps its place: an update without use moves it only by the
        // smoothing's 1e-5.
        if let Some(sums) = &vq.sums {
            let column = vq.counts.unsqueeze(1);
            assert!((sums / column - &vq.codebook).abs().max().double_value(&[]) < 1e-3);
        }
        assert!(vq.counts.ge(1.0).all().int64_value(&[]) == 1);
    }
}

#[test]
fn codes_restart_at_the_same_vectors_however_a_batch_is_divided() {
    let (_vs, vq) = build(&Config { restart_threshold: 1.0, ..config() }, 8);
    pixtok_torch::reseed(Seed(13));
    let z = Tensor::randn([4, 35, 8], (Kind::Float, Device::Cpu));
    let noise = Noise::new(Seed(14));
    let of_parts = |parts: i64, noise: Noise| -> Vec<Vec<Statistic>> {
        let first = |part: usize| part as u64 * (4 / parts as u64);
        let quantized = z.chunk(parts, 0).into_iter().enumerate().map(|(i, part)| {
            let noise = noise.at_place(first(i));
            vq.quantize(&part, Mode::Train { noise, world: World::alone() })
        });
        quantized.map(|quantized| quantized.statistics).collect()
    };
    let chosen = |lists: Vec<Vec<Statistic>>| pool(&merge(lists), "vectors").unwrap().copy();
    let whole = chosen(of_parts(1, noise));
    assert_eq!(whole.size(), [16, 8]);
    for parts in [2, 4] {
        assert_eq!(chosen(of_parts(parts, noise)), whole, "{parts} parts");
        assert_eq!(
            chosen(of_parts(parts, noise).into_iter().rev().collect()),
            whole,
            "{parts} parts, reversed"
        );
    }
    assert_ne!(chosen(of_parts(1, Noise::new(Seed(15)))), whole);
}

#[test]
fn start_runs_once_and_uses_the_latents() {
    let (_vs, mut vq) = build(&Config { start: Start::Kmeans, ..config() }, 8);
    assert_eq!(vq.start_vectors(), Some(64));
    let untouched = vq.codebook.copy();
    assert_eq!(vq.start(&latents(8), Seed(3), &mut || false).unwrap(), StartOutcome::Stopped);
    assert_eq!((vq.start_vectors(), &vq.codebook), (Some(64), &untouched), "a stopped start is owed still");
    assert_eq!(vq.start(&latents(8), Seed(3), &mut || true).unwrap(), StartOutcome::Whole);
    assert_eq!(vq.start_vectors(), None);
    assert_eq!(vq.counts.sum(Kind::Float).double_value(&[]), 70.0);
    let (_vs, mut other) = build(&Config { start: Start::Kmeans, ..config() }, 8);
    assert!(other.start(&(latents(8) * f64::NAN), Seed(3), &mut || true).is_err());
}

#[test]
fn not_a_number_stays_in_range() {
    let (_vs, vq) = build(&config(), 8);
    let indices = vq.quantize(&(latents(8) * f64::NAN), Mode::Eval).indices;
    assert!(indices.min().int64_value(&[]) >= 0 && indices.max().int64_value(&[]) < 16);
}

#[test]
fn settings_out_of_range_are_named() {
    let message = |config: Config| config.check().unwrap_err().to_string();
    assert!(message(Config { codebook_size: 1, ..config() }).contains("codebook_size is 1"));
    assert!(message(Config { codebook_dim: 0, ..config() }).contains("codebook_dim is 0"));
    assert!(
        message(Config { commitment_weight: Some(-1.0), ..config() }).contains("commitment_weight is -1")
    );
    let codebook_update = CodebookUpdate::Ema { decay: 1.0 };
    assert!(message(Config { codebook_update, ..config() }).contains("codebook_update.decay is 1"));
    assert!(message(Config { restart_threshold: -2.0, ..config() }).contains("restart_threshold is -2"));
    let diveq = Config { gradient_estimator: GradientEstimator::Diveq, ..config() };
    assert!(message(diveq.clone()).contains("moving average cannot"));
    let diveq = Config { codebook_update: gradient(), ..diveq };
    assert!(diveq.check().is_ok());
    assert!(message(Config { commitment_weight: Some(0.25), ..diveq }).contains("no auxiliary loss"));
    let entropy = Config { entropy_weight: 0.1, codebook_size: 1 << 26, ..config() };
    assert!(message(entropy.clone()).contains("memory_budget is 256MiB"));
    assert!(Config { codebook_size: 1 << 20, ..entropy }.check().is_ok());
}

#[test]
fn restarts_of_most_codes_are_said_and_the_remedy_follows_the_number() {
    // 16 codes; a fifth of a step's vectors per code is 1.6 for 128 vectors, and 0.16 for 12.
    let of = |restart_threshold: f64| Config { restart_threshold, ..config() };
    let advice = of(1.0).advice(12)[0].to_string();
    for part in ["restart_threshold 1 times 16 codes is 16", "over the 12 latent vectors", "to 0.15 or less"]
    {
        assert!(advice.contains(part), "{part:?} is missing in: {advice}");
    }
    assert_eq!(of(1.0).advice(16), []);
    assert_eq!(of(0.0).advice(1), []);
    let remedy = |threshold: f64, vectors| build(&of(threshold), 8).1.collapse_remedy(vectors);
    for (threshold, vectors, first) in [
        (0.0, 128, "set quantizer.restart_below to 0.125,"),
        (0.1, 128, "raise quantizer.restart_threshold, to 1.6 at most,"),
        (2.0, 128, "choose a smaller quantizer.codebook_size,"),
        (9.0, 128, "lower quantizer.restart_threshold to 1.6 or less ("),
    ] {
        let words = remedy(threshold, vectors).to_string();
        assert!(words.starts_with(first), "{threshold} of {vectors}: {words}");
        assert!(words.ends_with("or use kind = \"fsq\""), "{words}");
    }
    let share =
        |restart_below| build(&Config { restart_below, ..config() }, 8).1.collapse_remedy(128).to_string();
    assert!(share(0.1).starts_with("raise quantizer.restart_below, to 0.2 at most,"), "{}", share(0.1));
    assert!(share(0.2).starts_with("choose a smaller"), "{}", share(0.2));
}

#[test]
fn a_share_of_even_use_is_the_threshold_of_every_batch_and_size() {
    let z = latents(8);
    let updated = |config: Config| {
        let (_vs, mut vq) = build(&config, 8);
        for seed in 0..3 {
            let statistics = vq.quantize(&z, TRAIN).statistics;
            vq.update(&statistics, Seed(seed));
        }
        (vq.codebook, vq.counts)
    };
    for codebook_size in [16, 32] {
        let config = || Config { codebook_size, ..config() };
        // 70 vectors in a step; both numbers are exact in float32.
        let even = 70.0 / codebook_size as f64;
        let share = updated(Config { restart_below: 0.5, ..config() });
        assert_eq!(share, updated(Config { restart_threshold: 0.5 * even, ..config() }));
        assert_ne!(share.1, updated(config()).1, "some codes are restarted");
    }
}

#[test]
fn a_share_that_is_off_is_not_written_and_excludes_a_threshold() {
    let text = toml::to_string(&config()).unwrap();
    assert!(!text.contains("restart_below") && text.contains("restart_threshold"), "{text}");
    let share = Config { restart_below: 0.125, ..config() };
    assert!(share.check().is_ok());
    let text = toml::to_string(&share).unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), share);
    let message = |config: Config| config.check().unwrap_err().to_string();
    assert!(message(Config { restart_below: 1.0, ..config() }).contains("restart_below is 1"));
    let both = message(Config { restart_threshold: 1.0, ..share });
    assert!(both.contains("restart_below is 0.125 and quantizer.restart_threshold is 1; give one"), "{both}");
}

/// The advice warns of something that does happen.
#[test]
fn a_threshold_above_what_a_step_has_replaces_nearly_every_code_at_every_step() {
    let restarts = |restart_threshold| {
        let (_vs, mut vq) = build(&Config { restart_threshold, ..config() }, 8);
        vq.start(&latents(8), Seed(3), &mut || true).unwrap();
        // 70 vectors in a step, about 4 for each of the 16 codes.
        let mut replaced = vec![];
        for step in 0..30 {
            pixtok_torch::reseed(Seed(20 + step));
            let z = Tensor::randn([2, 35, 8], (Kind::Float, Device::Cpu));
            let quantized = vq.quantize(&z, TRAIN);
            let report = vq.update(&quantized.statistics, Seed(step));
            replaced.push(report.monitors[0].value.double_value(&[]));
        }
        replaced[10..].iter().sum::<f64>() / 20.0
    };
    let (fair, excessive) = (restarts(0.8), restarts(70.0));
    assert!(fair < 1.0, "{fair} of 16 codes a step");
    assert!(excessive > 15.0, "{excessive} of 16 codes a step");
}
