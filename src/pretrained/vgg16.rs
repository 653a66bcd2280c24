//! VGG16's convolutions (Simonyan and Zisserman 2014, arXiv 1409.1556), named as torchvision names
//! them.

use tch::nn::Module;
use tch::{Tensor, nn};

use super::weights::conv;

/// Channels after each of the five stages.
pub(super) const CHANNELS: [i64; 5] = [64, 128, 256, 512, 512];

/// The least height and width in pixels; smaller images leave nothing after the fourth pooling.
pub(super) const MIN_SIDE: i64 = 16;

/// Indices of the convolutions in torchvision's `features`, by stage.
const PLACES: [&[i64]; 5] = [&[0, 2], &[5, 7], &[10, 12, 14], &[17, 19, 21], &[24, 26, 28]];

#[derive(Debug)]
pub(super) struct Vgg16 {
    stages: Vec<Vec<nn::Conv2D>>,
}

impl Vgg16 {
    pub fn new(path: &nn::Path) -> Self {
        let features = path / "features";
        let mut channels_in = 3;
        let stage = |(places, channels): (&[i64], i64)| {
            let convs = places.iter().map(|&place| {
                let made = conv(&(&features / place), (channels_in, channels), 3, 1, 1);
                channels_in = channels;
                made
            });
            convs.collect()
        };
        Self { stages: PLACES.into_iter().zip(CHANNELS).map(stage).collect() }
    }

    /// The output of the last rectified convolution of each stage.
    ///
    /// # Shapes
    /// `x`: `[B, 3, H, W]` -> five tensors `[B, C, h, w]`.
    pub fn features(&self, x: &Tensor) -> Vec<Tensor> {
        let mut taps: Vec<Tensor> = Vec::with_capacity(self.stages.len());
        for convs in &self.stages {
            let start = match taps.last() {
                None => x.shallow_clone(),
                Some(last) => last.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false),
            };
            taps.push(convs.iter().fold(start, |x, conv| conv.forward(&x).relu()));
        }
        taps
    }
}
