//! The blocks of a transformer, one after the other.

use tch::{Device, Tensor};

use super::{Block, BlockSettings, Rotation, Saved};
use crate::variables::Scope;
use pixtok_torch::{Noise, Shared, recomputed};

/// The settings of a stack of blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StackSettings {
    /// The settings of each block. The stochastic depth is that of the last block; it grows evenly
    /// from 0 at the first.
    pub block: BlockSettings,
    /// The number of blocks.
    pub depth: i64,
    /// Whether the backward pass computes the blocks again.
    pub recompute: bool,
}

impl StackSettings {
    /// The settings of block `i`.
    #[must_use]
    pub fn of_block(&self, i: i64) -> BlockSettings {
        let of_last = self.block.stochastic_depth;
        let stochastic_depth = match self.depth {
            1 => of_last,
            depth => of_last * i as f64 / (depth - 1) as f64,
        };
        BlockSettings { stochastic_depth, ..self.block }
    }

    /// What the blocks keep for each position: all of them for the backward pass, and one of them
    /// while the backward pass computes it again.
    #[must_use]
    pub fn saved(&self, rotated: bool, device: Device) -> (Saved, Saved) {
        let block = self.block.saved(rotated, device);
        if self.recompute {
            let inputs = Saved { halves: 0, floats: self.block.width * self.depth };
            return (inputs, block);
        }
        (block.times(self.depth), Saved::default())
    }
}

/// The noise of a stack in a training step, which decides which images skip which blocks.
#[derive(Debug, Clone, Copy)]
pub struct DepthNoise {
    /// The noise of the step.
    pub noise: Noise,
    /// Distinguishes the network's stacks.
    pub stack: u64,
}

impl DepthNoise {
    fn of_block(self, i: usize) -> Noise {
        self.noise.derive("stochastic depth", &[self.stack, i as u64])
    }
}

/// Blocks `block0`, `block1`, ….
#[derive(Debug)]
pub struct Stack {
    blocks: Vec<Shared<Block>>,
    recompute: bool,
}

impl Stack {
    /// A stack with these settings.
    #[must_use]
    pub fn new(path: &Scope, settings: &StackSettings) -> Self {
        let block = |i| Shared::new(Block::new(&(path / format!("block{i}")), &settings.of_block(i)));
        Self { blocks: (0..settings.depth).map(block).collect(), recompute: settings.recompute }
    }

    /// The result of all blocks. With `None` for `depth` no image skips a block.
    ///
    /// # Shapes
    /// `x`: `[B, N, width]` -> the same.
    pub fn forward(&self, x: Tensor, rotation: Option<&Rotation>, depth: Option<DepthNoise>) -> Tensor {
        self.blocks.iter().enumerate().fold(x, |x, (i, block)| {
            let depth = depth.map(|noise| noise.of_block(i));
            if !self.recompute {
                return block.forward(&x, rotation, depth);
            }
            let rotation = rotation.map(Rotation::shallow_clone);
            recomputed(block, &x, move |block, x| block.forward(x, rotation.as_ref(), depth))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{AttentionNorm, FeedForwardKind, NormKind};
    use crate::variables::{Component, Variables};
    use pixtok_base::seed::Seed;
    use pixtok_torch::fill_gaussian;
    use tch::Kind;

    fn settings(depth: i64, recompute: bool) -> StackSettings {
        let block = BlockSettings {
            width: 8,
            heads: 2,
            hidden: 12,
            norm: NormKind::Layer,
            eps: 1e-6,
            feed_forward: FeedForwardKind::Gelu,
            attention_norm: AttentionNorm::None,
            layer_scale: None,
            stochastic_depth: 0.5,
        };
        StackSettings { block, depth, recompute }
    }

    #[test]
    fn stochastic_depth_grows_from_0_and_a_single_block_has_all_of_it() {
        let rates = |depth: i64| -> Vec<f64> {
            (0..depth).map(|i| settings(depth, false).of_block(i).stochastic_depth).collect()
        };
        assert_eq!((rates(1), rates(3)), (vec![0.5], vec![0.0, 0.25, 0.5]));
    }

    #[test]
    fn it_is_its_blocks_and_two_stacks_draw_different_noise() {
        let variables = Variables::new(Device::Cpu);
        let stack = Stack::new(&variables.scope(Component::Encoder), &settings(2, false));
        let again = Stack { blocks: stack.blocks, recompute: true };
        let stack = Stack::new(&variables.scope(Component::Decoder), &settings(2, false));
        let x = Tensor::zeros([64, 5, 8], (Kind::Float, Device::Cpu));
        fill_gaussian(&x, Seed(1), 0.0, 1.0);
        let noise = |stack| DepthNoise { noise: Noise::new(Seed(2)), stack };
        for stack in [&stack, &again] {
            let through = |depth: Option<DepthNoise>| stack.forward(x.shallow_clone(), None, depth);
            let by_block = |depth: Option<DepthNoise>| {
                let depth = |i| depth.map(|depth| depth.noise.derive("stochastic depth", &[depth.stack, i]));
                let first = stack.blocks[0].forward(&x, None, depth(0));
                stack.blocks[1].forward(&first, None, depth(1))
            };
            for depth in [None, Some(noise(0)), Some(noise(1))] {
                assert_eq!(through(depth), by_block(depth), "{depth:?}");
            }
            assert_ne!(through(Some(noise(0))), through(Some(noise(1))));
        }
    }

    #[test]
    fn blocks_that_are_computed_again_keep_their_inputs_and_one_block() {
        for rotated in [false, true] {
            let (all, none) = settings(3, false).saved(rotated, Device::Cpu);
            let (inputs, one) = settings(3, true).saved(rotated, Device::Cpu);
            assert_eq!((all, none), (one.times(3), Saved::default()));
            assert_eq!(inputs, Saved { halves: 0, floats: 3 * 8 });
            // What goes into qkv, out and up, with query, key and value; both sides of the GELU.
            let turned = if rotated { 2 * 8 } else { 0 };
            assert_eq!(one, Saved { halves: 6 * 8 + 2 * 12 + turned, floats: 2 * 8 });
        }
    }
}
