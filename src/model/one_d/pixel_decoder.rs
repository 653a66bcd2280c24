//! MaskGIT-VQGAN's decoder (arXiv 2202.04200), as TiTok's first models use it, and the choice among
//! its codes.

use tch::{Kind, Tensor, nn::Module};

use super::config;
use crate::layers::{Conv2d, GroupNorm, Linear, conv, norm_silu, plain_layout, upsample};
use crate::variables::{Init, Scope};

/// The epsilon of every group normalisation.
const GROUP_NORM_EPS: f64 = 1e-6;

/// Chooses softly among the codes of a codebook.
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
            hidden: Linear::new(&(path / "hidden"), width, 2 * width, true),
            logits: Linear::new(&(path / "logits"), 2 * width, settings.codes, true),
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

/// Convolutions with residual blocks at each resolution, the coarsest first, and no attention.
#[derive(Debug)]
pub(super) struct PixelDecoder {
    stem: Conv2d,
    middle: Vec<ResBlock>,
    /// The blocks of each resolution, and the convolution after the enlargement to the next one.
    stages: Vec<(Vec<ResBlock>, Option<Conv2d>)>,
    norm: GroupNorm,
    head: Conv2d,
}

impl PixelDecoder {
    pub fn new(path: &Scope, settings: &config::PixelDecoder) -> Self {
        let groups = settings.norm_groups;
        let widths: Vec<i64> =
            settings.multipliers.iter().map(|multiplier| settings.channels * multiplier).collect();
        let mut channels = widths.last().copied().unwrap_or(settings.channels);
        let blocks = |path: &Scope, from: i64, to: i64| -> Vec<ResBlock> {
            let widths = |i| if i == 0 { (from, to) } else { (to, to) };
            (0..settings.res_blocks)
                .map(|i| ResBlock::new(&(path / format!("res{i}")), groups, widths(i)))
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
            norm: GroupNorm::new(&(path / "norm"), groups, channels, GROUP_NORM_EPS),
            head: conv(&(path / "head").touching_pixels(), channels, 3, 3, 1),
        }
    }

    pub fn last_layer(&self) -> &Tensor {
        &self.head.weight
    }

    /// Images of codes, in [0, 1] about.
    ///
    /// # Shapes
    /// `[B, dim, h, w]` -> `[B, 3, f·h, f·w]`, where f is the enlargement of all resolutions.
    pub fn forward(&self, codes: &Tensor) -> Tensor {
        let through = |x: Tensor, blocks: &[ResBlock]| blocks.iter().fold(x, |x, block| block.forward(&x));
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

/// Group norm, SiLU and a 3×3 convolution without bias, twice. Where the widths differ, what is
/// added to the result is no map of the block's input but a 1×1 convolution of the result itself,
/// as in the published program.
#[derive(Debug)]
struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResBlock {
    fn new(path: &Scope, groups: i64, (from, to): (i64, i64)) -> Self {
        let norm = |name: &str, channels| GroupNorm::new(&(path / name), groups, channels, GROUP_NORM_EPS);
        Self {
            norm1: norm("norm1", from),
            conv1: bare_conv(&(path / "conv1"), (from, to), 3),
            norm2: norm("norm2", to),
            conv2: bare_conv(&(path / "conv2"), (to, to), 3),
            shortcut: (from != to).then(|| bare_conv(&(path / "shortcut"), (to, to), 1)),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.conv1.forward(&norm_silu(&self.norm1, x));
        let h = self.conv2.forward(&norm_silu(&self.norm2, &h));
        match &self.shortcut {
            Some(shortcut) => &h + shortcut.forward(&h),
            None => h + x,
        }
    }
}

/// A convolution without bias that keeps the size.
fn bare_conv(path: &Scope, (from, to): (i64, i64), kernel: i64) -> Conv2d {
    let init = Init::fan_in(from * kernel * kernel);
    Conv2d {
        weight: path.conv("weight", [to, from, kernel, kernel], init),
        bias: None,
        stride: 1,
        padding: kernel / 2,
    }
}
