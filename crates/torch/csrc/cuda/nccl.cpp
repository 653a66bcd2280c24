// libpixtok_cuda.so: the part of pixtok that names symbols of libtorch_cuda. The program has to
// start without CUDA, so it opens this library at run time, after libtorch_cuda (csrc/nccl.cpp).
// scripts/build_cuda.sh compiles it. nccl.h must be of the version that libtorch was built with,
// because its structs are members of libtorch's classes.
//
// When a rank dies or stalls, NCCL's kernels on the other GPUs wait for it without end, and so does
// a host that reads from its device. NCCL itself notices only a broken connection between machines.
// Two things end the wait:
//
// 1. Work::wait with a time-out, which polls once a millisecond. After the time-out or an error of
//    NCCL, it aborts the communicator and throws an error that names the rank and the collective.
//    (Without a time-out, Work::wait makes only the device's stream wait, and returns at once.)
// 2. libtorch's watchdog, for a host that waits elsewhere. This thread checks every collective
//    against the time-out of the group, prints the rank and the collective, and ends the process by
//    SIGABRT. It works in C++ as in Python, unless TORCH_NCCL_ASYNC_ERROR_HANDLING is set.
//
// The watchdog ends the process after an error of the first kind too. The program therefore has to
// end soon after it, and must not destroy the group, whose destructor waits for the watchdog.
//
// TORCH_NCCL_BLOCKING_WAIT=1 is not used: each Work::wait would block the host, and there would be
// no watchdog.
#include "../shim.h"
#include <c10/cuda/CUDAFunctions.h>
#include <c10/util/env.h>
#include <chrono>
#include <future>
#include <stdexcept>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

namespace {
using Group = c10::intrusive_ptr<c10d::ProcessGroupNCCL>;

// How the watchdog ends the process, unless the user's environment says so. By default it first
// tells all ranks to write down their collectives, and leaves a minute for that. It tells them by a
// key in the store. Under torchrun the store outlives the processes, so after a restart the new
// ones would find the key and end too. Here nothing is written down, and the watchdog leaves ten
// seconds in which the program can end by itself.
void choose_watchdog() {
  if (c10::utils::has_env("TORCH_NCCL_DUMP_ON_TIMEOUT")) return;
  c10::utils::set_env("TORCH_NCCL_DUMP_ON_TIMEOUT", "0");
  // The watchdog leaves four times as much.
  c10::utils::set_env("TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "2500", /*overwrite=*/false);
}

// Connects the ranks. NCCL has no time-out for this, so another thread does it. If it takes too
// long, that thread is left behind.
void connect(const Group& group, at::Device device, std::chrono::milliseconds timeout) {
  std::packaged_task<void()> task([group, device] { group->eagerConnectSingleDevice(device); });
  auto connected = task.get_future();
  std::thread(std::move(task)).detach();
  if (connected.wait_for(timeout) != std::future_status::ready)
    throw std::runtime_error(c10::str("NCCL has not connected all ranks after ", timeout.count() / 1000,
                                      " s; NCCL_DEBUG=INFO shows what each rank waits for"));
  connected.get();
}
} // namespace

// Makes a process group over NCCL on the current CUDA device, and connects its ranks. `store` is a
// c10::intrusive_ptr<c10d::Store>*, whose keys begin with `name` here. `backend` receives a new
// c10::intrusive_ptr<c10d::Backend>*.
extern "C" char* pxc_nccl(void* store, int rank, int size, int64_t timeout_ms, const char* name, void** backend) {
  return caught([&] {
    choose_watchdog();
    const std::chrono::milliseconds timeout(timeout_ms);
    const at::Device device(at::kCUDA, c10::cuda::current_device());
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    options->group_name = name;
    auto keys = c10::make_intrusive<c10d::PrefixStore>(name, *static_cast<c10::intrusive_ptr<c10d::Store>*>(store));
    auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(std::move(keys), rank, size, std::move(options));
    group->setBoundDeviceId(device);
    connect(group, device, timeout);
    *backend = new c10::intrusive_ptr<c10d::Backend>(std::move(group));
  });
}
