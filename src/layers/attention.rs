//! Self-attention with several heads.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn::Module};

use super::block::BlockSettings;
use super::{Linear, Norm, NormKind, Rotation, as_kind};
use crate::variables::Scope;

/// The least length that a key is divided by, so that a key of zeros stays zero.
const LEAST_NORM: f64 = 1e-12;

/// How queries and keys are normalised before they are rotated and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionNorm {
    /// They are not: the scores are q·k/√d.
    #[default]
    None,
    /// An RMS norm each, with a learned scale that all heads share; the scores are q·k/√d.
    QkRms,
    /// Keys have length 1, and the scores are q·k without 1/√d (kexue.fm 9859).
    KeyL2,
}

/// Self-attention: linear layers to queries, keys and values, and back.
#[derive(Debug)]
pub struct Attention {
    qkv: Linear,
    norm: QueryKeyNorm,
    out: Linear,
    heads: i64,
}

#[derive(Debug)]
enum QueryKeyNorm {
    None,
    QkRms { query: Norm, key: Norm },
    KeyL2,
}

impl Attention {
    /// The attention of a block with these settings. `heads` must divide the width.
    #[must_use]
    pub fn new(path: &Scope, settings: &BlockSettings) -> Self {
        let BlockSettings { width, heads, .. } = *settings;
        let norm = |name: &str| Norm::new(&(path / name), NormKind::Rms, width / heads, settings.eps);
        Self {
            qkv: Linear::new(&(path / "qkv"), width, 3 * width),
            norm: match settings.attention_norm {
                AttentionNorm::None => QueryKeyNorm::None,
                AttentionNorm::QkRms => {
                    QueryKeyNorm::QkRms { query: norm("query_norm"), key: norm("key_norm") }
                }
                AttentionNorm::KeyL2 => QueryKeyNorm::KeyL2,
            },
            out: Linear::new(&(path / "out"), width, width),
            heads,
        }
    }

    /// Attends. `rotation` rotates queries and keys after they are normalised.
    ///
    /// # Shapes
    /// `[B, N, width]` -> the same.
    pub fn forward(&self, x: &Tensor, rotation: Option<&Rotation>) -> Tensor {
        // Three of [B, heads, N, d]. `select` would give each of the three a gradient of the size
        // of all of them, mostly zeros.
        let qkv = self.qkv.forward(x).unflatten(-1, [3, self.heads, -1]).unbind(2);
        let [query, key, value] = [&qkv[0], &qkv[1], &qkv[2]].map(|x| x.transpose(1, 2));
        let (query, key, scale) = match &self.norm {
            QueryKeyNorm::None => (query, key, None),
            QueryKeyNorm::QkRms { query: of_query, key: of_key } => {
                (of_query.forward(&query), of_key.forward(&key), None)
            }
            QueryKeyNorm::KeyL2 => (query, unit_length(&key), Some(1.0)),
        };
        let turned = |x: Tensor| rotation.map_or_else(|| x.shallow_clone(), |rotation| rotation.apply(&x));
        let [query, key] = [query, key].map(|x| as_kind(&turned(x), value.kind()));
        let attended = Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<&Tensor>,
            0.0,
            false,
            scale,
            false,
        );
        self.out.forward(&attended.transpose(1, 2).flatten(2, 3))
    }
}

/// x/‖x‖ over the last axis, in float32.
fn unit_length(x: &Tensor) -> Tensor {
    let x = as_kind(x, Kind::Float);
    let norm = x.norm_scalaropt_dim(2.0, [-1], true).clamp_min(LEAST_NORM);
    x / norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::FeedForwardKind;
    use crate::variables::{Component, Variables};
    use pixtok_base::seed::Seed;
    use pixtok_torch::fill_gaussian;
    use tch::Device;

    fn settings(attention_norm: AttentionNorm) -> BlockSettings {
        BlockSettings {
            width: 12,
            heads: 3,
            hidden: 20,
            norm: NormKind::Rms,
            eps: 1e-6,
            feed_forward: FeedForwardKind::Gelu,
            attention_norm,
            layer_scale: None,
            stochastic_depth: 0.0,
        }
    }

    /// softmax(scores)·v, written out for one head after the other.
    fn by_hand(attention: &Attention, x: &Tensor, norm: AttentionNorm) -> Tensor {
        let qkv = attention.qkv.forward(x);
        let part = |i: i64, head: i64| qkv.narrow(2, 12 * i + 4 * head, 4);
        let length = |x: &Tensor| x.square().sum_dim_intlist([-1].as_slice(), true, Kind::Float).sqrt();
        let heads = (0..3).map(|head| {
            let (q, k) = (part(0, head), part(1, head));
            let (q, k) = match norm {
                AttentionNorm::None => (q / 2.0, k),
                // The RMS of d numbers is their length over √d.
                AttentionNorm::QkRms => (&q / length(&q), &k * 2.0 / length(&k)),
                AttentionNorm::KeyL2 => (q, &k / length(&k)),
            };
            q.matmul(&k.transpose(1, 2)).softmax(-1, Kind::Float).matmul(&part(2, head))
        });
        attention.out.forward(&Tensor::cat(&heads.collect::<Vec<_>>(), 2))
    }

    #[test]
    fn it_is_its_formula_with_every_norm() {
        let variables = Variables::new(Device::Cpu);
        let scope = variables.scope(Component::Encoder);
        let x = Tensor::zeros([2, 5, 12], (Kind::Float, Device::Cpu));
        fill_gaussian(&x, Seed(1), 0.0, 1.0);
        for norm in [AttentionNorm::None, AttentionNorm::QkRms, AttentionNorm::KeyL2] {
            let attention = Attention::new(&(&scope / format!("{norm:?}")), &settings(norm));
            fill_gaussian(&attention.qkv.weight, Seed(2), 0.0, 0.5);
            let expected = by_hand(&attention, &x, norm);
            let off = (attention.forward(&x, None) - &expected).abs().max() / expected.abs().max();
            assert!(off.double_value(&[]) < 1e-5, "{norm:?}: {off:?}");
        }
        // Two more vectors for qk-rms.
        let each = 12 * 36 + 36 + 12 * 12 + 12;
        assert_eq!(variables.parameters(&[Component::Encoder]), 3 * each + 2 * 4);
    }

    #[test]
    fn a_key_of_zeros_is_no_nan() {
        let key = Tensor::zeros([1, 1, 2, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let unit = unit_length(&key);
        unit.sum(Kind::Float).backward();
        assert_eq!(unit.abs().max().double_value(&[]), 0.0);
        assert!(key.grad().isfinite().all().int64_value(&[]) == 1);
    }
}
