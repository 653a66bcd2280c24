// Group normalisation and SiLU, in one pass forward and one backward, on the CPU, in the
// channels_last layout. libtorch's four kernels read and write the activations several times as
// often. They are slowest in this layout, in which convolutions are fastest (docs/performance.md).
#include "operators.h"
#include "vectors.h"
#include <ATen/Parallel.h>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <torch/csrc/autograd/custom_function.h>
#include <vector>

#define PX_INLINED __attribute__((always_inline))

namespace {
// The values that all images of a batch share. An image has pixels * channels numbers; the channels
// of a pixel are adjacent. Vectors that are `period` apart hold the same channels in each lane.
struct Plan {
  int64_t images, channels, groups, pixels;
  const float *weight, *bias; // [channels]
  int64_t numbers, period, of_group;

  Plan(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t groups)
      : images(x.size(0)), channels(x.size(1)), groups(groups), pixels(x.size(2) * x.size(3)),
        weight(weight.const_data_ptr<float>()), bias(bias.const_data_ptr<float>()), numbers(pixels * channels),
        period(std::lcm(channels, LANES)), of_group(channels / groups) {}
};

struct Moments {
  float mean, rstd; // and 1 / sqrt(variance + eps)
};

// Buffers for the sums and factors of one image; each thread keeps one.
struct Scratch {
  std::vector<double> first, second;                     // [channels]
  std::vector<float> weight, bias, rstd, offset, slope, level; // [period]

  static Scratch& of(const Plan& plan) {
    static thread_local Scratch scratch;
    for (auto* sums : {&scratch.first, &scratch.second}) sums->assign(plan.channels, 0.0);
    for (auto* factors : {&scratch.weight, &scratch.bias, &scratch.rstd, &scratch.offset, &scratch.slope, &scratch.level}) {
      factors->resize(plan.period);
    }
    return scratch;
  }

  // x̂ = x * rstd + offset, and the input of the SiLU is x̂ * weight + bias.
  void spread(const Plan& plan, const Moments* moments) {
    for (int64_t lane = 0; lane < plan.period; lane++) {
      int64_t c = lane % plan.channels;
      const Moments& of = moments[c / plan.of_group];
      weight[lane] = plan.weight[c];
      bias[lane] = plan.bias[c];
      rstd[lane] = of.rstd;
      offset[lane] = -of.mean * of.rstd;
    }
  }
};

template <int N> PX_INLINE Floats<N> full(const float* from) { return load<N>(from, LANES); }

// Replaces all but the first `left` numbers by zeros.
template <int N> PX_INLINE Floats<N> first_of(int64_t left, const Floats<N>& x) {
  if (left >= LANES) return x;
  Floats<N> out = {};
  memcpy(&out, &x, left * sizeof(float));
  return out;
}

// The number of vectors that are summed in single precision before the sum is added to another.
constexpr int64_t RUN = 256;

// Computes two sums per channel over an image. terms(lane) returns a function that adds the terms
// of a vector to the two sums; its arguments are the start of the vector and how many numbers are
// left from there.
template <int N, typename F> PX_INLINE void sum_by_channel(const Plan& plan, F&& terms, Scratch& scratch) {
  for (int64_t lane = 0; lane < plan.period; lane += LANES) {
    auto add = terms(lane);
    Floats<N> first = {}, second = {};
    for (int64_t begin = lane; begin < plan.numbers; begin += RUN * plan.period) {
      Floats<N> run_first = {}, run_second = {};
      int64_t end = std::min(plan.numbers, begin + RUN * plan.period);
      for (int64_t at = begin; at < end; at += plan.period) add(at, plan.numbers - at, run_first, run_second);
      first += run_first;
      second += run_second;
    }
    for (int l = 0; l < LANES; l++) {
      scratch.first[(lane + l) % plan.channels] += first[l];
      scratch.second[(lane + l) % plan.channels] += second[l];
    }
  }
}

template <int N, typename T> PX_INLINE void moments_of(const Plan& plan, Scratch& scratch, const T* x, float eps, Moments* moments) {
  // Distances from the first pixel instead of from zero, so that a mean far from zero costs no
  // digits.
  auto& pivot = scratch.level;
  for (int64_t lane = 0; lane < plan.period; lane++) pivot[lane] = (float)x[lane % plan.channels];
  auto terms = [&](int64_t lane) PX_INLINED {
    return [x, from = full<N>(&pivot[lane])](int64_t at, int64_t left, Floats<N>& sum, Floats<N>& squares) PX_INLINED {
      Floats<N> apart = first_of<N>(left, load<N>(x + at, left) - from);
      sum += apart;
      squares += apart * apart;
    };
  };
  sum_by_channel<N>(plan, terms, scratch);
  double pixels = (double)plan.pixels, n = pixels * plan.of_group;
  for (int64_t g = 0; g < plan.groups; g++) {
    int64_t begin = g * plan.of_group, end = begin + plan.of_group;
    double mean = 0, squares = 0;
    for (int64_t c = begin; c < end; c++) mean += (scratch.first[c] + pixels * pivot[c]) / n;
    for (int64_t c = begin; c < end; c++) {
      double off = mean - pivot[c];
      squares += scratch.second[c] - 2 * off * scratch.first[c] + off * off * pixels;
    }
    moments[g] = {(float)mean, (float)(1 / std::sqrt(std::max(squares, 0.0) / n + eps))};
  }
}

// Computes y = silu(x̂ * weight + bias), and the moments, [groups].
template <int N, typename T>
PX_INLINE void forward(const Plan& plan, Scratch& scratch, const T* x, float eps, Moments* moments, T* y) {
  moments_of<N>(plan, scratch, x, eps, moments);
  scratch.spread(plan, moments);
  for (int64_t lane = 0; lane < plan.period; lane += LANES) {
    Floats<N> weight = full<N>(&scratch.weight[lane]);
    Floats<N> scale = full<N>(&scratch.rstd[lane]) * weight;
    Floats<N> shift = full<N>(&scratch.offset[lane]) * weight + full<N>(&scratch.bias[lane]);
    for (int64_t at = lane; at < plan.numbers; at += plan.period) {
      Floats<N> u = load<N>(x + at, plan.numbers - at) * scale + shift;
      store<N>(y + at, plan.numbers - at, u * sigmoid_of<N>(u));
    }
  }
}

// Computes dx, and this image's share of the derivatives with respect to weight and bias,
// [channels] each.
template <int N, typename T>
PX_INLINE void backward(const Plan& plan, Scratch& scratch, const T* x, const T* dy, const Moments* moments, T* dx, float* dweight,
                        float* dbias) {
  scratch.spread(plan, moments);
  // In the meantime dx holds d, the derivative with respect to the input of the SiLU.
  auto terms = [&](int64_t lane) PX_INLINED {
    return [x, dy, dx, rstd = full<N>(&scratch.rstd[lane]), offset = full<N>(&scratch.offset[lane]), weight = full<N>(&scratch.weight[lane]),
            bias = full<N>(&scratch.bias[lane])](int64_t at, int64_t left, Floats<N>& sum, Floats<N>& products) PX_INLINED {
      Floats<N> normed = load<N>(x + at, left) * rstd + offset;
      Floats<N> u = normed * weight + bias;
      Floats<N> s = sigmoid_of<N>(u);
      // silu'(u) = s (1 + u (1 - s)).
      Floats<N> d = load<N>(dy + at, left) * (s * (1.0f + u * (1.0f - s)));
      store<N>(dx + at, left, d);
      sum += d;
      products += d * normed;
    };
  };
  sum_by_channel<N>(plan, terms, scratch);
  // With N numbers in a group and sums over it: dx = rstd (weight d - (Σ weight d + x̂ Σ weight d
  // x̂) / N).
  double n = (double)(plan.pixels * plan.of_group);
  for (int64_t g = 0; g < plan.groups; g++) {
    int64_t begin = g * plan.of_group, end = begin + plan.of_group;
    double of_d = 0, of_products = 0;
    for (int64_t c = begin; c < end; c++) {
      of_d += plan.weight[c] * scratch.first[c];
      of_products += plan.weight[c] * scratch.second[c];
      dbias[c] = (float)scratch.first[c];
      dweight[c] = (float)scratch.second[c];
    }
    for (int64_t lane = 0; lane < plan.period; lane++) {
      if (lane % plan.channels / plan.of_group != g) continue;
      scratch.slope[lane] = (float)(of_products / n);
      scratch.level[lane] = (float)(of_d / n);
    }
  }
  for (int64_t lane = 0; lane < plan.period; lane += LANES) {
    Floats<N> rstd = full<N>(&scratch.rstd[lane]), offset = full<N>(&scratch.offset[lane]), weight = full<N>(&scratch.weight[lane]);
    Floats<N> slope = full<N>(&scratch.slope[lane]), level = full<N>(&scratch.level[lane]);
    for (int64_t at = lane; at < plan.numbers; at += plan.period) {
      int64_t left = plan.numbers - at;
      Floats<N> normed = load<N>(x + at, left) * rstd + offset;
      store<N>(dx + at, left, rstd * (weight * load<N>(dx + at, left) - (level + normed * slope)));
    }
  }
}

using Half = c10::BFloat16;

// Calls body(image), in parallel if there is enough work.
template <typename F> void each_image(const Plan& plan, F&& body) {
  int64_t at_once = std::max<int64_t>(1, at::internal::GRAIN_SIZE / plan.numbers);
  at::parallel_for(0, plan.images, at_once, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; image++) body(image);
  });
}

template <typename T>
void run_forward(const Plan& plan, const at::Tensor& x, float eps, int instructions, Moments* moments, at::Tensor& y) {
  auto* forward_of = version<forward<4, T>, forward<8, T>, forward<16, T>>(instructions);
  const T* from = x.const_data_ptr<T>();
  T* to = y.mutable_data_ptr<T>();
  each_image(plan, [&](int64_t image) {
    int64_t at = image * plan.numbers;
    forward_of(plan, Scratch::of(plan), from + at, eps, moments + image * plan.groups, to + at);
  });
}

template <typename T>
void run_backward(const Plan& plan, const at::Tensor& x, const at::Tensor& dy, const Moments* moments, int instructions,
                  at::Tensor& dx, at::Tensor& dweight, at::Tensor& dbias) {
  auto* backward_of = version<backward<4, T>, backward<8, T>, backward<16, T>>(instructions);
  const T *from = x.const_data_ptr<T>(), *gradient = dy.const_data_ptr<T>();
  T* to = dx.mutable_data_ptr<T>();
  float *weights = dweight.mutable_data_ptr<float>(), *biases = dbias.mutable_data_ptr<float>();
  each_image(plan, [&](int64_t image) {
    int64_t at = image * plan.numbers, c = image * plan.channels;
    backward_of(plan, Scratch::of(plan), from + at, gradient + at, moments + image * plan.groups, to + at, weights + c, biases + c);
  });
}

struct GroupNormSilu : torch::autograd::Function<GroupNormSilu> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const at::Tensor& bias, int64_t groups, double eps, int64_t instructions) {
    auto x = input.contiguous(at::MemoryFormat::ChannelsLast);
    Plan plan(x, weight, bias, groups);
    auto y = at::empty_like(x);
    auto stored = at::empty({plan.images, groups, 2}, x.options().dtype(at::kFloat));
    auto* moments = (Moments*)stored.mutable_data_ptr<float>();
    if (x.scalar_type() == at::kFloat) run_forward<float>(plan, x, (float)eps, (int)instructions, moments, y);
    else run_forward<Half>(plan, x, (float)eps, (int)instructions, moments, y);
    context->save_for_backward({x, weight, bias, stored});
    context->saved_data["groups"] = groups;
    context->saved_data["instructions"] = instructions;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    auto saved = context->get_saved_variables();
    auto &x = saved[0], &weight = saved[1];
    Plan plan(x, weight, saved[2], context->saved_data["groups"].toInt());
    const auto* moments = (const Moments*)saved[3].const_data_ptr<float>();
    int instructions = (int)context->saved_data["instructions"].toInt();
    auto dy = gradients[0].to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
    auto dx = at::empty_like(x);
    auto dweight = at::empty({plan.images, plan.channels}, weight.options()), dbias = at::empty_like(dweight);
    if (x.scalar_type() == at::kFloat) run_backward<float>(plan, x, dy, moments, instructions, dx, dweight, dbias);
    else run_backward<Half>(plan, x, dy, moments, instructions, dx, dweight, dbias);
    return {dx, dweight.sum(0), dbias.sum(0), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};
} // namespace

at::Tensor norm_silu_plain(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           int64_t groups, double eps, int64_t /*instructions*/) {
  return at::silu(at::group_norm(x, groups, weight, bias, eps, /*cudnn_enabled=*/true));
}

// One operation, if x, [B, C, H, W] on the CPU, carries a gradient. Its result is channels_last.
at::Tensor norm_silu_trained(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             int64_t groups, double eps, int64_t instructions) {
  if (!is_trained_through(x)) return norm_silu_plain(x, weight, bias, groups, eps, instructions);
  TORCH_CHECK(x.dim() == 4 && x.numel() > 0 && groups > 0 && x.size(1) % groups == 0,
              "pixtok::norm_silu: the input's shape");
  for (auto* t : {&weight, &bias}) {
    bool fits = t->is_contiguous() && t->numel() == x.size(1);
    TORCH_CHECK(t->is_cpu() && t->scalar_type() == at::kFloat && fits, "pixtok::norm_silu: weight or bias");
  }
  return GroupNormSilu::apply(x, weight, bias, groups, eps, instructions);
}
