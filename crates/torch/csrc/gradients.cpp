// The mean of gradients over all processes, exchanged while the backward pass goes on.
//
// Parameters are grouped into buckets in the reverse of their order, which is about the order in
// which their gradients become known. Each bucket is exchanged as soon as all of its gradients are
// there and the bucket before it was started: every process must start the same exchanges in the
// same order.
#include "process_group.h"
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/empty.h>
#include <chrono>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace {
struct Bucket {
  std::vector<at::Tensor> parameters;
  // The gradients of all its parameters, and the part of each, in the parameter's memory layout.
  at::Tensor flat;
  std::vector<at::Tensor> views;
  size_t missing = 0;
  // The gradients in the form in which they travel: `flat` itself, or rounded to bf16.
  at::Tensor sent;
  Work work;
};

at::Tensor view_like(const at::Tensor& flat, int64_t offset, const at::Tensor& parameter) {
  auto part = flat.narrow(0, offset, parameter.numel());
  return parameter.is_non_overlapping_and_dense() ? part.as_strided(parameter.sizes(), parameter.strides())
                                                  : part.view(parameter.sizes());
}

struct Buckets {
  Group& group;
  bool bf16;
  std::vector<Bucket> buckets;
  // Hooks may run in a thread of the backward pass.
  std::mutex mutex;
  bool armed = false;
  // The first bucket that was not started.
  size_t next = 0;
  std::exception_ptr failed;

  Buckets(Group& group, const std::vector<at::Tensor>& parameters, size_t first_bytes, size_t bytes, bool bf16)
      : group(group), bf16(bf16) {
    std::vector<at::Tensor> reversed(parameters.rbegin(), parameters.rend());
    auto assigned = std::get<0>(c10d::compute_bucket_assignment_by_size(reversed, {first_bytes, bytes}));
    for (const auto& indices : assigned) {
      Bucket bucket;
      int64_t total = 0;
      for (auto index : indices) total += reversed[index].numel();
      bucket.flat = at::empty({total}, reversed[indices[0]].options().requires_grad(false));
      int64_t offset = 0;
      for (auto index : indices) {
        bucket.parameters.push_back(reversed[index]);
        bucket.views.push_back(view_like(bucket.flat, offset, reversed[index]));
        offset += reversed[index].numel();
      }
      buckets.push_back(std::move(bucket));
    }
  }

  void arm() {
    std::lock_guard<std::mutex> lock(mutex);
    for (auto& bucket : buckets) bucket.missing = bucket.parameters.size();
    next = 0;
    failed = nullptr;
    armed = true;
  }

  // A gradient of the bucket is complete.
  void ready(size_t index) {
    std::lock_guard<std::mutex> lock(mutex);
    if (!armed) return;
    buckets[index].missing--;
    while (next < buckets.size() && buckets[next].missing == 0) start();
  }

  // Starts the exchange of the next bucket. A parameter without a gradient counts as one with zeros.
  void start() {
    auto& bucket = buckets[next++];
    if (failed) return;
    try {
      at::NoGradGuard guard;
      std::vector<at::Tensor> into, from;
      for (size_t i = 0; i < bucket.views.size(); i++) {
        const auto& gradient = bucket.parameters[i].grad();
        if (!gradient.defined()) {
          bucket.views[i].zero_();
        } else {
          into.push_back(bucket.views[i]);
          from.push_back(gradient);
        }
      }
      if (!into.empty()) at::_foreach_copy_(into, from);
      // Divided before the sum, so that bf16 keeps its range.
      bucket.flat.div_(group.open().getSize());
      bucket.sent = bf16 ? bucket.flat.to(at::kBFloat16) : bucket.flat;
      bucket.work = group.start_all_reduce(bucket.sent);
    } catch (const std::exception& error) {
      group.note(error);
      failed = std::current_exception();
    }
  }

  // Starts what was not started, waits for everything and makes the means the parameters' gradients.
  void finish() {
    std::lock_guard<std::mutex> lock(mutex);
    armed = false;
    while (next < buckets.size()) start();
    if (failed) std::rethrow_exception(failed);
    at::NoGradGuard guard;
    for (auto& bucket : buckets) {
      group.noting([&] { bucket.work->wait(); });
      bucket.work.reset();
      if (bf16) bucket.flat.copy_(bucket.sent);
      bucket.sent.reset();
      for (size_t i = 0; i < bucket.views.size(); i++) bucket.parameters[i].mutable_grad() = bucket.views[i];
    }
  }
};

struct Hook : torch::autograd::PostAccumulateGradHook {
  std::shared_ptr<Buckets> buckets;
  size_t bucket;
  Hook(std::shared_ptr<Buckets> buckets, size_t bucket) : buckets(std::move(buckets)), bucket(bucket) {}
  void operator()(const at::Tensor&) override { buckets->ready(bucket); }
};
} // namespace

extern "C" {
char* px_gradients(void* group, at::Tensor** parameters, int n, size_t first_bytes, size_t bytes, int bf16, void** out) {
  return caught([&] {
    std::vector<at::Tensor> list;
    for (int i = 0; i < n; i++) list.push_back(*parameters[i]);
    auto made = std::make_shared<Buckets>(*static_cast<Group*>(group), list, first_bytes, bytes, bf16 != 0);
    for (size_t i = 0; i < made->buckets.size(); i++) {
      for (const auto& parameter : made->buckets[i].parameters)
        torch::autograd::impl::set_post_acc_grad_hooks(parameter, std::make_unique<Hook>(made, i));
    }
    *out = new std::shared_ptr<Buckets>(made);
  });
}

// The next backward pass completes the gradients.
char* px_gradients_arm(void* gradients) {
  return caught([&] { (*static_cast<std::shared_ptr<Buckets>*>(gradients))->arm(); });
}

char* px_gradients_finish(void* gradients) {
  return caught([&] { (*static_cast<std::shared_ptr<Buckets>*>(gradients))->finish(); });
}
} // extern "C"
