//! Learned perceptual image patch similarity (Zhang et al. 2018, arXiv 1801.03924), version 0.1.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor, nn};

use super::NetError;
use super::alexnet::{self, AlexNet};
use super::vgg16::{self, Vgg16};
use super::weights::{Network, Weights};
use pixtok_torch::{in_full_precision, no_grad};

const WANTED: &str = "weights of LPIPS (AlexNet or VGG16)";

/// Mean of each channel over ImageNet, for images in [−1, 1].
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
/// Standard deviation of each channel over ImageNet, for images in [−1, 1].
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// Keeps a vector of zeros from being divided by zero.
const EPS: f64 = 1e-10;

/// The network whose features are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backbone {
    /// AlexNet, which published tables usually use.
    Alex,
    /// VGG16, which losses usually use.
    Vgg,
}

impl fmt::Display for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alex => "AlexNet",
            Self::Vgg => "VGG16",
        })
    }
}

impl Backbone {
    /// The least height and width of images, in pixels.
    #[must_use]
    pub const fn min_side(self) -> i64 {
        match self {
            Self::Alex => alexnet::MIN_SIDE,
            Self::Vgg => vgg16::MIN_SIDE,
        }
    }

    /// The number of parameters of the network.
    #[must_use]
    pub fn parameters(self) -> i64 {
        match self {
            Self::Alex => 2_470_848,
            Self::Vgg => 14_716_160,
        }
    }

    /// Estimates the bytes that one comparison of two images of `size` (height, width, in pixels)
    /// keeps for the backward pass, if the network computes in numbers of `bytes` bytes each.
    #[must_use]
    pub fn saved_bytes(self, (height, width): (i64, i64), bytes: i64) -> i64 {
        // Per pixel: outputs of convolutions and poolings, the indices that the poolings chose, and
        // float32 numbers of the taps.
        let (results, chosen, taps) = match self {
            Self::Alex => (9.0, 1.5, 8.0),
            Self::Vgg => (300.0, 30.0, 122.0),
        };
        let of_pixel = results * bytes as f64 + chosen * 8.0 + taps * 4.0 * TAP_COPIES;
        (of_pixel * (height * width) as f64) as i64
    }
}

/// Copies of each tap that are kept: of both images, their unit vectors and the intermediate
/// results.
const TAP_COPIES: f64 = 6.0;

/// LPIPS with fixed weights.
#[derive(Debug)]
pub struct Lpips {
    trunk: Trunk,
    /// One weight per channel of each tap, in the shape of the published 1×1 convolution: `[1, C,
    /// 1, 1]`.
    heads: Vec<Tensor>,
    /// `[3, 1, 1]`
    shift: Tensor,
    /// `[3, 1, 1]`
    scale: Tensor,
}

#[derive(Debug)]
enum Trunk {
    Alex(AlexNet),
    Vgg(Vgg16),
}

impl Lpips {
    /// Loads weights to `device`. The file determines the backbone.
    ///
    /// # Errors
    /// [`NetError`], if the file does not exist, is for another network, or lacks some of its
    /// tensors as float32.
    pub fn load(path: &Path, device: Device) -> Result<Self, NetError> {
        let weights = Weights::read(path, WANTED)?;
        let backbone = match weights.network() {
            Network::LpipsAlex => Backbone::Alex,
            Network::LpipsVgg => Backbone::Vgg,
            Network::Inception => return Err(weights.of_another()),
        };
        weights.fill(device, |path| Self::new(path, backbone))
    }

    fn new(path: &nn::Path, backbone: Backbone) -> Self {
        let (trunk, channels) = match backbone {
            Backbone::Alex => (Trunk::Alex(AlexNet::new(path)), alexnet::CHANNELS),
            Backbone::Vgg => (Trunk::Vgg(Vgg16::new(path)), vgg16::CHANNELS),
        };
        let head = |(i, channels): (usize, i64)| (path / "lin" / i).zeros("weight", &[1, channels, 1, 1]);
        let per_channel = |values: [f32; 3]| Tensor::from_slice(&values).view([3, 1, 1]).to(path.device());
        Self {
            trunk,
            heads: channels.into_iter().enumerate().map(head).collect(),
            shift: per_channel(SHIFT),
            scale: per_channel(SCALE),
        }
    }

    /// The network whose features are compared.
    #[must_use]
    pub fn backbone(&self) -> Backbone {
        match self.trunk {
            Trunk::Alex(_) => Backbone::Alex,
            Trunk::Vgg(_) => Backbone::Vgg,
        }
    }

    /// The distance of each image from its partner: 0 for equal images, about 1 for unrelated ones.
    /// Computed in float32, whatever the caller's autocast.
    ///
    /// # Shapes
    /// `a`, `b`: `[B, 3, H, W]` floating point in [−1, 1] -> `[B]` float32.
    ///
    /// # Panics
    /// If the shapes differ, or a side is shorter than [`Backbone::min_side`].
    pub fn distance(&self, a: &Tensor, b: &Tensor) -> Tensor {
        self.check(a, b);
        // Two passes instead of one over both: the pass without gradient then keeps no activations.
        in_full_precision(|| self.distance_of(&self.features(a), &self.features(b)))
    }

    /// The distances that a training minimises, with gradients only for `recon`. The network
    /// follows the caller's autocast; its features are compared in float32. `lpips` and `features`
    /// choose what is computed.
    ///
    /// # Shapes
    /// `recon`, `images`: `[B, 3, H, W]` floating point in [−1, 1] -> scalars, float32.
    ///
    /// # Panics
    /// The same as [`Lpips::distance`].
    pub fn differences(&self, recon: &Tensor, images: &Tensor, lpips: bool, features: bool) -> Differences {
        self.check(recon, images);
        let of_recon = self.features(recon);
        let of_images = no_grad(|| self.features(images));
        let mean_square = |(a, b): (&Tensor, &Tensor)| a.mse_loss(b, Reduction::Mean);
        Differences {
            lpips: lpips.then(|| self.distance_of(&of_recon, &of_images).mean(Kind::Float)),
            features: features.then(|| {
                let taps = of_recon.iter().zip(&of_images).map(mean_square);
                taps.sum::<Tensor>() / of_recon.len() as f64
            }),
        }
    }

    fn check(&self, a: &Tensor, b: &Tensor) {
        let size = a.size();
        assert_eq!(size, b.size(), "images and reconstructions differ in shape");
        let least = self.backbone().min_side();
        assert!(size[2].min(size[3]) >= least, "LPIPS needs images of {least} pixels a side, not {size:?}");
    }

    fn distance_of(&self, a: &[Tensor], b: &[Tensor]) -> Tensor {
        let taps = a.iter().zip(b).zip(&self.heads);
        taps.map(|((a, b), head)| {
            let difference = (unit(a) - unit(b)).square();
            // The head is linear, so the mean over positions may be taken first. One product per
            // image is left, which autocast would compute in bf16.
            let mean = difference.mean_dim([2, 3].as_slice(), false, Kind::Float);
            (mean * head.view([1, -1])).sum_dim_intlist([1].as_slice(), false, Kind::Float)
        })
        .sum()
    }

    /// The taps in float32.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` -> five tensors `[B, C, h, w]`.
    fn features(&self, images: &Tensor) -> Vec<Tensor> {
        let x = (images.to_kind(Kind::Float) - &self.shift) / &self.scale;
        let taps = match &self.trunk {
            Trunk::Alex(net) => net.features(&x),
            Trunk::Vgg(net) => net.features(&x),
        };
        taps.into_iter().map(|tap| tap.to_kind(Kind::Float)).collect()
    }
}

/// The distances that [`Lpips::differences`] was asked for, each a mean over the images.
#[derive(Debug)]
pub struct Differences {
    /// The mean of [`Lpips::distance`].
    pub lpips: Option<Tensor>,
    /// The mean squared difference of the features, averaged over the taps.
    pub features: Option<Tensor>,
}

/// Scales the channels of each position to a vector of length 1.
///
/// # Shapes
/// `x`: `[B, C, h, w]` -> `[B, C, h, w]`.
fn unit(x: &Tensor) -> Tensor {
    let squares = x.square().sum_dim_intlist([1].as_slice(), true, Kind::Float);
    // The clamp changes no value that EPS leaves visible. Without it, a position where all channels
    // are 0 has the gradient 0 / 0, and one such position makes every gradient of the image NaN.
    x / (squares.clamp_min(EPS * EPS).sqrt() + EPS)
}

#[cfg(test)]
mod tests {
    use super::super::weights::write_file;
    use super::*;
    use pixtok_torch::{Precision, with_precision};

    fn filled(backbone: Backbone, fill: impl Fn(&mut Tensor)) -> Lpips {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lpips.safetensors");
        write_file(&path, |path| Lpips::new(path, backbone), fill);
        Lpips::load(&path, Device::Cpu).unwrap()
    }

    fn random(backbone: Backbone) -> Lpips {
        tch::manual_seed(3);
        filled(backbone, |tensor| drop(tensor.uniform_(-0.1, 0.15)))
    }

    fn images(size: [i64; 4]) -> Tensor {
        Tensor::rand(size, (Kind::Float, Device::Cpu)) * 2.0 - 1.0
    }

    #[test]
    fn each_image_is_compared_with_its_partner() {
        for backbone in [Backbone::Alex, Backbone::Vgg] {
            let lpips = random(backbone);
            assert_eq!(lpips.backbone(), backbone);
            let (a, b) = (images([2, 3, 35, 41]), images([2, 3, 35, 41]));
            let both = lpips.distance(&a, &b);
            assert_eq!((both.size(), both.kind(), both.requires_grad()), (vec![2], Kind::Float, false));
            let second = lpips.distance(&b.narrow(0, 1, 1), &a.narrow(0, 1, 1)).double_value(&[0]);
            assert!((second / both.double_value(&[1]) - 1.0).abs() < 1e-4, "symmetric, and image by image");
            assert!(both.double_value(&[0]) != both.double_value(&[1]));
            assert_eq!(lpips.distance(&a, &a).abs().max().double_value(&[]), 0.0);
        }
    }

    #[test]
    fn parameters_are_counted_right() {
        for backbone in [Backbone::Alex, Backbone::Vgg] {
            let store = nn::VarStore::new(Device::Cpu);
            let _network = Lpips::new(&store.root(), backbone);
            let counted: usize = store.variables().values().map(Tensor::numel).sum();
            assert_eq!(backbone.parameters(), counted as i64);
        }
    }

    #[test]
    fn the_least_side_is_enough_and_one_less_is_not() {
        for backbone in [Backbone::Alex, Backbone::Vgg] {
            let (lpips, least) = (random(backbone), backbone.min_side());
            let narrow = images([1, 3, 50, least]);
            assert!(lpips.distance(&narrow, &-&narrow).double_value(&[0]).is_finite());
            let too_small = narrow.narrow(3, 0, least - 1);
            let refused = pixtok_base::panics::catch(|| lpips.distance(&too_small, &too_small)).unwrap_err();
            assert!(refused.message.contains(&format!("{least} pixels")), "{}", refused.message);
            // The network itself has the same limit.
            assert!(pixtok_torch::catching(|| lpips.features(&too_small)).is_err());
        }
    }

    #[test]
    fn autocast_changes_nothing() {
        let lpips = random(Backbone::Alex);
        let (a, b) = (images([1, 3, 33, 47]), images([1, 3, 33, 47]));
        let plain = lpips.distance(&a, &b);
        with_precision(Precision::Bf16, || assert_eq!(lpips.distance(&a, &b), plain));
        let narrow = lpips.distance(&a.to_kind(Kind::BFloat16), &b.to_kind(Kind::BFloat16));
        assert_eq!(narrow.kind(), Kind::Float);
    }

    #[test]
    fn a_trainings_differences_are_the_distance_and_the_features() {
        for backbone in [Backbone::Alex, Backbone::Vgg] {
            let lpips = random(backbone);
            let (recon, images) = (images([2, 3, 35, 41]).set_requires_grad(true), images([2, 3, 35, 41]));
            let Differences { lpips: Some(distance), features: Some(features) } =
                lpips.differences(&recon, &images, true, true)
            else {
                panic!("one is missing")
            };
            assert_eq!(distance, lpips.distance(&recon, &images).mean(Kind::Float));
            let taps = lpips.features(&recon).into_iter().zip(lpips.features(&images));
            let expected: Tensor =
                taps.map(|(a, b)| (a - b).square().mean(Kind::Float)).sum::<Tensor>() / 5.0;
            assert!((&features / expected - 1.0).abs().double_value(&[]) < 1e-5);
            (distance + features).backward();
            assert!(recon.grad().abs().max().double_value(&[]) > 0.0 && !images.requires_grad());
            let none = lpips.differences(&recon, &images, false, false);
            assert!(none.lpips.is_none() && none.features.is_none());
        }
    }

    #[test]
    fn a_trainings_network_follows_autocast() {
        let lpips = random(Backbone::Alex);
        let (recon, images) = (images([1, 3, 33, 47]), images([1, 3, 33, 47]));
        let of = || lpips.differences(&recon, &images, true, false).lpips.unwrap();
        let (full, half) = (of(), with_precision(Precision::Bf16, of));
        assert_ne!(full, half);
        assert!((half / full - 1.0).abs().double_value(&[]) < 0.03);
    }

    #[test]
    fn features_of_zero_leave_gradients_finite() {
        let blank = filled(Backbone::Alex, |_| ());
        let (a, b) = (images([1, 3, 31, 33]).set_requires_grad(true), images([1, 3, 31, 33]));
        blank.distance(&a, &b).sum(Kind::Float).backward();
        assert_eq!(a.grad().abs().max().double_value(&[]), 0.0);
    }
}
