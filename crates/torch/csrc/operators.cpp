// Registers our operators in libtorch's dispatcher. Each has one name, for all devices and all
// thread states. The functions that Rust calls must be in this file: if nothing refers to an object
// of a static library, the linker drops it with all its registrations.
#include "operators.h"
#include "shim.h"
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace {
// The operator with this name, which has the parameters of `function`.
template <typename F> auto find(const char* name, F& /*function*/) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<F>();
}

Nearest nearest(const at::Tensor& vectors, const at::Tensor& weights, const at::Tensor& bias,
                int64_t table_bytes, int64_t instructions) {
  static const auto op = find("pixtok::nearest", nearest_by_products);
  return op.call(vectors, weights, bias, table_bytes, instructions);
}

// An index has no derivative.
Nearest nearest_without_gradient(const at::Tensor& vectors, const at::Tensor& weights, const at::Tensor& bias,
                                 int64_t table_bytes, int64_t instructions) {
  at::AutoDispatchBelowADInplaceOrView below;
  return nearest(vectors, weights, bias, table_bytes, instructions);
}

// In bfloat16 many codes would be equally near.
Nearest nearest_in_floats(const at::Tensor& vectors, const at::Tensor& weights, const at::Tensor& bias,
                          int64_t table_bytes, int64_t instructions) {
  c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  auto in_floats = [](const at::Tensor& t) { return t.to(at::kFloat); };
  return nearest(in_floats(vectors), in_floats(weights), in_floats(bias), table_bytes, instructions);
}
} // namespace

TORCH_LIBRARY(pixtok, m) {
  m.def("norm_silu(Tensor x, Tensor weight, Tensor bias, int groups, float eps, int instructions) -> Tensor");
  m.def("rms_norm(Tensor x, Tensor weight, float eps, int instructions) -> Tensor");
  m.def("gated_silu(Tensor gate, Tensor up, int instructions) -> Tensor");
  m.def("upsample_conv(Tensor x, Tensor weight, Tensor? bias, int factor) -> Tensor");
  m.def("nearest(Tensor vectors, Tensor weights, Tensor bias, int table_bytes, int instructions)"
        " -> (Tensor least, Tensor chosen)");
}

// The registrations follow the order of the dispatcher: autocast, tracing, gradients, device.

// The layers are not registered here, so they are passed on unchanged: libtorch's operations
// cast by themselves, and our kernels compute in the input's own type.
TORCH_LIBRARY_IMPL(pixtok, AutocastCPU, m) { m.impl("nearest", nearest_in_floats); }
TORCH_LIBRARY_IMPL(pixtok, AutocastCUDA, m) { m.impl("nearest", nearest_in_floats); }

// A trace must hold only libtorch's operations: a program without pixtok could not load any other.
TORCH_LIBRARY_IMPL(pixtok, Tracer, m) {
  m.impl("norm_silu", norm_silu_plain);
  m.impl("rms_norm", rms_norm_plain);
  m.impl("gated_silu", gated_silu_plain);
  m.impl("upsample_conv", upsample_conv_plain);
  m.impl("nearest", nearest_in_one_table);
}

TORCH_LIBRARY_IMPL(pixtok, AutogradCPU, m) {
  m.impl("norm_silu", norm_silu_trained);
  m.impl("rms_norm", rms_norm_trained);
  m.impl("gated_silu", gated_silu_trained);
  m.impl("upsample_conv", upsample_conv_trained);
}
TORCH_LIBRARY_IMPL(pixtok, Autograd, m) { m.impl("nearest", nearest_without_gradient); }

TORCH_LIBRARY_IMPL(pixtok, CPU, m) { m.impl("nearest", nearest_on_cpu); }

// All other cases, CUDA included: libtorch's own operations. For the layers, libtorch knows the
// derivatives.
TORCH_LIBRARY_IMPL(pixtok, CompositeExplicitAutograd, m) { m.impl("nearest", nearest_by_products); }
TORCH_LIBRARY_IMPL(pixtok, CompositeImplicitAutograd, m) {
  m.impl("norm_silu", norm_silu_plain);
  m.impl("rms_norm", rms_norm_plain);
  m.impl("gated_silu", gated_silu_plain);
  m.impl("upsample_conv", upsample_conv_plain);
}

extern "C" {
char* px_norm_silu(at::Tensor* x, at::Tensor* weight, at::Tensor* bias, int64_t groups, double eps,
                   int instructions, at::Tensor** y) {
  return caught([&] {
    static const auto op = find("pixtok::norm_silu", norm_silu_plain);
    *y = new at::Tensor(op.call(*x, *weight, *bias, groups, eps, instructions));
  });
}

char* px_rms_norm(at::Tensor* x, at::Tensor* weight, double eps, int instructions, at::Tensor** y) {
  return caught([&] {
    static const auto op = find("pixtok::rms_norm", rms_norm_plain);
    *y = new at::Tensor(op.call(*x, *weight, eps, instructions));
  });
}

char* px_gated_silu(at::Tensor* gate, at::Tensor* up, int instructions, at::Tensor** y) {
  return caught([&] {
    static const auto op = find("pixtok::gated_silu", gated_silu_plain);
    *y = new at::Tensor(op.call(*gate, *up, instructions));
  });
}

// `bias` may be null.
char* px_upsample_conv(at::Tensor* x, at::Tensor* weight, at::Tensor* bias, int64_t factor, at::Tensor** y) {
  return caught([&] {
    static const auto op = find("pixtok::upsample_conv", upsample_conv_plain);
    *y = new at::Tensor(op.call(*x, *weight, bias ? std::optional(*bias) : std::nullopt, factor));
  });
}

char* px_nearest(at::Tensor* vectors, at::Tensor* weights, at::Tensor* bias, int64_t table_bytes,
                 int instructions, at::Tensor** least, at::Tensor** chosen) {
  return caught([&] {
    auto [scores, indices] = nearest(*vectors, *weights, *bias, table_bytes, instructions);
    *least = new at::Tensor(scores);
    *chosen = new at::Tensor(indices);
  });
}

// For tests: whether an operator has a kernel for exactly this dispatch key, and whether a call
// with this key finds any kernel (false for a key that stands for several).
char* px_kernels(const char* name, const char* key, int* own, int* any) {
  return caught([&] {
    auto op = c10::Dispatcher::singleton().findSchema({name, ""});
    TORCH_CHECK(op, "there is no operator ", name);
    auto parsed = c10::parseDispatchKey(key);
    *own = op->hasKernelForDispatchKey(parsed) ? 1 : 0;
    *any = !c10::isAliasDispatchKey(parsed) && op->hasComputedKernelForDispatchKey(parsed) ? 1 : 0;
  });
}
} // extern "C"
