//! AlexNet's convolutions (Krizhevsky 2014, arXiv 1404.5997), named as torchvision names them.

use tch::nn::Module;
use tch::{Tensor, nn};

use super::weights::conv;

/// Channels after each of the five rectified convolutions.
pub(super) const CHANNELS: [i64; 5] = [64, 192, 384, 256, 256];

/// The least height and width in pixels; smaller images leave nothing for the second pooling.
pub(super) const MIN_SIDE: i64 = 31;

#[derive(Debug)]
pub(super) struct AlexNet {
    convs: Vec<nn::Conv2D>,
}

impl AlexNet {
    pub fn new(path: &nn::Path) -> Self {
        let features = path / "features";
        let [c1, c2, c3, c4, c5] = CHANNELS;
        Self {
            convs: vec![
                conv(&(&features / 0), (3, c1), 11, 4, 2),
                conv(&(&features / 3), (c1, c2), 5, 1, 2),
                conv(&(&features / 6), (c2, c3), 3, 1, 1),
                conv(&(&features / 8), (c3, c4), 3, 1, 1),
                conv(&(&features / 10), (c4, c5), 3, 1, 1),
            ],
        }
    }

    /// The output of each rectified convolution.
    ///
    /// # Shapes
    /// `x`: `[B, 3, H, W]` -> five tensors `[B, C, h, w]`.
    pub fn features(&self, x: &Tensor) -> Vec<Tensor> {
        let mut taps: Vec<Tensor> = Vec::with_capacity(self.convs.len());
        for (i, conv) in self.convs.iter().enumerate() {
            let pooled = |x: &Tensor| x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false);
            let next = match taps.last() {
                None => conv.forward(x),
                Some(last) if i <= 2 => conv.forward(&pooled(last)),
                Some(last) => conv.forward(last),
            };
            taps.push(next.relu());
        }
        taps
    }
}
