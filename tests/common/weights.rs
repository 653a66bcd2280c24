//! Weights of the fixed networks by a formula, which `tests/reference/nets.py` uses too.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::path::Path;

use pixtok_torch::tensors::{self, Tensors};
use tch::{Kind, Tensor};

use super::numbers::Numbers;

/// `uniform` of `nets.py`: float64 in 0..1 from the name (FNV-1a) and the index of each value
/// (splitmix64).
pub fn uniform(name: &str, shape: &[i64]) -> Tensor {
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    let value = |place: u64| {
        let x = place.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 11) as f64 * 2f64.powi(-53)
    };
    let count: i64 = shape.iter().product();
    let values: Vec<f64> = (1..=count as u64).map(value).collect();
    Tensor::from_slice(&values).view(shape)
}

/// `formula` of `nets.py`: the values of a weight tensor.
fn formula(name: &str, shape: &[i64]) -> Tensor {
    let u = uniform(name, shape);
    let values = if name.ends_with("running_var") {
        u + 0.5
    } else if name.starts_with("lin.") {
        u
    } else if name.ends_with("bn.weight") {
        u * 0.5 + 0.75
    } else if shape.len() == 1 {
        u * 0.2 - 0.1
    } else {
        let fan_in: i64 = shape[1..].iter().product();
        (u * 2.0 - 1.0) * (6.0 / fan_in as f64).sqrt()
    };
    values.to_kind(Kind::Float)
}

/// Writes the weights of a network (`alex`, `vgg`, `inception`) to a file that pixtok reads.
pub fn write(numbers: &Numbers, net: &str, path: &Path) {
    let shapes = numbers.under(&format!("shape/{net}/"));
    let weights: Tensors = shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = formula(&name, &Vec::<i64>::try_from(shape).unwrap());
            (name, values)
        })
        .collect();
    tensors::write(path, &weights).unwrap();
}
