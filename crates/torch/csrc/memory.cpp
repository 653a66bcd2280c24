// Detecting that memory ran out, and reusing freed memory.
#include "shim.h"
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <climits>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {
// The size of the last CPU tensor for which this thread got no memory; 0 if there was none.
thread_local size_t refused_bytes = 0;

// libtorch's CPU allocator, extended to remember refused sizes. Callers of libtorch's C interface
// get only a message.
struct Watched final : c10::Allocator {
  c10::Allocator* inner = c10::GetCPUAllocator();

  c10::DataPtr allocate(size_t bytes) override {
    try {
      return inner->allocate(bytes);
    } catch (...) {
      refused_bytes = bytes;
      throw;
    }
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner->raw_deleter(); }
  bool is_simple_data_ptr(const c10::DataPtr& data) const override { return inner->is_simple_data_ptr(data); }
  void copy_data(void* to, const void* from, size_t count) const override { inner->copy_data(to, from, count); }
};

// Set before main. The functions below make the linker keep this whole file. Never freed, because
// threads may allocate until the very end.
const bool watching = [] {
  c10::SetCPUAllocator(new Watched, /*priority=*/1);
  return true;
}();

// How often memory ran out on any CUDA device since the program started, on any thread. Must not be
// called before CUDA is loaded.
int64_t cuda_refusals() {
  if (!cuda_is_loaded || !at::globalContext().hasCUDA()) return 0;
  auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
  if (!allocator->initialized()) return 0;
  int64_t refusals = 0;
  for (int device = 0; device < at::detail::getCUDAHooks().deviceCount(); device++)
    refusals += allocator->getDeviceStats(static_cast<c10::DeviceIndex>(device)).num_ooms;
  return refusals;
}
thread_local int64_t known_cuda_refusals = 0;
} // namespace

std::atomic<bool> cuda_is_loaded{false};

extern "C" {
// Whether memory ran out since this thread last asked: on the CPU for a tensor of this thread,
// whose size is written to `bytes`; on CUDA for any tensor.
char* px_memory_ran_out(int* ran_out, size_t* bytes) {
  return caught([&] {
    *ran_out = refused_bytes > 0;
    *bytes = refused_bytes;
    refused_bytes = 0;
    int64_t refusals = cuda_refusals();
    if (refusals > known_cuda_refusals) *ran_out = 1;
    known_cuda_refusals = refusals;
  });
}

// Makes the process keep freed memory and reuse it. By default, glibc returns a tensor of some
// megabytes to the system after every operation and fetches it again as fresh pages, which takes
// longer than the operation. Without glibc nothing changes.
char* px_keep_freed_memory() {
  return caught([&] {
#ifdef __GLIBC__
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
  });
}

// Makes all threads share one heap, so that one thread can reuse memory that another freed. Threads
// that decode large pictures at the same time then wait for each other.
char* px_use_one_heap() {
  return caught([&] {
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
#endif
  });
}
} // extern "C"
