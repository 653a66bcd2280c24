//! MaskGIT-VQGAN's decoder (arXiv 2202.04200), as TiTok's first models use it, and the layers that
//! weight its codes.

use tch::{Kind, Tensor, nn::Module};

use super::config;
use crate::layers::{
    Conv2d, GroupNorm, Linear, ResBlock, ResBlockSettings, Shortcut, VQGAN_EPS, conv, norm_silu,
    plain_layout, upsample,
};
use crate::variables::{Init, Scope};
use pixtok_torch::{Shared, recomputed};

/// Weights the codes of a codebook.
#[derive(Debug)]
pub(super) struct CodeHead {
    hidden: Linear,
    logits: Linear,
    /// `[codes, dim]`.
    codebook: Tensor,
}

impl CodeHead {
    pub fn new(path: &Scope, width: i64, settings: &config::PixelDecoder) -> Self {
        let bound = 1.0 / settings.codes as f64;
        Self {
            hidden: Linear::new(&(path / "hidden"), width, 2 * width),
            logits: Linear::new(&(path / "logits"), 2 * width, settings.codes),
            codebook: path.embedding(
                "codebook",
                [settings.codes, settings.code_dim],
                Init::Uniform { bound },
            ),
        }
    }

    /// The mean of the codes, weighted by the softmax of their logits, which is float32 on every
    /// device: autocast makes it so on CUDA only.
    ///
    /// # Shapes
    /// `[B, P, width]` -> `[B, P, dim]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let logits = self.logits.forward(&self.hidden.forward(x).tanh());
        logits.softmax(-1, Kind::Float).matmul(&self.codebook)
    }
}

/// Residual blocks at each resolution, from the coarsest, without attention.
#[derive(Debug)]
pub(super) struct PixelDecoder {
    stem: Conv2d,
    middle: Vec<Shared<ResBlock>>,
    /// The blocks of each resolution, and the convolution after the upsampling to the next one.
    stages: Vec<(Vec<Shared<ResBlock>>, Option<Conv2d>)>,
    norm: GroupNorm,
    head: Conv2d,
    /// Whether the backward pass computes the residual blocks again.
    recompute: bool,
}

impl PixelDecoder {
    pub fn new(path: &Scope, settings: &config::PixelDecoder, recompute: bool) -> Self {
        let groups = settings.norm_groups;
        let widths: Vec<i64> =
            settings.multipliers.iter().map(|multiplier| settings.channels * multiplier).collect();
        let mut channels = widths.last().copied().unwrap_or(settings.channels);
        let blocks = |path: &Scope, from: i64, to: i64| -> Vec<Shared<ResBlock>> {
            let widths = |i| if i == 0 { [from, to] } else { [to, to] };
            (0..settings.res_blocks)
                .map(|i| Shared::new(res_block(&(path / format!("res{i}")), groups, widths(i))))
                .collect()
        };
        let stem = conv(&(path / "stem"), settings.code_dim, channels, 3, 1);
        let middle = blocks(&(path / "middle"), channels, channels);
        let stages = widths.iter().enumerate().rev().map(|(i, &width)| {
            let path = path / format!("stage{i}");
            let of_stage = blocks(&path, channels, width);
            channels = width;
            (of_stage, (i > 0).then(|| conv(&(&path / "up"), width, width, 3, 1)))
        });
        let stages = stages.collect();
        Self {
            stem,
            middle,
            stages,
            norm: GroupNorm::new(&(path / "norm"), groups, channels, VQGAN_EPS),
            head: conv(&(path / "head").touching_pixels(), channels, 3, 3, 1),
            recompute,
        }
    }

    pub fn last_layer(&self) -> &Tensor {
        &self.head.weight
    }

    /// Decodes codes to images in about [0, 1].
    ///
    /// # Shapes
    /// `[B, dim, h, w]` -> `[B, 3, f·h, f·w]`, where f is the upsampling of all stages together.
    pub fn forward(&self, codes: &Tensor) -> Tensor {
        let through = |x: Tensor, blocks: &[Shared<ResBlock>]| {
            blocks.iter().fold(x, |x, block| {
                if self.recompute { recomputed(block, &x, ResBlock::forward) } else { block.forward(&x) }
            })
        };
        let x = through(self.stem.forward(&plain_layout(codes)), &self.middle);
        let x = self.stages.iter().fold(x, |x, (blocks, up)| {
            let x = through(x, blocks);
            match up {
                Some(conv) => upsample(2, conv, &x),
                None => x,
            }
        });
        self.head.forward(&norm_silu(&self.norm, &x))
    }
}

/// A residual block, whose convolutions have no biases.
fn res_block(path: &Scope, groups: i64, channels: [i64; 2]) -> ResBlock {
    let settings = ResBlockSettings {
        channels,
        groups: [groups; 2],
        eps: VQGAN_EPS,
        bias: false,
        shortcut: Shortcut::OfResult,
    };
    ResBlock::new(path, &settings)
}
