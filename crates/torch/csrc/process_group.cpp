// The store at which processes meet, and the exchange of tensors among them: c10d of libtorch.
#include "process_group.h"
#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Logging.h>
#include <cstdlib>
#include <sstream>
#include <thread>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {
std::chrono::milliseconds ms(int64_t count) { return std::chrono::milliseconds(count); }

// The sum over all processes. The gradient of a sum of everyone's losses by x is the sum of
// everyone's gradients, so the backward pass is the same exchange.
struct AllReduce : torch::autograd::Function<AllReduce> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, int64_t group) {
    context->saved_data["group"] = group;
    auto sum = x.clone(at::MemoryFormat::Contiguous);
    auto& exchange = *reinterpret_cast<Group*>(group);
    exchange.noting([&] { exchange.start_all_reduce(sum)->wait(); });
    return sum;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    return {AllReduce::apply(gradients[0], context->saved_data["group"].toInt()), at::Tensor()};
  }
};
} // namespace

extern "C" {
// A client of the store at `host`:`port`. With `serves` this process runs the store too.
char* px_store(const char* host, int port, int serves, int64_t timeout_ms, void** store) {
  return caught([&] {
    // c10d prints each failure with its stack as well, before its caller hears of it.
    if (!std::getenv("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = c10::GLOG_FATAL;
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.isServer = serves != 0;
    options.waitWorkers = false;
    options.timeout = ms(timeout_ms);
    *store = new Store(c10::make_intrusive<c10d::TCPStore>(host, options));
  });
}

// The part of the store whose keys start with `prefix`.
char* px_store_part(void* whole, const char* prefix, void** part) {
  return caught([&] { *part = new Store(c10::make_intrusive<c10d::PrefixStore>(prefix, *static_cast<Store*>(whole))); });
}

// A further connection to the same store, for another thread.
char* px_store_again(void* store, void** again) {
  return caught([&] { *again = new Store((*static_cast<Store*>(store))->clone()); });
}

void px_store_free(void* store) { delete static_cast<Store*>(store); }

char* px_store_set(void* store, const char* key, const uint8_t* value, size_t size) {
  return caught([&] { (*static_cast<Store*>(store))->set(key, std::vector<uint8_t>(value, value + size)); });
}

// The value of a key, which this call waits for. The caller frees it with px_free.
char* px_store_get(void* store, const char* key, int64_t timeout_ms, char** value, size_t* size) {
  return caught([&] {
    auto& from = **static_cast<Store*>(store);
    from.wait({key}, ms(timeout_ms));
    auto bytes = from.get(key);
    *size = bytes.size();
    *value = static_cast<char*>(std::malloc(bytes.size() + 1));
    std::memcpy(*value, bytes.data(), bytes.size());
  });
}

// Whether a key is set.
char* px_store_has(void* store, const char* key, int* has) {
  return caught([&] { *has = (*static_cast<Store*>(store))->check({key}) ? 1 : 0; });
}

// Adds 1 to a key, which begins at 0, and gives its new value.
char* px_store_count(void* store, const char* key, int64_t* count) {
  return caught([&] { *count = (*static_cast<Store*>(store))->add(key, 1); });
}

// Processes that exchange tensors on the CPU, reached by network interfaces (their names with commas
// between them) or, without any, at `address` of this host.
char* px_group_gloo(void* store, int rank, int size, int64_t timeout_ms, const char* interfaces, const char* address,
                    void** group) {
  return caught([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(ms(timeout_ms));
    std::istringstream names(interfaces);
    for (std::string name; std::getline(names, name, ',');)
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(name));
    if (options->devices.empty()) options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
    auto made = new Group;
    made->backend = c10::make_intrusive<c10d::ProcessGroupGloo>(*static_cast<Store*>(store), rank, size, options);
    *group = made;
  });
}

// Makes a CUDA device the current one of this thread, after px_load_cuda has succeeded.
char* px_use_cuda(int device) {
  return caught([&] {
    c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
  });
}

// Processes that exchange tensors by a new c10::intrusive_ptr<c10d::Backend>*.
void* px_group_of(void* backend) {
  auto made = new Group;
  auto own = static_cast<c10::intrusive_ptr<c10d::Backend>*>(backend);
  made->backend = std::move(*own);
  delete own;
  return made;
}

// Replaces a tensor by its sum over all processes.
char* px_all_reduce(void* group, at::Tensor* tensor) {
  return caught([&] {
    at::NoGradGuard guard;
    auto& exchange = *static_cast<Group*>(group);
    exchange.noting([&] { exchange.start_all_reduce(*tensor)->wait(); });
  });
}

// Begins to replace a tensor by its sum over all processes.
char* px_all_reduce_start(void* group, at::Tensor* tensor, void** work) {
  return caught([&] {
    at::NoGradGuard guard;
    auto& exchange = *static_cast<Group*>(group);
    exchange.noting([&] { *work = new Work(exchange.start_all_reduce(*tensor)); });
  });
}

// Waits for the exchange that px_all_reduce_start began, and frees it.
char* px_all_reduce_finish(void* group, void* work) {
  return caught([&] {
    std::unique_ptr<Work> own(static_cast<Work*>(work));
    static_cast<Group*>(group)->noting([&] { (*own)->wait(); });
  });
}

// The sum of x over all processes, with gradients.
char* px_summed(void* group, at::Tensor* x, at::Tensor** out) {
  return caught([&] { *out = new at::Tensor(AllReduce::apply(*x, reinterpret_cast<int64_t>(group))); });
}

// The tensors of all processes, [...] -> [size, ...], which must be of one shape.
char* px_all_gather(void* group, at::Tensor* tensor, at::Tensor** out) {
  return caught([&] {
    at::NoGradGuard guard;
    auto& exchange = *static_cast<Group*>(group);
    auto own = tensor->contiguous();
    std::vector<int64_t> shape = own.sizes().vec();
    shape.insert(shape.begin(), exchange.open().getSize());
    auto flat = own.view({-1});
    auto all = at::empty({exchange.open().getSize() * flat.numel()}, own.options());
    if (flat.numel() > 0) exchange.noting([&] { exchange.open()._allgather_base(all, flat)->wait(); });
    *out = new at::Tensor(all.view(shape));
  });
}

// Replaces a contiguous tensor by that of process `root`.
char* px_broadcast(void* group, at::Tensor* tensor, int root) {
  return caught([&] {
    at::NoGradGuard guard;
    auto& exchange = *static_cast<Group*>(group);
    std::vector<at::Tensor> tensors{*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    exchange.noting([&] { exchange.open().broadcast(tensors, options)->wait(); });
  });
}

// Closes the connections of a group that exchanges nothing any more. Its destructor may wait for
// peers, so it runs in a thread of its own.
void px_group_close(void* group) {
  auto own = std::move(static_cast<Group*>(group)->backend);
  if (own) std::thread([own]() mutable { own.reset(); }).detach();
}

// The message of the first exchange that failed, for px_free; null if none has.
char* px_group_fault(void* group) {
  auto& exchange = *static_cast<Group*>(group);
  std::lock_guard<std::mutex> lock(exchange.mutex);
  return exchange.fault.empty() ? nullptr : strdup(exchange.fault.c_str());
}
} // extern "C"
