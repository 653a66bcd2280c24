//! The fixed networks and the Fréchet distance agree with stored numbers of the lpips package and
//! of pytorch-fid; `tests/reference/nets.py` made them. Both sides compute the weights by one
//! formula. `PIXTOK_TEST_DEVICE` chooses the device (default `cpu`).
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/weights.rs"]
mod weights;

use numbers::{Numbers, assert_close, device, leaf};
use pixtok::metrics::{FeatureStatistics, frechet_distance};
use pixtok::pretrained::{Backbone, Inception, Lpips};
use tch::{Kind, Tensor};
use weights::uniform;

/// The case of `nets.py` with more vectors than dimensions, and those with fewer: vectors of a and
/// b, dimensions.
const FULL: (&str, [i64; 2], i64) = ("full", [200, 300], 8);
const FEW: [(&str, [i64; 2], i64); 2] = [("one", [40, 300], 96), ("both", [40, 50], 96)];

/// Writes the weights of a network to a file and loads it from there.
fn loaded<N>(numbers: &Numbers, net: &str, load: impl FnOnce(&std::path::Path) -> N) -> N {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    weights::write(numbers, net, &path);
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

            // A training minimises the mean over the images.
            let (recon, images) = (leaf(&image("a")), image("b").size()[0] as f64);
            let loss = lpips.differences(&recon, &image("b"), true, false).lpips.unwrap();
            loss.backward();
            let mean = theirs("distance").mean(Kind::Float);
            assert_close(&format!("{net} {pair}: loss"), &loss.detach(), &mean, 1e-5);
            let gradient = theirs("gradient") / images;
            assert_close(&format!("{net} {pair}: gradient of the loss"), &recon.grad(), &gradient, 1e-4);
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

/// Asserts that the distance is within 1e-3 of pytorch-fid's, whose root of a singular matrix is
/// not exact, and within `allowed` of the exact one.
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
