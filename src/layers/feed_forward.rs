//! The feed-forward part of a block.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn::Module};

use super::Linear;
use crate::variables::Scope;
use pixtok_torch::gated_silu;

/// The kinds of feed-forward parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum FeedForwardKind {
    /// `down(silu(gate(x)) · up(x))` (arXiv 2002.05202).
    #[default]
    SwiGlu,
    /// `down(gelu(up(x)))`, with the exact GELU.
    Gelu,
}

impl FeedForwardKind {
    /// The usual width inside. With SwiGLU it is 8/3 of the width, rounded up to a multiple of 64,
    /// so that its three matrices have about as many numbers as the two of a GELU, which is 4 times
    /// as wide.
    #[must_use]
    pub fn hidden(self, width: i64) -> i64 {
        match self {
            // 64 · ⌈8/3 · width / 64⌉.
            Self::SwiGlu => 64 * ((width + 23) / 24),
            Self::Gelu => 4 * width,
        }
    }
}

/// Two or three linear layers, applied to each position by itself.
#[derive(Debug)]
pub struct FeedForward {
    /// Only SwiGLU has it.
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

impl FeedForward {
    /// From `width` numbers to `hidden` and back.
    #[must_use]
    pub fn new(path: &Scope, kind: FeedForwardKind, width: i64, hidden: i64) -> Self {
        Self {
            gate: (kind == FeedForwardKind::SwiGlu).then(|| Linear::new(&(path / "gate"), width, hidden)),
            up: Linear::new(&(path / "up"), width, hidden),
            down: Linear::new(&(path / "down"), hidden, width),
        }
    }
}

impl Module for FeedForward {
    fn forward(&self, x: &Tensor) -> Tensor {
        let up = self.up.forward(x);
        self.down.forward(&match &self.gate {
            Some(gate) => gated_silu(&gate.forward(x), &up),
            None => up.gelu("none"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Variables};
    use tch::{Device, Kind};

    #[test]
    fn both_kinds_are_their_formulas() {
        let variables = Variables::new(Device::Cpu);
        let scope = variables.scope(Component::Encoder);
        let x = Tensor::linspace(-40.0, 40.0, 30, (Kind::Float, Device::Cpu)).view([2, 3, 5]);
        for kind in [FeedForwardKind::SwiGlu, FeedForwardKind::Gelu] {
            let layer = FeedForward::new(&(&scope / format!("{kind:?}")), kind, 5, 7);
            let up = layer.up.forward(&x);
            let inner = match &layer.gate {
                Some(gate) => {
                    let gate = gate.forward(&x);
                    gate.sigmoid() * gate * &up
                }
                None => &up * ((&up / 2f64.sqrt()).erf() + 1.0) * 0.5,
            };
            let expected = layer.down.forward(&inner);
            let off = (layer.forward(&x) - &expected).abs().max() / expected.abs().max();
            assert!(off.double_value(&[]) < 1e-5, "{kind:?}");
        }
        assert_eq!(variables.parameters(&[Component::Encoder]), 5 * 5 * 7 + 3 * 7 + 2 * 5);
        assert_eq!(serde_json::to_string(&FeedForwardKind::SwiGlu).unwrap(), "\"swiglu\"");
    }
}
