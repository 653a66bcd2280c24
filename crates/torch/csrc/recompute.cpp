// A block of a network that keeps only its input for the backward pass, which computes the block
// again.
//
// The block's parameters are inputs of its node. So the backward pass that runs outside adds to
// their gradients, once for all places in which they are used, and calls their hooks. The pass
// inside only returns gradients. PyTorch's checkpoint with use_reentrant adds to them inside: it
// calls hooks once for each block, needs an input with a gradient, and takes no part in `grad`.
#include "shim.h"
#include <ATen/SequenceNumber.h>
#include <ATen/autocast_mode.h>
#include <array>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <unordered_set>

namespace {
using torch::autograd::Edge;
using torch::autograd::edge_list;
using torch::autograd::impl::gradient_edge;

// Computes a block from x, which it frees, into a new tensor. If it fails, it returns a number
// other than 0 and writes a message of at most `size` bytes including the final 0.
using Call = int (*)(void* block, at::Tensor* x, at::Tensor** y, char* message, size_t size);
using Drop = void (*)(void* block);

struct Block {
  std::shared_ptr<void> data;
  Call call;

  at::Tensor operator()(const at::Tensor& x) const {
    char message[1024] = "";
    at::Tensor* y = nullptr;
    if (call(data.get(), new at::Tensor(x), &y, message, sizeof(message)) != 0) throw std::runtime_error(message);
    return *std::unique_ptr<at::Tensor>(y);
  }
};

// A thread's autocast.
struct Autocast {
  static constexpr std::array<at::DeviceType, 2> DEVICES{at::kCPU, at::kCUDA};
  std::array<bool, DEVICES.size()> enabled{};
  std::array<at::ScalarType, DEVICES.size()> types{};
  bool cache = at::autocast::is_autocast_cache_enabled();

  Autocast() {
    for (size_t i = 0; i < DEVICES.size(); i++) {
      enabled[i] = at::autocast::is_autocast_enabled(DEVICES[i]);
      types[i] = at::autocast::get_autocast_dtype(DEVICES[i]);
    }
  }
  void set() const {
    for (size_t i = 0; i < DEVICES.size(); i++) {
      at::autocast::set_autocast_dtype(DEVICES[i], types[i]);
      at::autocast::set_autocast_enabled(DEVICES[i], enabled[i]);
    }
    at::autocast::set_autocast_cache_enabled(cache);
  }
};

// Sets this thread's autocast, without its cache, until the end of the scope.
struct Under {
  Autocast before;
  explicit Under(Autocast then) {
    then.cache = false;
    then.set();
  }
  ~Under() { before.set(); }
  Under(const Under&) = delete;
  Under& operator=(const Under&) = delete;
};

// The parameters to which the graph of `y` leads, apart from the block's input `x`. Refuses results
// of operations before number `first` of this thread: the pass inside would go on through them.
edge_list parameters_of(const Edge& y, const Edge& x, uint64_t first) {
  edge_list found, ahead{y};
  std::unordered_set<const torch::autograd::Node*> seen{x.function.get()};
  while (!ahead.empty()) {
    auto edge = std::move(ahead.back());
    ahead.pop_back();
    if (!edge.is_valid() || !seen.insert(edge.function.get()).second) continue;
    if (dynamic_cast<const torch::autograd::AccumulateGrad*>(edge.function.get())) {
      found.push_back(std::move(edge));
      continue;
    }
    TORCH_CHECK(edge.function->sequence_nr() >= first,
                "a block that is computed again uses a result of earlier operations beside its input (",
                edge.function->name(), "); such a block may use parameters only");
    const auto& next = edge.function->next_edges();
    ahead.insert(ahead.end(), next.begin(), next.end());
  }
  return found;
}

struct Recomputed final : torch::autograd::Node {
  torch::autograd::SavedVariable input;
  Block block;
  Autocast autocast;

  // `edges`: that of x, which leads nowhere if x carries no gradient, and those of the parameters.
  Recomputed(edge_list&& edges, const at::Tensor& x, Block&& block)
      : Node(std::move(edges)), input(x, /*is_output=*/false), block(std::move(block)) {}

  std::string name() const override { return "Recomputed"; }

  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "a block that is computed again in the backward pass has no second derivatives");
    std::lock_guard<std::mutex> lock(mutex_);
    // Fails if the graph was freed, or if x was changed in place.
    auto x = input.unpack().detach();
    if (!gradients[0].defined()) return torch::autograd::variable_list(num_outputs());
    bool through_x = next_edge(0).is_valid();
    x.requires_grad_(through_x);
    auto y = computed_again(x);
    edge_list wanted(next_edges().begin() + 1, next_edges().end());
    TORCH_CHECK(parameters_of(y, gradient_edge(x), 0) == wanted,
                "a block that is computed again did other operations than the first time");
    if (through_x) wanted.insert(wanted.begin(), gradient_edge(x));
    auto& engine = torch::autograd::Engine::get_default_engine();
    auto found = engine.execute({y}, {std::move(gradients[0])}, /*keep_graph=*/false, /*create_graph=*/false,
                                /*accumulate_grad=*/false, wanted);
    if (!through_x) found.insert(found.begin(), at::Tensor());
    return found;
  }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    input.reset_data();
    block.data.reset();
  }

private:
  // The end of the block's graph. Its numbers aren't needed.
  Edge computed_again(const at::Tensor& x) const {
    at::AutoGradMode recording(true);
    Under forward(autocast);
    return gradient_edge(block(x));
  }
};
} // namespace

extern "C" {
// Whether this thread's operations are recorded for a backward pass, and not for a trace; and the
// number that the next one will have.
char* px_records(int* records, uint64_t* next) {
  return caught([&] {
    *records = at::GradMode::is_enabled() && !torch::jit::tracer::isTracing() ? 1 : 0;
    *next = at::sequence_number::peek();
  });
}

// Whether autocast keeps its copies of weights for their next use. `previous` receives the old
// state.
char* px_autocast_cache(int on, int* previous) {
  return caught([&] {
    *previous = at::autocast::is_autocast_cache_enabled() ? 1 : 0;
    at::autocast::set_autocast_cache_enabled(on != 0);
  });
}

// The same numbers as `y`, which `block` computed from `inside`, a detached `x`, by operations from
// number `first` on. The backward pass computes them again. `block` is dropped when it can no
// longer be needed, or at once after a failure.
char* px_recomputed(const at::Tensor* x, const at::Tensor* inside, const at::Tensor* y, uint64_t first, void* block,
                    Call call, Drop drop, at::Tensor** out) {
  return caught([&] {
    Block again{std::shared_ptr<void>(block, drop), call};
    auto edges = parameters_of(gradient_edge(*y), gradient_edge(*inside), first);
    edges.insert(edges.begin(), gradient_edge(*x));
    auto result = y->detach();
    auto node = c10::make_intrusive<Recomputed>(std::move(edges), *x, std::move(again));
    torch::autograd::create_gradient_edge(result, std::move(node));
    *out = new at::Tensor(std::move(result));
  });
}
} // extern "C"
