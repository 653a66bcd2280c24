// The functions behind our operators. operators.cpp determines when each is called.
#pragma once
#include <ATen/ATen.h>
#include <optional>
#include <tuple>

// Whether the kernels for training steps apply to x. Without a gradient, libtorch's own operations
// are used, so that evaluation, encoding and export compute the network that others run, to the
// last bit.
inline bool is_trained_through(const at::Tensor& x) {
  return x.requires_grad() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

// silu(group_norm(x)). weight and bias are [C]. `instructions` is the version of our kernel
// (vectors.h).
at::Tensor norm_silu_plain(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           int64_t groups, double eps, int64_t instructions);
at::Tensor norm_silu_trained(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             int64_t groups, double eps, int64_t instructions);

// rms_norm(x) over the last axis. weight is [width].
at::Tensor rms_norm_plain(const at::Tensor& x, const at::Tensor& weight, double eps, int64_t instructions);
at::Tensor rms_norm_trained(const at::Tensor& x, const at::Tensor& weight, double eps, int64_t instructions);

// silu(gate) * up, of one shape.
at::Tensor gated_silu_plain(const at::Tensor& gate, const at::Tensor& up, int64_t instructions);
at::Tensor gated_silu_trained(const at::Tensor& gate, const at::Tensor& up, int64_t instructions);

// conv2d(upsample_nearest(x, factor), weight, bias, padding 1). weight is [O, C, 3, 3], bias [O].
at::Tensor upsample_conv_plain(const at::Tensor& x, const at::Tensor& weight,
                               const std::optional<at::Tensor>& bias, int64_t factor);
at::Tensor upsample_conv_trained(const at::Tensor& x, const at::Tensor& weight,
                                 const std::optional<at::Tensor>& bias, int64_t factor);

// For each of vectors [N, D]: the value and index (int64) of the least bias_k + vectors .
// weights_k; among equal values, the first. weights is [D, K], bias [K]. Tables of scores take at
// most `table_bytes` bytes at a time, but hold at least one vector.
using Nearest = std::tuple<at::Tensor, at::Tensor>;
Nearest nearest_on_cpu(const at::Tensor& vectors, const at::Tensor& weights, const at::Tensor& bias,
                       int64_t table_bytes, int64_t instructions);
Nearest nearest_by_products(const at::Tensor& vectors, const at::Tensor& weights, const at::Tensor& bias,
                            int64_t table_bytes, int64_t instructions);
Nearest nearest_in_one_table(const at::Tensor& vectors, const at::Tensor& weights, const at::Tensor& bias,
                             int64_t table_bytes, int64_t instructions);
