// silu(gate) * up, the middle of a SwiGLU, in one pass forward and one backward, on the CPU. Of
// libtorch's two operations the second keeps silu(gate) too.
#include "operators.h"
#include "vectors.h"
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {
// Computes y = silu(gate) * up for the numbers begin to end.
template <int N, typename T> PX_INLINE void forward(int64_t begin, int64_t end, const T* gate, const T* up, T* y) {
  for (int64_t at = begin; at < end; at += LANES) {
    int64_t left = end - at;
    Floats<N> g = load<N>(gate + at, left);
    store<N>(y + at, left, g * sigmoid_of<N>(g) * load<N>(up + at, left));
  }
}

// Computes the derivatives with respect to gate and up. silu'(g) = s (1 + g (1 - s)).
template <int N, typename T>
PX_INLINE void backward(int64_t begin, int64_t end, const T* gate, const T* up, const T* dy, T* dgate, T* dup) {
  for (int64_t at = begin; at < end; at += LANES) {
    int64_t left = end - at;
    Floats<N> g = load<N>(gate + at, left), d = load<N>(dy + at, left);
    Floats<N> s = sigmoid_of<N>(g);
    store<N>(dgate + at, left, d * load<N>(up + at, left) * (s * (1.0f + g * (1.0f - s))));
    store<N>(dup + at, left, d * (g * s));
  }
}

using Half = c10::BFloat16;

template <typename T> void run_forward(const at::Tensor& gate, const at::Tensor& up, int instructions, at::Tensor& y) {
  auto* forward_of = version<forward<4, T>, forward<8, T>, forward<16, T>>(instructions);
  const T *from = gate.const_data_ptr<T>(), *times = up.const_data_ptr<T>();
  T* to = y.mutable_data_ptr<T>();
  at::parallel_for(0, gate.numel(), at::internal::GRAIN_SIZE,
                   [&](int64_t begin, int64_t end) { forward_of(begin, end, from, times, to); });
}

template <typename T>
void run_backward(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& dy, int instructions, at::Tensor& dgate,
                  at::Tensor& dup) {
  auto* backward_of = version<backward<4, T>, backward<8, T>, backward<16, T>>(instructions);
  const T *from = gate.const_data_ptr<T>(), *times = up.const_data_ptr<T>(), *gradient = dy.const_data_ptr<T>();
  T *of_gate = dgate.mutable_data_ptr<T>(), *of_up = dup.mutable_data_ptr<T>();
  at::parallel_for(0, gate.numel(), at::internal::GRAIN_SIZE,
                   [&](int64_t begin, int64_t end) { backward_of(begin, end, from, times, gradient, of_gate, of_up); });
}

struct GatedSilu : torch::autograd::Function<GatedSilu> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& gate_input, const at::Tensor& up_input,
                            int64_t instructions) {
    auto gate = gate_input.contiguous(), up = up_input.contiguous();
    auto y = at::empty_like(gate);
    if (gate.scalar_type() == at::kFloat) run_forward<float>(gate, up, (int)instructions, y);
    else run_forward<Half>(gate, up, (int)instructions, y);
    context->save_for_backward({gate, up});
    context->saved_data["instructions"] = instructions;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    auto saved = context->get_saved_variables();
    auto &gate = saved[0], &up = saved[1];
    int instructions = (int)context->saved_data["instructions"].toInt();
    auto dy = gradients[0].to(gate.scalar_type()).contiguous();
    auto dgate = at::empty_like(gate), dup = at::empty_like(up);
    if (gate.scalar_type() == at::kFloat) run_backward<float>(gate, up, dy, instructions, dgate, dup);
    else run_backward<Half>(gate, up, dy, instructions, dgate, dup);
    return {dgate, dup, at::Tensor()};
  }
};
} // namespace

at::Tensor gated_silu_plain(const at::Tensor& gate, const at::Tensor& up, int64_t /*instructions*/) {
  return at::silu(gate) * up;
}

// One operation, if the gate, on the CPU, carries a gradient.
at::Tensor gated_silu_trained(const at::Tensor& gate, const at::Tensor& up, int64_t instructions) {
  if (!is_trained_through(gate)) return gated_silu_plain(gate, up, instructions);
  bool fits = up.is_cpu() && up.scalar_type() == gate.scalar_type() && up.sizes() == gate.sizes();
  TORCH_CHECK(fits, "pixtok::gated_silu: the second input");
  return GatedSilu::apply(gate, up, instructions);
}
