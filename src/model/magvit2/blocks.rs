//! The parts that encoder and decoder share.

use tch::{Tensor, nn::Module};

use super::plan::Plan;
use crate::layers::{GroupNorm, ResBlock, ResBlockSettings, Shortcut, VQGAN_EPS};
use crate::variables::Scope;
use pixtok_torch::{Shared, recomputed};

/// The number of groups of every normalisation, at any width.
pub(super) const NORM_GROUPS: i64 = 32;

/// A normalisation over `channels`.
pub(super) fn norm(path: &Scope, channels: i64) -> GroupNorm {
    GroupNorm::new(path, NORM_GROUPS, channels, VQGAN_EPS)
}

/// A residual block, whose convolutions have no biases.
fn res_block(path: &Scope, channels_in: i64, channels_out: i64) -> ResBlock {
    let settings = ResBlockSettings {
        channels: [channels_in, channels_out],
        groups: [NORM_GROUPS; 2],
        eps: VQGAN_EPS,
        bias: false,
        shortcut: Shortcut::OfInput,
    };
    ResBlock::new(path, &settings)
}

/// The residual blocks of one resolution.
#[derive(Debug)]
pub(super) struct Blocks {
    blocks: Vec<Shared<ResBlock>>,
    /// Whether the backward pass computes them again.
    checkpoint: bool,
}

impl Blocks {
    /// The blocks of a stage, from `channels_in` to `channels_out`.
    pub fn new(path: &Scope, plan: &Plan, channels_in: i64, channels_out: i64) -> Self {
        let block = |i: i64| {
            let from = if i == 0 { channels_in } else { channels_out };
            Shared::new(res_block(&(path / format!("res{i}")), from, channels_out))
        };
        let checkpoint = plan.settings.checkpoint_blocks;
        Self { blocks: (0..plan.settings.res_blocks).map(block).collect(), checkpoint }
    }

    pub fn forward(&self, x: Tensor) -> Tensor {
        self.blocks.iter().fold(x, |x, block| {
            if self.checkpoint { recomputed(block, &x, ResBlock::forward) } else { block.forward(&x) }
        })
    }
}
