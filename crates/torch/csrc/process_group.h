// What the files about several processes share.
#pragma once
#include "shim.h"
#include <mutex>
#include <stdexcept>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

using Store = c10::intrusive_ptr<c10d::Store>;
using Work = c10::intrusive_ptr<c10d::Work>;

// The processes that exchange tensors of one kind of device. It lives until the process ends,
// since its destructor would wait for peers that may be gone.
struct Group {
  c10::intrusive_ptr<c10d::Backend> backend;
  std::mutex mutex;
  // The message of the first exchange that failed, if one has. An exchange inside a backward pass
  // has no other way to report it than an exception of the whole pass.
  std::string fault;

  c10d::Backend& open() {
    if (!backend) throw std::runtime_error("the group is closed");
    return *backend;
  }

  Work start_all_reduce(const at::Tensor& tensor) {
    std::vector<at::Tensor> tensors{tensor};
    return open().allreduce(tensors);
  }

  // Runs an exchange, and notes why it failed if it did.
  template <typename F> void noting(F&& exchange) {
    try {
      exchange();
    } catch (const std::exception& error) {
      note(error);
      throw;
    }
  }

  void note(const std::exception& error) {
    auto torch = dynamic_cast<const c10::Error*>(&error);
    std::lock_guard<std::mutex> lock(mutex);
    if (fault.empty()) fault = torch ? torch->what_without_backtrace() : error.what();
  }
};
