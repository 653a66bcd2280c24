//! The memory layout of images and feature maps in which the convolutions are fastest.

use tch::{Device, Tensor};

use crate::layers::plain_layout;
use crate::quantizer::Mode;

/// The same numbers in the layout that is fastest on their device.
///
/// That is channels_last for a step of training: on a CPU once normalisation is ours
/// ([`norm_silu`](crate::layers::norm_silu); libtorch's takes longer in this layout than they gain),
/// on CUDA by PyTorch's advice for bf16, and there always. Without training it is the plain layout
/// on a CPU. Either way it is the same for a latent and for what is looked up from its indices.
///
/// # Shapes
/// `[B, C, h, w]` -> the same.
pub(super) fn fastest(x: &Tensor, mode: Mode) -> Tensor {
    match (x.device(), mode) {
        (Device::Cuda(_), _) | (_, Mode::Train { .. }) => channels_last(x),
        _ => plain_layout(x),
    }
}

/// With the channels of a position side by side.
fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
