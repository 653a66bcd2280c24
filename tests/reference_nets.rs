//! Agreement of the fixed networks and of the Fréchet distance with stored numbers of the lpips package and of
//! pytorch-fid; `tests/reference/nets.py` made them. Weights come from one formula on both sides.
//! `PIXTOK_TEST_DEVICE` chooses the device (default `cpu`).
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;

use numbers::{Numbers, assert_close, device, leaf};
use pixtok::metrics::{FeatureStatistics, frechet_distance};
use pixtok::nets::{Backbone, Inception, Lpips};
use pixtok::tensors::{self, Tensors};
use tch::{Kind, Tensor};

/// The case of `nets.py` with more vectors than dimensions, and those with fewer; vectors of a and b, dimensions.
const FULL: (&str, [i64; 2], i64) = ("full", [200, 300], 8);
const FEW: [(&str, [i64; 2], i64); 2] = [("one", [40, 300], 96), ("both", [40, 50], 96)];

/// `uniform` of `nets.py`: float64 in 0..1 from the name (FNV-1a) and the place of each value (splitmix64).
fn uniform(name: &str, shape: &[i64]) -> Tensor {
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

/// `formula` of `nets.py`: values of a tensor of weights.
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

/// Writes the weights of a network to a file and loads it from there.
fn loaded<N>(numbers: &Numbers, net: &str, load: impl FnOnce(&std::path::Path) -> N) -> N {
    let shapes = numbers.under(&format!("shape/{net}/"));
    let weights: Tensors = shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = formula(&name, &Vec::<i64>::try_from(shape).unwrap());
            (name, values)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    tensors::write(&path, &weights).unwrap();
    load(&path)
}

#[test]
fn lpips_agrees_with_the_lpips_package() {
    let numbers = Numbers::read("nets");
    for (net, backbone) in [("alex", Backbone::Alex), ("vgg", Backbone::Vgg)] {
        let lpips = loaded(&numbers, net, |path| Lpips::load(path, device())).unwrap();
        assert_eq!(lpips.backbone(), backbone);
        for pair in 0..3 {
            let theirs = |name: &str| numbers.get(&format!("lpips/{pair}/{net}/{name}"));
            let image = |name: &str| numbers.get(&format!("lpips/{pair}/{name}"));
            let a = leaf(&image("a"));
            let distance = lpips.distance(&a, &image("b"));
            distance.sum(Kind::Float).backward();
            assert_close(&format!("{net} {pair}: distance"), &distance.detach(), &theirs("distance"), 1e-5);
            assert_close(&format!("{net} {pair}: gradient"), &a.grad(), &theirs("gradient"), 1e-4);
        }
    }
}

#[test]
fn inception_agrees_with_pytorch_fid() {
    let numbers = Numbers::read("nets");
    let inception = loaded(&numbers, "inception", |path| Inception::load(path, device())).unwrap();
    let [a, b] = ["a", "b"].map(|set| {
        let ours = inception.features(&numbers.get(&format!("inception/{set}/images")));
        assert_close(
            &format!("features of {set}"),
            &ours,
            &numbers.get(&format!("inception/{set}/features")),
            1e-5,
        );
        statistics(&ours)
    });
    assert_distance(&numbers, "inception", &a, &b, 1e-5);
}

/// Statistics of features that come in batches of 7.
fn statistics(features: &Tensor) -> FeatureStatistics {
    let mut statistics = FeatureStatistics::new();
    for batch in features.split(7, 0) {
        statistics.add(&batch);
    }
    statistics
}

/// Within 1e-3 of pytorch-fid's distance, whose root of a singular matrix is not exact, and within `allowed` of the exact one.
fn assert_distance(
    numbers: &Numbers,
    case: &str,
    a: &FeatureStatistics,
    b: &FeatureStatistics,
    allowed: f64,
) {
    let ours = frechet_distance(a, b).unwrap();
    for (key, allowed) in [(format!("fid/{case}"), 1e-3), (format!("fid/{case}/exact"), allowed)] {
        let theirs = numbers.get(&key).double_value(&[0]);
        assert!((ours / theirs - 1.0).abs() < allowed, "{key}: {ours} against {theirs}");
    }
}

/// The sets a and b of one case.
fn sets((case, vectors, dimensions): (&str, [i64; 2], i64)) -> [FeatureStatistics; 2] {
    let a = uniform(&format!("fid/{case}/a"), &[vectors[0], dimensions]);
    let b = uniform(&format!("fid/{case}/b"), &[vectors[1], dimensions]);
    let b = &b * 0.8 + b.roll([1], [1]) * 0.3 + 0.1;
    let spread = Tensor::linspace(0.2, 2.0, dimensions, (Kind::Double, a.device()));
    [a, b].map(|x| statistics(&(x * &spread).to_device(device())))
}

#[test]
fn frechet_distance_agrees_with_pytorch_fid() {
    let numbers = Numbers::read("nets");
    let [a, b] = sets(FULL);
    for (name, ours) in [("a", &a), ("b", &b)] {
        let theirs = |what: &str| numbers.get(&format!("fid/full/{name}/{what}"));
        assert_close("mean", &ours.mean().unwrap(), &theirs("mean"), 1e-12);
        assert_close("covariance", &ours.covariance().unwrap(), &theirs("covariance"), 1e-12);
    }
    let (ours, theirs) = (frechet_distance(&a, &b).unwrap(), numbers.get("fid/full").double_value(&[0]));
    assert!((ours / theirs - 1.0).abs() < 1e-9, "{ours} against {theirs}");
    for case in FEW {
        let [a, b] = sets(case);
        assert_distance(&numbers, case.0, &a, &b, 1e-6);
    }
}
