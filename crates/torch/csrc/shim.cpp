// What tch does not bind. crates/torch/src/ is its only Rust interface.
#include "shim.h"
#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zeros.h>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {
std::vector<at::Tensor> list(at::Tensor** tensors, int n) {
  std::vector<at::Tensor> out;
  out.reserve(n);
  for (int i = 0; i < n; i++) out.push_back(*tensors[i]);
  return out;
}
at::DeviceType type_of(int cuda) { return cuda ? at::kCUDA : at::kCPU; }
} // namespace

extern "C" {
void px_free(char* message) { std::free(message); }

// The processors that this process may use, as libgomp counts them; 0 without OpenMP.
char* px_processors(int* count) {
  return caught([&] {
#ifdef _OPENMP
    *count = omp_get_num_procs();
#else
    *count = 0;
#endif
  });
}

// Runs a region of `count` threads that does nothing. libgomp counts these threads until the
// calling thread ends. libgomp ends the process if it cannot start a thread.
char* px_hold_idle_threads(int count) {
  return caught([&] {
#ifdef _OPENMP
#pragma omp parallel num_threads(count)
    asm volatile(""); // an empty region would be left out
#endif
  });
}

// Linking with --as-needed drops libtorch_cuda. This must run before the first CUDA query.
char* px_load_cuda() {
  return caught([&] {
    if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) throw std::runtime_error(dlerror());
    cuda_is_loaded = true;
  });
}

// The compute capability of a CUDA device, after px_load_cuda has succeeded. The function is looked
// up by name, because nothing here is linked to CUDA. The numbers of the attributes belong to
// CUDA's stable interface.
char* px_compute_capability(int device, int* major, int* minor) {
  return caught([&] {
    auto attribute = (int (*)(int*, int, int))dlsym(RTLD_DEFAULT, "cudaDeviceGetAttribute");
    if (!attribute) throw std::runtime_error("there is no CUDA runtime");
    constexpr int MAJOR = 75, MINOR = 76;
    if (attribute(major, MAJOR, device) || attribute(minor, MINOR, device)) throw std::runtime_error("CUDA does not tell");
  });
}

// The manufacturer's name for a CUDA device, after px_load_cuda has succeeded. Uses the driver's
// stable interface, because nothing here is linked to CUDA.
char* px_cuda_model(int device, char* name, size_t size) {
  return caught([&] {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) throw std::runtime_error(dlerror());
    auto init = (int (*)(unsigned))dlsym(driver, "cuInit");
    auto get = (int (*)(int*, int))dlsym(driver, "cuDeviceGet");
    auto get_name = (int (*)(char*, int, int))dlsym(driver, "cuDeviceGetName");
    int handle = 0;
    if (!init || !get || !get_name || init(0) || get(&handle, device) || get_name(name, static_cast<int>(size), handle))
      throw std::runtime_error("CUDA does not tell");
  });
}

// The name of the kernels that libtorch uses on this CPU, cut to `size` bytes including the final
// 0.
char* px_cpu_capability(char* name, size_t size) {
  return caught([&] { snprintf(name, size, "%s", at::get_cpu_capability().c_str()); });
}

// Sets this thread's autocast state for one device type: on or off, with bf16. `previous` receives
// the old state.
char* px_autocast(int cuda, int enabled, int* previous) {
  return caught([&] {
    auto device = type_of(cuda);
    *previous = at::autocast::is_autocast_enabled(device) ? 1 : 0;
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    at::autocast::set_autocast_enabled(device, enabled != 0);
  });
}
// Cached bf16 copies of weights live until the outermost region ends.
char* px_autocast_enter() {
  return caught([&] { at::autocast::increment_nesting(); });
}
char* px_autocast_leave() {
  return caught([&] {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  });
}

// Sets which float32 products may be rounded to TF32: bit 0 for cuBLAS, bit 1 for cuDNN. `previous`
// receives the old bits.
char* px_allow_tf32(int bits, int* previous) {
  return caught([&] {
    auto& context = at::globalContext();
    *previous = (context.allowTF32CuBLAS() ? 1 : 0) | (context.allowTF32CuDNN() ? 2 : 0);
    context.setAllowTF32CuBLAS((bits & 1) != 0);
    context.setAllowTF32CuDNN((bits & 2) != 0);
  });
}

// max(x, slope · x).
char* px_leaky_relu(at::Tensor* x, double slope, at::Tensor** out) {
  return caught([&] { *out = new at::Tensor(at::leaky_relu(*x, slope)); });
}

// Uninitialised bytes on the host. If they are pinned, a CUDA device can fetch them by itself.
char* px_host_bytes(const int64_t* shape, int n, int pinned, at::Tensor** out) {
  return caught([&] {
    auto options = at::TensorOptions().dtype(at::kByte).pinned_memory(pinned != 0);
    *out = new at::Tensor(at::empty(at::IntArrayRef(shape, n), options));
  });
}

// Copies `from` into `to`. A copy between a CUDA device and pinned memory is only ordered.
char* px_copy_async(at::Tensor* to, const at::Tensor* from) {
  return caught([&] {
    at::NoGradGuard guard;
    to->copy_(*from, /*non_blocking=*/true);
  });
}

// Ends a trace that failed.
char* px_abandon_trace() {
  return caught([&] { torch::jit::tracer::abandon(); });
}

char* px_deterministic(int on) {
  return caught([&] {
    auto& context = at::globalContext();
    // cuBLAS is deterministic only with a workspace of fixed size. It reads this variable before
    // its first product.
    if (on) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
    context.setDeterministicAlgorithms(on != 0, /*warn_only=*/false);
    context.setDeterministicCuDNN(on != 0);
    context.setBenchmarkCuDNN(on == 0);
  });
}

// One fused AdamW step over n parameters. `steps` are float scalars that this call increments. If
// `found_inf` (a float scalar or null) is not zero, the device skips the whole step.
char* px_fused_adamw(at::Tensor** params, at::Tensor** grads, at::Tensor** first, at::Tensor** second,
                     at::Tensor** steps, int n, double lr, double beta1, double beta2, double weight_decay,
                     double eps, at::Tensor* found_inf) {
  return caught([&] {
    at::NoGradGuard guard;
    auto p = list(params, n), g = list(grads, n), m = list(first, n), v = list(second, n), s = list(steps, n);
    std::vector<at::Tensor> none;
    std::optional<at::Tensor> skip;
    if (found_inf) {
      skip = *found_inf;
      at::_foreach_add_(s, 1 - *found_inf);
    } else {
      at::_foreach_add_(s, 1);
    }
    at::_fused_adamw_(p, g, m, v, none, s, lr, beta1, beta2, weight_decay, eps, /*amsgrad=*/false,
                      /*maximize=*/false, /*grad_scale=*/std::nullopt, skip);
  });
}

// Removes the gradients of the parameters, so that the next gradient is assigned instead of added
// to zeros.
char* px_drop_grads(at::Tensor** params, int n) {
  return caught([&] {
    for (int i = 0; i < n; i++) params[i]->mutable_grad().reset();
  });
}

// Writes the l2 norm over all gradients together to `total` (a new float scalar). If max_norm > 0,
// the gradients are scaled in place so that the norm is at most max_norm.
char* px_clip_grad_norm(at::Tensor** grads, int n, double max_norm, at::Tensor** total) {
  return caught([&] {
    at::NoGradGuard guard;
    auto g = list(grads, n);
    auto norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(g, 2)), 2);
    if (max_norm > 0) at::_foreach_mul_(g, (max_norm / (norm + 1e-6)).clamp_max(1.0));
    *total = new at::Tensor(norm);
  });
}
} // extern "C"
