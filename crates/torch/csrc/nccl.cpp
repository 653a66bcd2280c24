// Process groups over NCCL. The code behind them needs CUDA to be loaded, so it is in a library of
// its own (csrc/cuda), which is opened at its first use.
#include "shim.h"
#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <stdexcept>
#include <string>

namespace {
using MakeGroup = char* (*)(void*, int, int, int64_t, const char*, void**);

// The function of libpixtok_cuda.so that makes a group, after px_load_cuda has succeeded.
MakeGroup make_group() {
  if (!cuda_is_loaded) throw std::runtime_error("NCCL was requested before CUDA was loaded");
  static const MakeGroup found = [] {
    void* library = dlopen("libpixtok_cuda.so", RTLD_NOW | RTLD_LOCAL);
    void* function = library ? dlsym(library, "pxc_nccl") : nullptr;
    if (!function)
      throw std::runtime_error(std::string("this build has no libpixtok_cuda.so, which several processes on GPUs need; "
                                           "run `just setup cuda` (") +
                               dlerror() + ")");
    return reinterpret_cast<MakeGroup>(function);
  }();
  return found;
}
} // namespace

extern "C" {
// Opens libpixtok_cuda.so.
char* px_load_nccl() {
  return caught([] { make_group(); });
}

// Makes a process group over NCCL on the current CUDA device, and returns when all ranks are
// connected. `store` is a c10::intrusive_ptr<c10d::Store>*, whose keys begin with `name` here.
// `backend` receives a new c10::intrusive_ptr<c10d::Backend>*.
char* px_nccl_group(void* store, int rank, int size, int64_t timeout_ms, const char* name, void** backend) {
  return caught([&] {
    char* message = make_group()(store, rank, size, timeout_ms, name, backend);
    if (!message) return;
    std::string text(message);
    std::free(message);
    // An error of the store has its backtrace inside.
    text.resize(std::min(text.size(), text.find("\nException raised from ")));
    // NCCL gives the reason in a later line, and Rust keeps the first.
    std::replace(text.begin(), text.end(), '\n', ' ');
    throw std::runtime_error(text);
  });
}
} // extern "C"
