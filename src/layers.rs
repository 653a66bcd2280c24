//! Layers with PyTorch's default initialisation, so that a network here starts from the same distribution as its
//! published Python original (tch's own defaults differ).

use tch::nn;

/// A convolution with odd `kernel`, padded so that stride 1 keeps the size.
///
/// # Shapes
/// `[B, in, H, W]` -> `[B, out, H / stride, W / stride]` when `stride` divides H and W.
#[must_use]
pub fn conv(path: &nn::Path, channels_in: i64, channels_out: i64, kernel: i64, stride: i64) -> nn::Conv2D {
    // torch.nn.Conv2d: kaiming_uniform_(a = sqrt 5) is uniform within 1 / sqrt(fan_in), the bias likewise.
    let bound = 1.0 / ((channels_in * kernel * kernel) as f64).sqrt();
    let init = nn::Init::Uniform { lo: -bound, up: bound };
    let config =
        nn::ConvConfig { stride, padding: kernel / 2, ws_init: init, bs_init: init, ..Default::default() };
    nn::conv2d(path, channels_in, channels_out, kernel, config)
}

/// Group normalisation with learned scale (1) and shift (0).
#[must_use]
pub fn group_norm(path: &nn::Path, groups: i64, channels: i64) -> nn::GroupNorm {
    nn::group_norm(path, groups, channels, nn::GroupNormConfig::default())
}
