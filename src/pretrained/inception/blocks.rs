//! The five kinds of blocks of Inception v3, named as in pytorch-fid.

use tch::nn;

use super::layers::{Block, Branch, ConvNorm, Layer, Pool, chain, layer};

fn branch(path: &nn::Path, channels_in: i64, layers: &[Layer]) -> Branch {
    Branch { layers: chain(path, channels_in, layers), fork: vec![] }
}

/// A branch whose last two layers are parallel.
fn forked(path: &nn::Path, channels_in: i64, layers: &[Layer], fork: [Layer; 2]) -> Branch {
    let width = layers.last().map_or(channels_in, |last| last.channels);
    let fork = fork.map(|layer| ConvNorm::new(&(path / layer.name), width, layer));
    Branch { layers: chain(path, channels_in, layers), fork: fork.into() }
}

pub(super) fn block_a(path: &nn::Path, channels_in: i64, pool_channels: i64) -> Block {
    let (one, five) = (
        layer("branch1x1", 64, [1, 1]),
        [layer("branch5x5_1", 48, [1, 1]), layer("branch5x5_2", 64, [5, 5])],
    );
    let three = [
        layer("branch3x3dbl_1", 64, [1, 1]),
        layer("branch3x3dbl_2", 96, [3, 3]),
        layer("branch3x3dbl_3", 96, [3, 3]),
    ];
    Block {
        branches: [&[one][..], &five, &three].map(|layers| branch(path, channels_in, layers)).into(),
        pool: Pool::Mean,
        after_pool: chain(path, channels_in, &[layer("branch_pool", pool_channels, [1, 1])]),
    }
}

pub(super) fn block_b(path: &nn::Path, channels_in: i64) -> Block {
    let three = layer("branch3x3", 384, [3, 3]).halving();
    let double = [
        layer("branch3x3dbl_1", 64, [1, 1]),
        layer("branch3x3dbl_2", 96, [3, 3]),
        layer("branch3x3dbl_3", 96, [3, 3]).halving(),
    ];
    Block {
        branches: [&[three][..], &double].map(|layers| branch(path, channels_in, layers)).into(),
        pool: Pool::Halve,
        after_pool: vec![],
    }
}

pub(super) fn block_c(path: &nn::Path, channels_in: i64, width: i64) -> Block {
    let one = layer("branch1x1", 192, [1, 1]);
    let seven = [
        layer("branch7x7_1", width, [1, 1]),
        layer("branch7x7_2", width, [1, 7]),
        layer("branch7x7_3", 192, [7, 1]),
    ];
    let double = [
        layer("branch7x7dbl_1", width, [1, 1]),
        layer("branch7x7dbl_2", width, [7, 1]),
        layer("branch7x7dbl_3", width, [1, 7]),
        layer("branch7x7dbl_4", width, [7, 1]),
        layer("branch7x7dbl_5", 192, [1, 7]),
    ];
    Block {
        branches: [&[one][..], &seven, &double].map(|layers| branch(path, channels_in, layers)).into(),
        pool: Pool::Mean,
        after_pool: chain(path, channels_in, &[layer("branch_pool", 192, [1, 1])]),
    }
}

pub(super) fn block_d(path: &nn::Path, channels_in: i64) -> Block {
    let three = [layer("branch3x3_1", 192, [1, 1]), layer("branch3x3_2", 320, [3, 3]).halving()];
    let seven = [
        layer("branch7x7x3_1", 192, [1, 1]),
        layer("branch7x7x3_2", 192, [1, 7]),
        layer("branch7x7x3_3", 192, [7, 1]),
        layer("branch7x7x3_4", 192, [3, 3]).halving(),
    ];
    Block {
        branches: [&three[..], &seven].map(|layers| branch(path, channels_in, layers)).into(),
        pool: Pool::Halve,
        after_pool: vec![],
    }
}

pub(super) fn block_e(path: &nn::Path, channels_in: i64, pool: Pool) -> Block {
    let three = [layer("branch3x3_1", 384, [1, 1])];
    let double = [layer("branch3x3dbl_1", 448, [1, 1]), layer("branch3x3dbl_2", 384, [3, 3])];
    let three_fork = [layer("branch3x3_2a", 384, [1, 3]), layer("branch3x3_2b", 384, [3, 1])];
    let double_fork = [layer("branch3x3dbl_3a", 384, [1, 3]), layer("branch3x3dbl_3b", 384, [3, 1])];
    Block {
        branches: vec![
            branch(path, channels_in, &[layer("branch1x1", 320, [1, 1])]),
            forked(path, channels_in, &three, three_fork),
            forked(path, channels_in, &double, double_fork),
        ],
        pool,
        after_pool: chain(path, channels_in, &[layer("branch_pool", 192, [1, 1])]),
    }
}
