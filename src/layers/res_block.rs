//! A residual block of convolutions.

use tch::{Tensor, nn::Module};

use super::{Conv2d, GroupNorm, conv, conv_without_bias, norm_silu};
use crate::variables::Scope;

/// The settings of a residual block.
#[derive(Debug, Clone, Copy)]
pub struct ResBlockSettings {
    /// Channels of the input and of the result.
    pub channels: [i64; 2],
    /// The number of groups of the first and of the second normalisation.
    pub groups: [i64; 2],
    /// Added to the variance of a group.
    pub eps: f64,
    /// Whether the convolutions have biases.
    pub bias: bool,
    /// The shortcut, if the widths differ.
    pub shortcut: Shortcut,
}

/// What the 1×1 convolution of a shortcut takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortcut {
    /// The block's input.
    OfInput,
    /// The result of the two convolutions, to which it is added. The input is dropped, as in the
    /// published program of MaskGIT-VQGAN.
    OfResult,
}

/// Group normalisation, SiLU and a 3×3 convolution, twice. The input is added to the result, or a
/// [`Shortcut`] if the widths differ.
#[derive(Debug)]
pub struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<(Shortcut, Conv2d)>,
}

impl ResBlock {
    /// A block with these settings. The groups must divide the channels.
    #[must_use]
    pub fn new(path: &Scope, settings: &ResBlockSettings) -> Self {
        let ResBlockSettings { channels: [from, to], groups, eps, bias, shortcut } = *settings;
        let layer = |name: &str, from: i64, kernel: i64| {
            let path = path / name;
            if bias { conv(&path, from, to, kernel, 1) } else { conv_without_bias(&path, from, to, kernel) }
        };
        let of_shortcut = match shortcut {
            Shortcut::OfInput => from,
            Shortcut::OfResult => to,
        };
        Self {
            norm1: GroupNorm::new(&(path / "norm1"), groups[0], from, eps),
            conv1: layer("conv1", from, 3),
            norm2: GroupNorm::new(&(path / "norm2"), groups[1], to, eps),
            conv2: layer("conv2", to, 3),
            shortcut: (from != to).then(|| (shortcut, layer("shortcut", of_shortcut, 1))),
        }
    }
}

impl Module for ResBlock {
    /// # Shapes
    /// `[B, from, H, W]` -> `[B, to, H, W]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.conv1.forward(&norm_silu(&self.norm1, x));
        let h = self.conv2.forward(&norm_silu(&self.norm2, &h));
        match &self.shortcut {
            None => x + h,
            Some((Shortcut::OfInput, shortcut)) => shortcut.forward(x) + h,
            Some((Shortcut::OfResult, shortcut)) => &h + shortcut.forward(&h),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::VQGAN_EPS;
    use crate::variables::{Component, Variables};
    use tch::{Device, Kind};

    fn built(channels: [i64; 2], bias: bool, shortcut: Shortcut) -> (Variables, ResBlock) {
        let variables = Variables::new(Device::Cpu);
        let settings = ResBlockSettings { channels, groups: [2, 3], eps: VQGAN_EPS, bias, shortcut };
        let block = ResBlock::new(&variables.scope(Component::Encoder), &settings);
        (variables, block)
    }

    #[test]
    fn it_is_its_formula_with_every_shortcut() {
        tch::manual_seed(1);
        let x = Tensor::randn([2, 6, 5, 7], (Kind::Float, Device::Cpu));
        for (to, bias) in [(6, true), (9, true), (9, false)] {
            for kind in [Shortcut::OfInput, Shortcut::OfResult] {
                let (_variables, block) = built([6, to], bias, kind);
                let h = block.conv1.forward(&block.norm1.forward(&x).silu());
                let h = block.conv2.forward(&block.norm2.forward(&h).silu());
                let added = match &block.shortcut {
                    None => x.shallow_clone(),
                    Some((_, conv)) if kind == Shortcut::OfInput => conv.forward(&x),
                    Some((_, conv)) => conv.forward(&h),
                };
                let off = (block.forward(&x) - (added + h)).abs().max().double_value(&[]);
                assert!(off < 1e-5, "{to} channels, {kind:?}: {off}");
            }
        }
    }

    #[test]
    fn its_variables_have_their_names() {
        let (variables, _block) = built([6, 9], false, Shortcut::OfResult);
        let layers = ["conv1.weight", "conv2.weight", "norm1.bias", "norm1.weight", "norm2.bias"];
        let expected: Vec<String> = layers
            .into_iter()
            .chain(["norm2.weight", "shortcut.weight"])
            .map(|name| format!("encoder.{name}"))
            .collect();
        let names: Vec<String> = variables.tensors().into_keys().collect();
        assert_eq!(names, expected);
        assert_eq!(variables.tensors()["encoder.shortcut.weight"].size(), [9, 9, 1, 1]);
        let (variables, _block) = built([6, 6], true, Shortcut::OfInput);
        assert!(variables.tensors().contains_key("encoder.conv1.bias"));
        assert!(!variables.tensors().contains_key("encoder.shortcut.weight"));
    }
}
