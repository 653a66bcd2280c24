//! The layers that the blocks of Inception consist of.

use tch::nn::{Module, ModuleT};
use tch::{Tensor, nn};

/// A convolution without bias, a normalisation with fixed statistics, and a ReLU.
#[derive(Debug)]
pub(super) struct ConvNorm {
    conv: nn::Conv2D,
    norm: nn::BatchNorm,
}

impl ConvNorm {
    pub fn new(path: &nn::Path, channels_in: i64, layer: Layer) -> Self {
        let Layer { channels, kernel, step, .. } = layer;
        let (stride, padding) = match step {
            Step::Keep => (1, kernel.map(|side| side / 2)),
            Step::Crop => (1, [0, 0]),
            Step::Halve => (2, [0, 0]),
        };
        let zero = nn::Init::Const(0.0);
        let conv = nn::ConvConfigND::<[i64; 2]> {
            stride: [stride, stride],
            padding,
            bias: false,
            ws_init: zero,
            ..Default::default()
        };
        let norm = nn::BatchNormConfig { eps: 1e-3, ws_init: zero, ..Default::default() };
        Self {
            conv: nn::conv(path / "conv", channels_in, channels, kernel, conv),
            norm: nn::batch_norm2d(path / "bn", channels, norm),
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.norm.forward_t(&self.conv.forward(x), false).relu_()
    }
}

/// The description of a [`ConvNorm`] that is not built yet.
#[derive(Clone, Copy)]
pub(super) struct Layer {
    pub name: &'static str,
    pub channels: i64,
    kernel: [i64; 2],
    step: Step,
}

/// How a convolution changes height and width.
#[derive(Clone, Copy)]
enum Step {
    Keep,
    /// No padding.
    Crop,
    /// No padding, stride 2.
    Halve,
}

/// A layer that keeps height and width; the kernel is height by width.
pub(super) fn layer(name: &'static str, channels: i64, kernel: [i64; 2]) -> Layer {
    Layer { name, channels, kernel, step: Step::Keep }
}

impl Layer {
    pub fn cropping(self) -> Self {
        Self { step: Step::Crop, ..self }
    }

    pub fn halving(self) -> Self {
        Self { step: Step::Halve, ..self }
    }
}

pub(super) fn chain(path: &nn::Path, channels_in: i64, layers: &[Layer]) -> Vec<ConvNorm> {
    let mut channels_in = channels_in;
    let next = |&layer: &Layer| {
        let made = ConvNorm::new(&(path / layer.name), channels_in, layer);
        channels_in = layer.channels;
        made
    };
    layers.iter().map(next).collect()
}

pub(super) fn run(layers: &[ConvNorm], x: &Tensor) -> Tensor {
    layers.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x))
}

/// Parallel branches; their channels are concatenated in the output.
#[derive(Debug)]
pub(super) struct Block {
    pub branches: Vec<Branch>,
    pub pool: Pool,
    /// The layers after the pooling; none if the pooling halves.
    pub after_pool: Vec<ConvNorm>,
}

/// Layers in sequence, then optionally two parallel layers on the same input.
#[derive(Debug)]
pub(super) struct Branch {
    pub layers: Vec<ConvNorm>,
    pub fork: Vec<ConvNorm>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Pool {
    Mean,
    Max,
    Halve,
}

impl Pool {
    pub fn forward(self, x: &Tensor) -> Tensor {
        match self {
            // Like TensorFlow, the mean does not count the padding.
            Self::Mean => x.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None),
            Self::Max => x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false),
            Self::Halve => halve(x),
        }
    }
}

pub(super) fn halve(x: &Tensor) -> Tensor {
    x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false)
}

impl Block {
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let mut outputs = vec![];
        for Branch { layers, fork } in &self.branches {
            let y = run(layers, x);
            if fork.is_empty() {
                outputs.push(y);
            } else {
                outputs.extend(fork.iter().map(|layer| layer.forward(&y)));
            }
        }
        outputs.push(run(&self.after_pool, &self.pool.forward(x)));
        Tensor::cat(&outputs, 1)
    }
}
