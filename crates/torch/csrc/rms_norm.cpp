// RMS normalisation over the last axis, in one pass forward and one backward, on the CPU. libtorch
// has a kernel only for CUDA. On the CPU it takes six operations forward and more than ten backward,
// and keeps the normalised numbers too.
#include "operators.h"
#include "vectors.h"
#include <ATen/Parallel.h>
#include <algorithm>
#include <cmath>
#include <torch/csrc/autograd/custom_function.h>

namespace {
struct Rows {
  int64_t count, width;
  const float* weight; // [width]

  Rows(const at::Tensor& x, const at::Tensor& weight)
      : count(x.numel() / weight.numel()), width(weight.numel()), weight(weight.const_data_ptr<float>()) {}
};

// Rows whose derivatives with respect to the weight are added up by one thread, so that the sums do
// not depend on the number of threads.
constexpr int64_t TOGETHER = 64;

template <int N> PX_INLINE float sum_of(const Floats<N>& x) {
  float sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += x[lane];
  return sum;
}

// Computes y = x * rstd * weight for rows begin to end, and rstd = 1 / sqrt(mean of x² + eps) of
// each.
template <int N>
PX_INLINE void forward(const Rows& rows, int64_t begin, int64_t end, const float* x, float eps, float* rstd, float* y) {
  int64_t width = rows.width;
  for (int64_t row = begin; row < end; row++) {
    const float* from = x + row * width;
    Floats<N> squares = {};
    for (int64_t at = 0; at < width; at += LANES) {
      Floats<N> numbers = load<N>(from + at, width - at);
      squares += numbers * numbers;
    }
    float scale = 1 / std::sqrt(sum_of<N>(squares) / (float)width + eps);
    rstd[row] = scale;
    for (int64_t at = 0; at < width; at += LANES) {
      int64_t left = width - at;
      store<N>(y + row * width + at, left, load<N>(from + at, left) * scale * load<N>(rows.weight + at, left));
    }
  }
}

// Computes dx for rows begin to end, and their share of the derivative with respect to the weight,
// [width]. With x̂ = x * rstd: dx = rstd (weight dy - x̂ * mean of weight dy x̂).
template <int N>
PX_INLINE void backward(const Rows& rows, int64_t begin, int64_t end, const float* x, const float* dy, const float* rstd, float* dx,
                        float* dweight) {
  int64_t width = rows.width;
  std::fill(dweight, dweight + width, 0.0f);
  for (int64_t row = begin; row < end; row++) {
    const float *from = x + row * width, *gradient = dy + row * width;
    Floats<N> products = {};
    for (int64_t at = 0; at < width; at += LANES) {
      int64_t left = width - at;
      products += load<N>(rows.weight + at, left) * load<N>(gradient + at, left) * load<N>(from + at, left);
    }
    float scale = rstd[row], slope = sum_of<N>(products) * scale / (float)width;
    for (int64_t at = 0; at < width; at += LANES) {
      int64_t left = width - at;
      Floats<N> normed = load<N>(from + at, left) * scale, d = load<N>(gradient + at, left);
      store<N>(dx + row * width + at, left, (load<N>(rows.weight + at, left) * d - normed * slope) * scale);
      store<N>(dweight + at, left, load<N>(dweight + at, left) + d * normed);
    }
  }
}

int64_t parts_of(const Rows& rows) { return (rows.count + TOGETHER - 1) / TOGETHER; }

// Calls body(part, begin, end) for each TOGETHER rows, in parallel if there is enough work.
template <typename F> void each_part(const Rows& rows, F&& body) {
  int64_t at_once = std::max<int64_t>(1, at::internal::GRAIN_SIZE / (TOGETHER * rows.width));
  at::parallel_for(0, parts_of(rows), at_once, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; part++) {
      body(part, part * TOGETHER, std::min(rows.count, (part + 1) * TOGETHER));
    }
  });
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            double eps, int64_t instructions) {
    auto x = input.contiguous();
    Rows rows(x, weight);
    auto y = at::empty_like(x), stored = at::empty({rows.count}, x.options());
    auto* forward_of = version<::forward<4>, ::forward<8>, ::forward<16>>((int)instructions);
    const float* from = x.const_data_ptr<float>();
    float *rstd = stored.mutable_data_ptr<float>(), *to = y.mutable_data_ptr<float>();
    each_part(rows, [&](int64_t /*part*/, int64_t begin, int64_t end) {
      forward_of(rows, begin, end, from, (float)eps, rstd, to);
    });
    context->save_for_backward({x, weight, stored});
    context->saved_data["instructions"] = instructions;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    auto saved = context->get_saved_variables();
    auto &x = saved[0], &weight = saved[1];
    Rows rows(x, weight);
    auto dy = gradients[0].contiguous();
    auto dx = at::empty_like(x), dweights = at::empty({parts_of(rows), rows.width}, weight.options());
    int instructions = (int)context->saved_data["instructions"].toInt();
    auto* backward_of = version<::backward<4>, ::backward<8>, ::backward<16>>(instructions);
    const float *from = x.const_data_ptr<float>(), *gradient = dy.const_data_ptr<float>(), *rstd = saved[2].const_data_ptr<float>();
    float *to = dx.mutable_data_ptr<float>(), *shares = dweights.mutable_data_ptr<float>();
    each_part(rows, [&](int64_t part, int64_t begin, int64_t end) {
      backward_of(rows, begin, end, from, gradient, rstd, to, shares + part * rows.width);
    });
    return {dx, dweights.sum(0), at::Tensor(), at::Tensor()};
  }
};
} // namespace

at::Tensor rms_norm_plain(const at::Tensor& x, const at::Tensor& weight, double eps, int64_t /*instructions*/) {
  return at::rms_norm(x, weight.sizes(), weight, eps);
}

// One operation, if x, [..., width] float32 on the CPU, carries a gradient.
at::Tensor rms_norm_trained(const at::Tensor& x, const at::Tensor& weight, double eps, int64_t instructions) {
  if (!is_trained_through(x) || x.scalar_type() != at::kFloat) return rms_norm_plain(x, weight, eps, instructions);
  bool fits = weight.is_cpu() && weight.scalar_type() == at::kFloat && weight.is_contiguous() && weight.dim() == 1;
  TORCH_CHECK(fits && weight.numel() > 0, "pixtok::rms_norm: the weight");
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == weight.numel(), "pixtok::rms_norm: the input's shape");
  return RmsNorm::apply(x, weight, eps, instructions);
}
