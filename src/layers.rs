//! Layers that start from the distributions of published Python originals (tch's own defaults
//! differ): convolutions from PyTorch's defaults, the layers of transformers from small Gaussians.

mod attention;
mod block;
mod feed_forward;
mod linear;
mod norms;
mod res_block;
mod rotation;
mod saved;
mod stack;

pub use attention::{Attention, AttentionNorm};
pub use block::{Block, BlockSettings};
pub use feed_forward::{FeedForward, FeedForwardKind};
pub use linear::Linear;
pub use norms::{Norm, NormKind};
pub use res_block::{ResBlock, ResBlockSettings, Shortcut};
pub use rotation::{Extension, Rotation, RotationSettings};
pub use saved::Saved;
pub use stack::{DepthNoise, Stack, StackSettings};

use tch::{Kind, Tensor, nn::Module};

use crate::variables::{Init, Scope};

/// Added to the variance of a group, PyTorch's default.
pub const GROUP_NORM_EPS: f64 = 1e-5;
/// The same in VQGAN and the published networks that follow it.
pub const VQGAN_EPS: f64 = 1e-6;

/// A 2-D convolution with zero padding.
#[derive(Debug)]
pub struct Conv2d {
    /// `[out, in, height, width]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// Stride of both axes.
    pub stride: i64,
    /// Zero padding on each side of both axes.
    pub padding: i64,
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> Tensor {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        x.conv2d(&self.weight, self.bias.as_ref(), stride, padding, [1, 1], 1)
    }
}

/// A convolution with odd `kernel`, padded so that stride 1 keeps the size.
///
/// # Shapes
/// `[B, in, H, W]` -> `[B, out, H / stride, W / stride]` when `stride` divides H and W.
#[must_use]
pub fn conv(path: &Scope, channels_in: i64, channels_out: i64, kernel: i64, stride: i64) -> Conv2d {
    padded_conv(path, (channels_in, channels_out), kernel, stride, kernel / 2)
}

/// A convolution with odd `kernel` and without a bias, which keeps the size.
///
/// # Shapes
/// `[B, in, H, W]` -> `[B, out, H, W]`.
#[must_use]
pub fn conv_without_bias(path: &Scope, channels_in: i64, channels_out: i64, kernel: i64) -> Conv2d {
    let shape = [channels_out, channels_in, kernel, kernel];
    let weight = path.conv("weight", shape, Init::fan_in(channels_in * kernel * kernel));
    Conv2d { weight, bias: None, stride: 1, padding: kernel / 2 }
}

/// A convolution with zero padding.
///
/// # Shapes
/// `[B, in, H, W]` -> `[B, out, (H + 2 · padding - kernel) / stride + 1, …]`.
#[must_use]
pub fn padded_conv(
    path: &Scope,
    (channels_in, channels_out): (i64, i64),
    kernel: i64,
    stride: i64,
    padding: i64,
) -> Conv2d {
    let init = Init::fan_in(channels_in * kernel * kernel);
    // The bias is drawn first, so that runs repeat from their seed.
    let bias = Some(path.bias("bias", channels_out, init));
    let weight = path.conv("weight", [channels_out, channels_in, kernel, kernel], init);
    Conv2d { weight, bias, stride, padding }
}

/// The default number of groups of a normalisation over `channels`.
#[must_use]
pub fn norm_groups(channels: i64) -> i64 {
    (channels / 4).clamp(1, 32)
}

/// Group normalisation with learned scale and shift.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// A group norm with scale 1 and shift 0. `eps` is added to a group's variance.
    #[must_use]
    pub fn new(path: &Scope, groups: i64, channels: i64, eps: f64) -> Self {
        Self {
            weight: path.norm("weight", &[channels], Init::Ones),
            bias: path.norm("bias", &[channels], Init::Zeros),
            groups,
            eps,
        }
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Computes silu(norm(`x`)).
///
/// # Shapes
/// `[B, C, H, W]` -> the same shape.
pub fn norm_silu(norm: &GroupNorm, x: &Tensor) -> Tensor {
    pixtok_torch::norm_silu(x, &norm.weight, &norm.bias, norm.groups, norm.eps)
}

/// Enlarges `x` by nearest neighbours, then applies `conv`, a 3×3 convolution with stride 1.
///
/// # Shapes
/// `[B, in, h, w]` -> `[B, out, factor · h, factor · w]`.
pub fn upsample(factor: i64, conv: &Conv2d, x: &Tensor) -> Tensor {
    pixtok_torch::upsample_conv(x, &conv.weight, conv.bias.as_ref(), factor)
}

/// The same numbers as `kind`. `to_kind` names the device together with the type, and a trace would
/// always move its tensors there.
pub fn as_kind(x: &Tensor, kind: Kind) -> Tensor {
    x.to_dtype(kind, false, false)
}

/// The same numbers, contiguous and with the strides of their shape. An axis of length 1 may have
/// any stride and still count as contiguous; libtorch then takes the tensor for channels_last and
/// convolves it in a different order, which changes the last bits.
pub fn plain_layout(x: &Tensor) -> Tensor {
    // Not a view with these sizes, because a trace would keep the sizes for all images.
    x.reshape([-1]).view_as(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Variables};
    use pixtok_torch::no_grad;
    use tch::Device;

    #[test]
    fn without_a_gradient_layers_are_libtorchs_own() {
        let variables = Variables::new(Device::Cpu);
        let scope = variables.scope(Component::Encoder);
        let norm = GroupNorm::new(&(&scope / "norm"), 2, 8, GROUP_NORM_EPS);
        let conv = conv(&(&scope / "conv"), 8, 6, 3, 1);
        tch::manual_seed(1);
        let x = Tensor::randn([2, 8, 5, 7], (Kind::Float, Device::Cpu));
        let twice = |x: &Tensor| conv.forward(&x.upsample_nearest2d_vec(None::<&[i64]>, [2.0; 2]));
        no_grad(|| {
            assert_eq!(norm_silu(&norm, &x), norm.forward(&x).silu());
            assert_eq!(upsample(2, &conv, &x), twice(&x));
        });
        let x = x.set_requires_grad(true);
        for (ours, theirs) in
            [(norm_silu(&norm, &x), norm.forward(&x).silu()), (upsample(2, &conv, &x), twice(&x))]
        {
            assert!((&ours - &theirs).abs().max().double_value(&[]) < 1e-5);
            // The sums differ in their order, so the fused operation was taken.
            assert_ne!(ours, theirs);
        }
    }

    #[test]
    fn plain_strides_are_those_of_the_shape() {
        let odd = Tensor::randn([2, 5, 7, 1], (Kind::Float, Device::Cpu)).permute([0, 3, 1, 2]);
        assert!(odd.is_contiguous() && odd.stride() != [35, 35, 7, 1], "{:?}", odd.stride());
        let plain = plain_layout(&odd);
        assert_eq!(plain.stride(), [35, 35, 7, 1]);
        assert_eq!(plain, odd);
    }
}
