//! A block of a transformer.

use tch::{Device, Kind, Tensor, nn::Module};

use super::attention::{Attention, AttentionNorm};
use super::feed_forward::{FeedForward, FeedForwardKind};
use super::{Norm, NormKind, Rotation, Saved, as_kind};
use crate::variables::{Init, Scope};
use pixtok_torch::{Noise, fuses_gated_silu};

/// The settings of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockSettings {
    /// The length of the vector at a position.
    pub width: i64,
    /// The attention's heads, a divisor of the width.
    pub heads: i64,
    /// The width inside the feed-forward part.
    pub hidden: i64,
    /// The normalisation before each part.
    pub norm: NormKind,
    /// The epsilon of every normalisation.
    pub eps: f64,
    /// The kind of the feed-forward part.
    pub feed_forward: FeedForwardKind,
    /// The normalisation of queries and keys.
    pub attention_norm: AttentionNorm,
    /// The initial value of a learned scale of each part's result, one for each channel; `None`: no
    /// scale (LayerScale, arXiv 2103.17239).
    pub layer_scale: Option<f64>,
    /// The probability that this block is skipped for an image in training, less than 1 (arXiv
    /// 1603.09382).
    pub stochastic_depth: f64,
}

impl BlockSettings {
    /// What a block keeps for each position. `rotated`: whether queries and keys are rotated.
    /// Attention keeps no table of all pairs of positions, since `scaled_dot_product_attention`
    /// computes it in blocks on either device.
    #[must_use]
    pub fn saved(&self, rotated: bool, device: Device) -> Saved {
        let on_cpu = device == Device::Cpu;
        // The sums before each part, which the norms keep.
        let sums = 2;
        let (normalised, normalised_in_float) = match self.attention_norm {
            AttentionNorm::None => (0, 0),
            // Queries and keys before they are scaled.
            AttentionNorm::QkRms => (2, 2),
            // Keys in float32 where the training is not.
            AttentionNorm::KeyL2 => (1, i64::from(!on_cpu)),
        };
        // Rotated queries and keys are kept in place of normalised ones.
        let made = if rotated { 2 } else { normalised };
        // The inputs of both linear layers, query, key and value, what normalisation or rotation
        // made, and the result.
        let attention = 2 + 3 + made + 1;
        let scales = if self.layer_scale.is_some() { 2 } else { 0 };
        let inner = match self.feed_forward {
            // gate, up, and their product.
            FeedForwardKind::SwiGlu if fuses_gated_silu(device) => 3,
            // gate, silu(gate), up, and their product.
            FeedForwardKind::SwiGlu => 4,
            // up, and its GELU.
            FeedForwardKind::Gelu => 2,
        };
        Saved {
            halves: (attention + scales) * self.width + inner * self.hidden,
            floats: (sums + normalised_in_float) * self.width,
        }
    }

    /// The numbers at a position of the block's largest activation.
    #[must_use]
    pub fn widest(&self) -> i64 {
        (3 * self.width).max(self.hidden)
    }
}

/// x ← x + s₁·attention(norm₁(x)); x ← x + s₂·feed-forward(norm₂(x)).
#[derive(Debug)]
pub struct Block {
    norm1: Norm,
    attention: Attention,
    scale1: Option<Tensor>,
    norm2: Norm,
    feed_forward: FeedForward,
    scale2: Option<Tensor>,
    stochastic_depth: f64,
}

impl Block {
    /// A block with these settings.
    #[must_use]
    pub fn new(path: &Scope, settings: &BlockSettings) -> Self {
        let BlockSettings { width, hidden, .. } = *settings;
        let norm = |name: &str| Norm::new(&(path / name), settings.norm, width, settings.eps);
        let scale = |name: &str| {
            let same = |value| Init::Gaussian { mean: value, deviation: 0.0 };
            settings.layer_scale.map(|value| path.norm(name, &[width], same(value)))
        };
        let feed_forward = path / "feed_forward";
        Self {
            norm1: norm("norm1"),
            attention: Attention::new(&(path / "attention"), settings),
            scale1: scale("scale1"),
            norm2: norm("norm2"),
            feed_forward: FeedForward::new(&feed_forward, settings.feed_forward, width, hidden),
            scale2: scale("scale2"),
            stochastic_depth: settings.stochastic_depth,
        }
    }

    /// The block's result. `depth` is the noise of this block in a training step; it decides which
    /// images skip the block. With `None` none does.
    ///
    /// # Shapes
    /// `x`: `[B, N, width]` -> the same.
    pub fn forward(&self, x: &Tensor, rotation: Option<&Rotation>, depth: Option<Noise>) -> Tensor {
        let kept = depth.filter(|_| self.stochastic_depth > 0.0).map(|noise| self.kept(x, noise));
        let scaled = |branch: Tensor, scale: Option<&Tensor>| {
            [scale, kept.as_ref()].into_iter().flatten().fold(branch, |branch, scale| branch * scale)
        };
        let attended = self.attention.forward(&self.norm1.forward(x), rotation);
        let x = x + scaled(attended, self.scale1.as_ref());
        let fed = self.feed_forward.forward(&self.norm2.forward(&x));
        &x + scaled(fed, self.scale2.as_ref())
    }

    /// 0 for images that skip the block, and 1 / (1 − p) for the others, so that the mean is 1.
    ///
    /// # Shapes
    /// `x`: `[B, N, width]` -> `[B, 1, 1]` float32.
    fn kept(&self, x: &Tensor, noise: Noise) -> Tensor {
        let drawn = noise.uniform(&[x.size()[0], 1, 1], x.device());
        as_kind(&drawn.ge(self.stochastic_depth), Kind::Float) / (1.0 - self.stochastic_depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Role, Variables};
    use pixtok_base::seed::Seed;
    use pixtok_torch::fill_gaussian;

    fn settings() -> BlockSettings {
        BlockSettings {
            width: 8,
            heads: 2,
            hidden: 12,
            norm: NormKind::Rms,
            eps: 1e-6,
            feed_forward: FeedForwardKind::SwiGlu,
            attention_norm: AttentionNorm::QkRms,
            layer_scale: Some(1e-1),
            stochastic_depth: 0.25,
        }
    }

    fn built(settings: &BlockSettings) -> (Variables, Block) {
        let variables = Variables::new(Device::Cpu);
        let block = Block::new(&variables.scope(Component::Encoder), settings);
        (variables, block)
    }

    fn gaussian(shape: &[i64]) -> Tensor {
        let x = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        fill_gaussian(&x, Seed(1), 0.0, 1.0);
        x
    }

    #[test]
    fn its_variables_have_their_names_and_roles() {
        let (variables, _block) = built(&settings());
        let entries = variables.entries();
        let names: Vec<&str> =
            entries.iter().map(|variable| variable.name.strip_prefix("encoder.").unwrap()).collect();
        let expected = [
            "attention.key_norm.weight",
            "attention.out.bias",
            "attention.out.weight",
            "attention.qkv.bias",
            "attention.qkv.weight",
            "attention.query_norm.weight",
            "feed_forward.down.bias",
            "feed_forward.down.weight",
            "feed_forward.gate.bias",
            "feed_forward.gate.weight",
            "feed_forward.up.bias",
            "feed_forward.up.weight",
            "norm1.weight",
            "norm2.weight",
            "scale1",
            "scale2",
        ];
        assert_eq!(names, expected);
        for variable in &entries {
            let role = match variable.tensor.dim() {
                2 => Role::Matrix,
                _ if variable.name.ends_with("bias") => Role::Bias,
                _ => Role::Norm,
            };
            assert_eq!(variable.role, role, "{}", variable.name);
        }
        let scale = &variables.tensors()["encoder.scale1"];
        assert_eq!(*scale, Tensor::full([8], 0.1, (Kind::Float, Device::Cpu)));
    }

    #[test]
    fn without_its_parts_a_block_is_the_identity() {
        let (variables, block) = built(&BlockSettings { layer_scale: None, ..settings() });
        let x = gaussian(&[2, 5, 8]);
        assert_ne!(block.forward(&x, None, None), x);
        pixtok_torch::no_grad(|| {
            for name in ["attention.out.weight", "feed_forward.down.weight"] {
                let _ = variables.tensors().get_mut(&format!("encoder.{name}")).unwrap().zero_();
            }
        });
        assert_eq!(block.forward(&x, None, None), x);
    }

    #[test]
    fn stochastic_depth_leaves_images_out_and_keeps_the_mean() {
        let (_variables, block) = built(&settings());
        let x = gaussian(&[4000, 1, 8]);
        let noise = Noise::new(Seed(3));
        let kept = block.kept(&x, noise);
        let (mean, most) = (kept.mean(Kind::Float).double_value(&[]), kept.max().double_value(&[]));
        assert!((mean - 1.0).abs() < 0.05 && (most - 4.0 / 3.0).abs() < 1e-6, "{mean}, {most}");
        let (with, without) = (block.forward(&x, None, Some(noise)), block.forward(&x, None, None));
        let left_out = kept.eq(0.0).squeeze();
        let at = |x: &Tensor, which: &Tensor| x.squeeze_dim(1).index(&[Some(which)]);
        assert_eq!(at(&with, &left_out), at(&x, &left_out));
        let share = left_out.to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((share - 0.25).abs() < 0.04, "{share}");
        assert_ne!(with, without);
        // Micro-batches draw what the whole batch draws.
        let halves = [0u64, 2000]
            .map(|first| block.forward(&x.narrow(0, first as i64, 2000), None, Some(noise.at_place(first))));
        let off = (Tensor::cat(&halves, 0) - &with).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{off}");
    }
}
