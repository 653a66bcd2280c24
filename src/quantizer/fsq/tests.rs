use tch::Device;

use super::config::RECOMMENDED;
use super::grid::Squash;
use super::*;
use crate::quantizer::{QuantizerConfig, Settings, grouped, residual};
use crate::variables::{Component, Variables};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_torch::{Precision, with_precision};

const BOUNDS: [Bound; 3] = [Bound::Paper, Bound::Tanh, Bound::Sigmoid];

fn config(levels: &[i64], bound: Bound) -> Config {
    Config { levels: levels.to_vec(), bound: Some(bound), slope: None, noise_probability: 0.0 }
}

fn build(config: &Config, channels: i64) -> Fsq {
    let vs = Variables::new(Device::Cpu);
    Fsq::new(&vs.root(Component::Quantizer), config, channels, Grid::bounded(config, Device::Cpu))
}

fn fsq(levels: &[i64], bound: Bound) -> Fsq {
    build(&config(levels, bound), levels.len() as i64)
}

#[test]
fn every_index_has_one_code_and_back() {
    for (_, levels) in RECOMMENDED {
        for bound in BOUNDS {
            let fsq = fsq(levels, bound);
            let k = fsq.codebook().size;
            let all = Tensor::arange(k, (Kind::Int64, Device::Cpu)).view([1, k]);
            let digits = fsq.radix.digits_from_indices(&all);
            assert_eq!(fsq.radix.indices_from_digits(&digits), all);
            let codes = fsq.lookup(&all);
            let (unique, _, _) = codes.squeeze_dim(0).unique_dim(0, true, false, false);
            assert_eq!(unique.size()[0], k, "{levels:?} {bound:?}: two indices share a code");
            assert!(codes.abs().max().double_value(&[]) <= 1.0);
        }
    }
}

#[test]
fn every_code_can_be_reached_and_comes_back() {
    for (_, levels) in RECOMMENDED {
        for bound in BOUNDS {
            let fsq = fsq(levels, bound);
            let all = Tensor::arange(fsq.codebook().size, (Kind::Int64, Device::Cpu)).view([1, -1]);
            let digits = fsq.radix.digits_from_indices(&all).to_kind(Kind::Float);
            let grid = &fsq.grid;
            // The z whose bounded value is the centre of each level. The outermost levels are half
            // open; their z lie slightly inside.
            let z = match &grid.squash {
                Squash::Tanh { twice_shift, twice_scale, scale_and_offset } => {
                    let inside = (digits - &grid.half_width + scale_and_offset) / twice_scale;
                    (inside.clamp(2.5e-4, 1.0 - 2.5e-4).logit(None::<f64>) - twice_shift) / 2.0
                }
                Squash::Sigmoid { top, .. } => (digits / top).clamp(1e-3, 1.0 - 1e-3).logit(None::<f64>),
                Squash::Clamp { .. } => unreachable!("a stage's alone"),
            };
            let quantized = fsq.quantize(&z, Mode::Eval);
            assert_eq!(quantized.indices, all, "{levels:?} {bound:?}");
        }
    }
}

#[test]
fn lookup_is_the_latent_bit_for_bit() {
    for (channels, bound) in [(4, Bound::Tanh), (4, Bound::Sigmoid), (4, Bound::Paper), (9, Bound::Tanh)] {
        pixtok_torch::reseed(Seed(5));
        let fsq = build(&config(&[8, 5, 5, 5], bound), channels);
        let z = Tensor::randn([2, 35, channels], (Kind::Float, Device::Cpu)) * 2.0;
        let quantized = fsq.quantize(&z, Mode::train(Seed(0)));
        let bits = |t: &Tensor| t.contiguous().view_dtype(Kind::Int);
        assert_eq!(bits(&quantized.latent), bits(&fsq.lookup(&quantized.indices)), "{channels} {bound:?}");
    }
}

#[test]
fn autocast_changes_no_index() {
    pixtok_torch::reseed(Seed(6));
    let fsq = fsq(&[8, 8, 8, 5, 5, 5], Bound::Tanh);
    let z = Tensor::randn([2, 35, 6], (Kind::Float, Device::Cpu));
    let plain = fsq.quantize(&z, Mode::Eval).indices;
    assert_eq!(with_precision(Precision::Bf16, || fsq.quantize(&z, Mode::Eval).indices), plain);
}

#[test]
fn not_a_number_stays_in_range() {
    for bound in BOUNDS {
        let fsq = fsq(&[8, 5, 5, 5], bound);
        let indices =
            fsq.quantize(&Tensor::full([1, 1, 4], f64::NAN, (Kind::Float, Device::Cpu)), Mode::Eval).indices;
        assert!((0..1000).contains(&indices.int64_value(&[0, 0])));
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let message = |levels: &[i64], bound, slope| {
        Config { slope, ..config(levels, bound) }.check().unwrap_err().to_string()
    };
    assert!(message(&[], Bound::Tanh, None).contains("empty"));
    assert!(message(&[8, 1], Bound::Tanh, None).contains("has 1"));
    assert!(message(&[65536, 65536], Bound::Sigmoid, None).contains("2^31"));
    assert!(message(&[1001], Bound::Paper, None).contains("1001"));
    assert!(message(&[8], Bound::Tanh, Some(1.6)).contains("slope"));
    assert!(message(&[8], Bound::Sigmoid, Some(0.0)).contains("over 0"));
    assert!(config(&[1001], Bound::Sigmoid).check().is_ok());
    let noisy = Config { noise_probability: 1.5, ..config(&[8], Bound::Tanh) };
    assert!(noisy.check().unwrap_err().to_string().contains("noise_probability is 1.5"));
    // A stage of a residual quantizer has its own bound.
    let stage = |bound| Config { bound, ..config(&[8, 5], Bound::Tanh) }.check_stage();
    assert!(stage(None).is_ok());
    assert!(stage(Some(Bound::Tanh)).unwrap_err().to_string().contains("quantizer.bound"));
}

/// arXiv 2411.19842, section 3.2: the unrounded code plus U(±1/(L − 1)), where noise replaces
/// rounding.
#[test]
fn noise_takes_the_place_of_rounding_in_training_alone() {
    for bound in BOUNDS {
        let levels = [8, 5, 3];
        let noisy = build(&Config { noise_probability: 0.5, ..config(&levels, bound) }, 3);
        let plain = fsq(&levels, bound);
        pixtok_torch::reseed(Seed(7));
        let z = Tensor::randn([4, 875, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let rounded = plain.quantize(&z, Mode::Eval);
        assert_eq!(noisy.quantize(&z, Mode::Eval).latent, rounded.latent);
        let train = Mode::train(Seed(8));
        let quantized = noisy.quantize(&z, train);
        assert_eq!(quantized.indices, rounded.indices, "tokens are the rounded ones");
        assert_eq!(quantized.latent, noisy.quantize(&z, train).latent, "one seed, one noise");
        assert_ne!(quantized.latent, noisy.quantize(&z, Mode::train(Seed(9))).latent);

        let kept = quantized.latent.eq_tensor(&rounded.latent);
        let share = kept.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!((share - 0.5).abs() < 0.02, "{share} of the numbers are rounded");
        // Where it is not rounded, it differs by at most half a step, in either direction, from the
        // unrounded code.
        let (carrier, _) = plain.grid.rounded(&z);
        let half_steps = (&quantized.latent - &carrier) * &plain.grid.half_width * 2.0;
        let noise = half_steps.masked_select(&kept.logical_not());
        assert!(noise.abs().max().double_value(&[]) < 1.0 + 1e-4);
        assert!(noise.mean(Kind::Float).double_value(&[]).abs() < 0.03);
        let variance = noise.square().mean(Kind::Float).double_value(&[]);
        assert!(
            (variance - 1.0 / 3.0).abs() < 0.02,
            "the variance of a uniform number in ±1, not {variance}"
        );
        if bound == Bound::Sigmoid {
            let off = (&quantized.latent - transcribed_noise(&z, &levels, Noise::new(Seed(8)))).abs().max();
            assert!(off.double_value(&[]) < 1e-6);
        }
        // The gradient is the bound's, rounded or not.
        let gradient =
            |latent: &Tensor| Tensor::run_backward(&[latent.sum(Kind::Float)], &[&z], true, false).remove(0);
        assert_eq!(gradient(&quantized.latent), gradient(&rounded.latent));
    }
}

#[test]
fn an_image_has_the_same_noise_in_every_batch() {
    let plain = Config { noise_probability: 0.5, bound: None, ..config(&[8, 5], Bound::Tanh) };
    let each = Box::new(QuantizerConfig::Fsq(plain.clone()));
    let stages = QuantizerConfig::Residual(residual::Config { stages: 2, each, tail_drop: None });
    let groups = grouped::Config { groups: 1, each: Box::new(stages.clone()) };
    pixtok_torch::reseed(Seed(10));
    let z = Tensor::randn([4, 35, 2], (Kind::Float, Device::Cpu));
    for config in [QuantizerConfig::Fsq(plain), stages, QuantizerConfig::Grouped(groups)] {
        assert!(config.settings().draws_noise());
        let vs = Variables::new(Device::Cpu);
        let quantizer = config.settings().build(&vs.root(Component::Quantizer), 2).unwrap();
        let latent = |z: &Tensor, noise: Noise| {
            quantizer.quantize(z, Mode::Train { noise, world: World::alone() }).latent
        };
        let noise = Noise::new(Seed(8));
        let whole = latent(&z, noise);
        assert_ne!(whole, quantizer.quantize(&z, Mode::Eval).latent);
        assert_ne!(whole, latent(&z, Noise::new(Seed(9))));
        for first in [0, 2] {
            let part = latent(&z.narrow(0, first, 2), noise.at_place(first as u64));
            let off = (part - whole.narrow(0, first, 2)).abs().max();
            assert!(off.double_value(&[]) < 1e-5, "{config:?}: from {first} on");
        }
    }
    assert!(!config(&[8, 5], Bound::Tanh).draws_noise());
}

#[test]
fn few_levels_are_noted_unless_recommended() {
    assert_eq!(config(&[8, 3], Bound::Tanh).advice(128).len(), 1);
    assert!(config(&[5, 3], Bound::Tanh).advice(128).is_empty());
    assert!(config(&[5, 5], Bound::Tanh).advice(128).is_empty());
}

#[test]
fn two_levels_are_for_the_symmetric_bound_and_stages_alone() {
    let normal = |fsq: &Fsq| {
        pixtok_torch::reseed(Seed(7));
        let z = Tensor::randn([1, 875, 2], (Kind::Float, Device::Cpu));
        let digits = fsq.radix.digits_from_indices(&fsq.quantize(&z, Mode::Eval).indices).select(2, 1);
        digits.to_kind(Kind::Float).mean(Kind::Float).double_value(&[])
    };
    for (bound, flip) in [(Bound::Tanh, -3.8), (Bound::Paper, -1.6)] {
        let message = config(&[8, 2], bound).check_new_training().unwrap_err().to_string();
        for part in ["[8, 2]", bound.name(), &format!("z = {flip}"), "\"sigmoid\"", "lfq"] {
            assert!(message.contains(part), "{part:?} is missing in: {message}");
        }
        // It does flip there, and nearly all normal latents lie above.
        let fsq = fsq(&[8, 2], bound);
        let index = |z: f64| {
            let z = Tensor::full([1, 1, 2], z, (Kind::Float, Device::Cpu));
            fsq.radix.digits_from_indices(&fsq.quantize(&z, Mode::Eval).indices).int64_value(&[0, 0, 1])
        };
        assert_eq!([index(flip - 0.1), index(flip + 0.1)], [0, 1], "{bound:?}");
        assert!(normal(&fsq) > 0.9, "{bound:?}");
        // An existing run can be opened, with a warning.
        assert!(config(&[8, 2], bound).check().is_ok());
        assert_eq!(config(&[8, 2], bound).advice(128)[0].to_string(), message);
        assert!(config(&[8, 3], bound).check_new_training().is_ok());
    }
    let symmetric = config(&[8, 2], Bound::Sigmoid);
    assert!(symmetric.check_new_training().is_ok());
    assert!((normal(&fsq(&[8, 2], Bound::Sigmoid)) - 0.5).abs() < 0.05);
    let stage = Config { bound: None, ..config(&[8, 2], Bound::Tanh) };
    let each = Box::new(QuantizerConfig::Fsq(stage.clone()));
    let residual = residual::Config { stages: 3, each: each.clone(), tail_drop: None };
    assert!(residual.check_new_training().is_ok());
    assert!(residual.advice(128).iter().all(|advice| !advice.to_string().contains("flips")));
    let grouped = grouped::Config { groups: 2, each };
    let message = grouped.check_new_training().unwrap_err().to_string();
    assert!(message.starts_with("quantizer.each.levels"), "{message}");
}

/// The symmetric grid of section 3.2 written out, with the draws of `noisy`: ẑ = 2σ(z) − 1; where
/// noise was chosen, ẑ + U(±1/(L − 1)), otherwise ẑ rounded to the nearest of the L evenly spaced
/// codes in [−1, 1].
fn transcribed_noise(z: &Tensor, levels: &[i64], noise: Noise) -> Tensor {
    let draw = |stream| noise.derive(stream, &[]).uniform(&z.size(), Device::Cpu);
    let (chosen, uniform) = (draw("fsq choice").lt(0.5), draw("fsq noise") * 2.0 - 1.0);
    let tops: Vec<f32> = levels.iter().map(|&level| (level - 1) as f32).collect();
    let top = Tensor::from_slice(&tops);
    let bounded = z.detach().sigmoid() * 2.0 - 1.0;
    let rounded = ((&bounded + 1.0) * &top / 2.0).round() * 2.0 / &top - 1.0;
    (&bounded + uniform / &top).where_self(&chosen, &rounded)
}
