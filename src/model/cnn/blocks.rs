//! The parts that encoder and decoder share.

use tch::{Tensor, nn::Module};

use super::plan::Plan;
use crate::layers::{Conv2d, GroupNorm, ResBlock, conv};
use crate::variables::Scope;
use pixtok_torch::{Shared, recomputed};

/// Single-head self-attention over all positions, added to its input.
#[derive(Debug)]
struct Attention {
    norm: GroupNorm,
    qkv: Conv2d,
    out: Conv2d,
}

impl Attention {
    fn new(path: &Scope, plan: &Plan, channels: i64) -> Self {
        Self {
            norm: plan.norm(&(path / "norm"), channels),
            qkv: conv(&(path / "qkv"), channels, 3 * channels, 1, 1),
            out: conv(&(path / "out"), channels, channels, 1, 1),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        // [B, 3C, h, w] -> three of [B, 1, h·w, C].
        let qkv = self.qkv.forward(&self.norm.forward(x));
        let qkv = qkv.unflatten(1, [3, x.size()[1]]).flatten(3, 4).transpose(2, 3);
        let part = |i: i64| qkv.select(1, i).unsqueeze(1);
        let attended = Tensor::scaled_dot_product_attention(
            &part(0),
            &part(1),
            &part(2),
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        );
        x + self.out.forward(&attended.squeeze_dim(1).transpose(1, 2).reshape_as(x))
    }
}

/// A sequence of blocks at one resolution.
#[derive(Debug)]
pub(super) struct Blocks {
    blocks: Vec<Shared<Block>>,
    /// Whether a block keeps only its input for the backward pass, which computes it again.
    recomputed: bool,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // a handful of them, made once
enum Block {
    Res(ResBlock),
    Attention(Attention),
}

impl Block {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Res(block) => block.forward(x),
            Self::Attention(block) => block.forward(x),
        }
    }
}

impl Blocks {
    fn new(plan: &Plan, blocks: Vec<Block>) -> Self {
        let blocks = blocks.into_iter().map(Shared::new).collect();
        Self { blocks, recomputed: plan.settings.checkpoint_blocks }
    }

    /// `count` residual blocks from `channels_in` to `channels_out`, each followed by attention if
    /// asked for.
    pub fn stage(
        path: &Scope,
        plan: &Plan,
        (channels_in, channels_out): (i64, i64),
        count: i64,
        attention: bool,
    ) -> Self {
        let mut blocks = vec![];
        for i in 0..count {
            let from = if i == 0 { channels_in } else { channels_out };
            blocks.push(Block::Res(plan.res_block(&(path / format!("res{i}")), from, channels_out)));
            if attention {
                let path = path / format!("attention{i}");
                blocks.push(Block::Attention(Attention::new(&path, plan, channels_out)));
            }
        }
        Self::new(plan, blocks)
    }

    /// Residual block, attention and residual block at the coarsest resolution; empty if the plan
    /// has none.
    pub fn middle(path: &Scope, plan: &Plan, channels: i64) -> Self {
        if !plan.mid_attention {
            return Self::new(plan, vec![]);
        }
        let blocks = vec![
            Block::Res(plan.res_block(&(path / "res0"), channels, channels)),
            Block::Attention(Attention::new(&(path / "attention"), plan, channels)),
            Block::Res(plan.res_block(&(path / "res1"), channels, channels)),
        ];
        Self::new(plan, blocks)
    }

    pub fn forward(&self, x: Tensor) -> Tensor {
        self.blocks.iter().fold(x, |x, block| {
            if self.recomputed { recomputed(block, &x, Block::forward) } else { block.forward(&x) }
        })
    }
}
