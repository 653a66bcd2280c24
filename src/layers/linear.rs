//! A linear layer.

use tch::{Tensor, nn::Module};

use crate::variables::{Init, Scope};

/// The spread of the initial weights, that of published transformers.
const DEVIATION: f64 = 0.02;

/// x·Wᵀ + b over the last axis.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
}

impl Linear {
    /// From `from` to `to` numbers. As in published transformers, the weights start Gaussian with a
    /// standard deviation of 0.02, and the bias at 0.
    #[must_use]
    pub fn new(path: &Scope, from: i64, to: i64) -> Self {
        let init = Init::Gaussian { mean: 0.0, deviation: DEVIATION };
        let weight = path.matrix("weight", [to, from], init);
        Self { weight, bias: path.bias("bias", to, Init::Zeros) }
    }

    /// From `from` to `to` numbers, with PyTorch's initial distributions.
    #[must_use]
    pub fn by_fan_in(path: &Scope, from: i64, to: i64) -> Self {
        let init = Init::fan_in(from);
        Self { weight: path.matrix("weight", [to, from], init), bias: path.bias("bias", to, init) }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Variables};
    use tch::{Device, Kind};

    #[test]
    fn it_is_a_matrix_product_and_a_sum() {
        let variables = Variables::new(Device::Cpu);
        let scope = variables.scope(Component::Encoder);
        let layers = [Linear::new(&(&scope / "a"), 5, 7), Linear::by_fan_in(&(&scope / "b"), 5, 7)];
        let x = Tensor::arange(30, (Kind::Float, Device::Cpu)).view([2, 3, 5]);
        assert_eq!(layers[0].bias.abs().max().double_value(&[]), 0.0);
        assert!(layers[1].bias.abs().max().double_value(&[]) > 0.0);
        for layer in &layers {
            let expected = x.matmul(&layer.weight.tr()) + &layer.bias;
            let off = (layer.forward(&x) - &expected).abs().max() / expected.abs().max();
            assert!(off.double_value(&[]) < 1e-5);
        }
        assert_eq!(variables.parameters(&[Component::Encoder]), 2 * (35 + 7));
    }
}
