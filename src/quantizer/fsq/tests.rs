use tch::Device;

use super::*;
use crate::seed::Seed;
use crate::torch::{Precision, with_precision};

const BOUNDS: [Bound; 3] = [Bound::Paper, Bound::Tanh, Bound::Sigmoid];

fn config(levels: &[i64], bound: Bound) -> Config {
    Config { levels: levels.to_vec(), bound, slope: None }
}

fn fsq(levels: &[i64], bound: Bound) -> Fsq {
    let vs = nn::VarStore::new(Device::Cpu);
    Fsq::new(&vs.root(), &config(levels, bound), levels.len() as i64).unwrap()
}

#[test]
fn every_index_has_one_code_and_back() {
    for levels in RECOMMENDED {
        for bound in BOUNDS {
            let fsq = fsq(levels, bound);
            let k = fsq.codebook().size;
            let all = Tensor::arange(k, (Kind::Int64, Device::Cpu)).view([1, 1, k]);
            let digits = fsq.digits_from_indices(&all);
            assert_eq!(fsq.indices_from_digits(&digits), all);
            let codes = fsq.lookup(&all);
            let (unique, _, _) = codes.view([levels.len() as i64, k]).unique_dim(1, true, false, false);
            assert_eq!(unique.size()[1], k, "{levels:?} {bound:?}: two indices share a code");
            assert!(codes.abs().max().double_value(&[]) <= 1.0);
        }
    }
}

#[test]
fn every_code_can_be_reached_and_comes_back() {
    for levels in RECOMMENDED {
        for bound in BOUNDS {
            let fsq = fsq(levels, bound);
            let all = Tensor::arange(fsq.codebook().size, (Kind::Int64, Device::Cpu)).view([1, 1, -1]);
            let digits = fsq.digits_from_indices(&all).to_kind(Kind::Float);
            // The z whose bounded value is the middle of each level; end levels, which are half open, a bit inside.
            let z = match bound {
                Bound::Sigmoid => (digits / &fsq.top).clamp(1e-3, 1.0 - 1e-3).logit(None::<f64>),
                _ => {
                    let inside = (digits - &fsq.half_width + &fsq.offset) / &fsq.scale;
                    inside.clamp(-0.9995, 0.9995).atanh() - &fsq.shift
                }
            };
            let quantized = fsq.quantize(&z, Mode::Eval);
            assert_eq!(quantized.indices, all, "{levels:?} {bound:?}");
        }
    }
}

#[test]
fn lookup_is_the_latent_bit_for_bit() {
    for (channels, bound) in [(4, Bound::Tanh), (4, Bound::Sigmoid), (4, Bound::Paper), (9, Bound::Tanh)] {
        Seed(5).reseed_torch();
        let vs = nn::VarStore::new(Device::Cpu);
        let fsq = Fsq::new(&vs.root(), &config(&[8, 5, 5, 5], bound), channels).unwrap();
        let z = Tensor::randn([2, channels, 5, 7], (Kind::Float, Device::Cpu)) * 2.0;
        let quantized = fsq.quantize(&z, Mode::Train { seed: Seed(0) });
        let bits = |t: &Tensor| t.contiguous().view_dtype(Kind::Int);
        assert_eq!(bits(&quantized.latent), bits(&fsq.lookup(&quantized.indices)), "{channels} {bound:?}");
    }
}

#[test]
fn autocast_changes_no_index() {
    Seed(6).reseed_torch();
    let fsq = fsq(&[8, 8, 8, 5, 5, 5], Bound::Tanh);
    let z = Tensor::randn([2, 6, 5, 7], (Kind::Float, Device::Cpu));
    let plain = fsq.quantize(&z, Mode::Eval).indices;
    assert_eq!(with_precision(Precision::Bf16, || fsq.quantize(&z, Mode::Eval).indices), plain);
}

#[test]
fn not_a_number_stays_in_range() {
    for bound in BOUNDS {
        let fsq = fsq(&[8, 5, 5, 5], bound);
        let indices = fsq
            .quantize(&Tensor::full([1, 4, 1, 1], f64::NAN, (Kind::Float, Device::Cpu)), Mode::Eval)
            .indices;
        assert!((0..1000).contains(&indices.int64_value(&[0, 0, 0])));
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let message = |levels: &[i64], bound, slope| {
        Config { levels: levels.to_vec(), bound, slope }.check().unwrap_err().to_string()
    };
    assert!(message(&[], Bound::Tanh, None).contains("empty"));
    assert!(message(&[8, 1], Bound::Tanh, None).contains("has 1"));
    assert!(message(&[65536, 65536], Bound::Sigmoid, None).contains("2^31"));
    assert!(message(&[1001], Bound::Paper, None).contains("1001"));
    assert!(message(&[8], Bound::Tanh, Some(1.6)).contains("slope"));
    assert!(message(&[8], Bound::Sigmoid, Some(0.0)).contains("over 0"));
    assert!(config(&[1001], Bound::Sigmoid).check().is_ok());
}

#[test]
fn few_levels_are_noted_unless_recommended() {
    assert!(config(&[8, 3], Bound::Tanh).advice().is_some());
    assert!(config(&[5, 3], Bound::Tanh).advice().is_none());
    assert!(config(&[5, 5], Bound::Tanh).advice().is_none());
}
