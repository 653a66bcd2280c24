// Doubles an image by nearest neighbours and convolves it with a 3×3 kernel, on the CPU, without
// making the doubled image. Each output pixel depends on only 2×2 input pixels. So the four kinds
// of output pixels (even or odd row and column) are four convolutions with 2×2 sums of the 3×3
// weights: 16 products for four pixels instead of 36, for the same function.
#include "operators.h"
#include <ATen/Parallel.h>
#include <ATen/ops/convolution_backward.h>
#include <algorithm>
#include <array>
#include <cstring>
#include <torch/csrc/autograd/custom_function.h>

namespace {
constexpr int64_t KINDS = 4, TAPS = 2;

constexpr int64_t NUMBERS = 9, SUMS = KINDS * TAPS * TAPS; // of 3×3, and of the four kernels

// Along one axis: the tap (of 2) to which weight `k` (of 3) belongs. An even output pixel 2i has
// the neighbours i-1, i, i; an odd one i, i, i+1.
constexpr int64_t tap(int64_t odd, int64_t k) { return odd ? k / 2 : (k + 1) / 2; }

struct Term {
  int64_t number, sum; // of NUMBERS, to SUMS
};

constexpr std::array<Term, KINDS * NUMBERS> terms() {
  std::array<Term, KINDS * NUMBERS> all{};
  for (int64_t i = 0; i < KINDS * NUMBERS; i++) {
    int64_t kind = i / NUMBERS, y = i % NUMBERS / 3, x = i % 3;
    all[i] = {i % NUMBERS, (kind * TAPS + tap(kind / 2, y)) * TAPS + tap(kind % 2, x)};
  }
  return all;
}
constexpr auto TERMS = terms();

// [O, I, 3, 3] -> [KINDS * O, I, 2, 2].
at::Tensor folded(const at::Tensor& weight) {
  auto numbers = weight.contiguous();
  int64_t rows = numbers.numel() / NUMBERS;
  auto sums = at::zeros({weight.size(0), weight.size(1), KINDS, TAPS, TAPS}, numbers.options());
  const float* from = numbers.const_data_ptr<float>();
  float* to = sums.mutable_data_ptr<float>();
  for (int64_t row = 0; row < rows; row++, from += NUMBERS, to += SUMS) {
    for (auto [number, sum] : TERMS) to[sum] += from[number];
  }
  return sums.permute({2, 0, 1, 3, 4}).reshape({KINDS * weight.size(0), weight.size(1), TAPS, TAPS});
}

// The derivative with respect to the weight, of `shape`, from that with respect to
// `folded(weight)`.
at::Tensor unfolded(const at::Tensor& kinds, at::IntArrayRef shape) {
  auto by_kind = kinds.to(at::kFloat).view({KINDS, shape[0], shape[1], TAPS, TAPS});
  auto sums = by_kind.permute({1, 2, 0, 3, 4}).contiguous();
  auto numbers = at::zeros(shape, sums.options());
  const float* from = sums.const_data_ptr<float>();
  float* to = numbers.mutable_data_ptr<float>();
  for (int64_t row = 0; row < shape[0] * shape[1]; row++, from += SUMS, to += NUMBERS) {
    for (auto [number, sum] : TERMS) to[number] += from[sum];
  }
  return numbers;
}

// Matches the pixels of [B, KINDS * C, h + 1, w + 1] and [B, C, 2h, 2w], both channels_last. Pixel
// (y, x) of a kind is at (y + odd row, x + odd column) of the first.
struct Interleaving {
  int64_t images, height, width, pixel; // h, w, bytes of C numbers

  // Calls body(byte offset in the first, byte offset in the second, or -1 if the second has no such
  // pixel), in parallel if there is enough work.
  template <typename F> void each(F&& body) const {
    int64_t at_once = std::max<int64_t>(1, at::internal::GRAIN_SIZE / ((width + 1) * KINDS * pixel));
    at::parallel_for(0, images * (height + 1), at_once, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        int64_t image = row / (height + 1), top = row % (height + 1);
        for (int64_t left = 0; left <= width; left++) {
          for (int64_t kind = 0; kind < KINDS; kind++) {
            int64_t odd_y = kind / 2, odd_x = kind % 2, y = top - odd_y, x = left - odd_x;
            bool there = y >= 0 && y < height && x >= 0 && x < width;
            int64_t second = ((image * 2 * height + 2 * y + odd_y) * 2 * width + 2 * x + odd_x) * pixel;
            body(((row * (width + 1) + left) * KINDS + kind) * pixel, there ? second : -1);
          }
        }
      }
    });
  }
};

struct UpsampleConv : torch::autograd::Function<UpsampleConv> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const at::Tensor& bias) {
    auto x = input.contiguous(at::MemoryFormat::ChannelsLast);
    auto kinds = folded(weight).to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
    auto y = at::conv2d(x, kinds, bias.to(x.scalar_type()).repeat({KINDS}), /*stride=*/1, /*padding=*/1);
    y = y.contiguous(at::MemoryFormat::ChannelsLast);
    int64_t images = x.size(0), height = x.size(2), width = x.size(3), channels = weight.size(0);
    auto out = at::empty({images, channels, 2 * height, 2 * width}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
    int64_t pixel = channels * x.element_size();
    const char* from = (const char*)y.const_data_ptr();
    char* to = (char*)out.mutable_data_ptr();
    Interleaving{images, height, width, pixel}.each([&](int64_t first, int64_t second) {
      if (second >= 0) memcpy(to + second, from + first, pixel);
    });
    context->save_for_backward({x, kinds, weight});
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    auto saved = context->get_saved_variables();
    auto &x = saved[0], &kinds = saved[1], &weight = saved[2];
    auto dout = gradients[0].to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
    int64_t images = x.size(0), height = x.size(2), width = x.size(3), channels = weight.size(0);
    auto dy = at::empty({images, KINDS * channels, height + 1, width + 1},
                        x.options().memory_format(at::MemoryFormat::ChannelsLast));
    int64_t pixel = channels * x.element_size();
    const char* from = (const char*)dout.const_data_ptr();
    char* to = (char*)dy.mutable_data_ptr();
    Interleaving{images, height, width, pixel}.each([&](int64_t first, int64_t second) {
      if (second >= 0) memcpy(to + first, from + second, pixel);
      else memset(to + first, 0, pixel);
    });
    auto [dx, dkinds, dbias] =
        at::convolution_backward(dy, x, kinds, at::IntArrayRef{KINDS * channels}, /*stride=*/{1, 1}, /*padding=*/{1, 1},
                                 /*dilation=*/{1, 1}, /*transposed=*/false, /*output_padding=*/{0, 0}, /*groups=*/1,
                                 {true, true, true});
    return {dx, unfolded(dkinds, weight.sizes()), dbias.to(at::kFloat).view({KINDS, channels}).sum(0)};
  }
};
} // namespace

at::Tensor upsample_conv_plain(const at::Tensor& x, const at::Tensor& weight,
                               const std::optional<at::Tensor>& bias, int64_t factor) {
  const double factors[] = {(double)factor, (double)factor};
  auto enlarged = at::upsample_nearest2d(x, /*output_size=*/std::nullopt, at::ArrayRef<double>(factors));
  return at::conv2d(enlarged, weight, bias, /*stride=*/{1, 1}, /*padding=*/{1, 1}, /*dilation=*/{1, 1});
}

// One operation, if x, [B, C, h, w] on the CPU, carries a gradient and is doubled. It computes in
// x's own type; its result is channels_last.
at::Tensor upsample_conv_trained(const at::Tensor& x, const at::Tensor& weight,
                                 const std::optional<at::Tensor>& bias, int64_t factor) {
  if (factor != 2 || !bias || !is_trained_through(x)) return upsample_conv_plain(x, weight, bias, factor);
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && bias->dim() == 1, "pixtok::upsample_conv: shapes");
  TORCH_CHECK(weight.size(1) == x.size(1) && weight.size(2) == 3 && weight.size(3) == 3,
              "pixtok::upsample_conv: shapes");
  TORCH_CHECK(bias->size(0) == weight.size(0), "pixtok::upsample_conv: shapes");
  for (auto* t : {&weight, &*bias}) {
    TORCH_CHECK(t->is_cpu() && t->scalar_type() == at::kFloat, "pixtok::upsample_conv: weight or bias");
  }
  c10::impl::ExcludeDispatchKeyGuard as_it_is(c10::autocast_dispatch_keyset);
  return UpsampleConv::apply(x, weight, *bias);
}
