// The nearest code of each vector on the CPU, for narrow codes. Scores are made and compared in registers: the [N, K]
// table of a matrix product, written and read again, takes most of its time (docs/performance.md).
#include "shim.h"
#include "vectors.h"
#include <ATen/Parallel.h>
#include <algorithm>
#include <limits>
#include <vector>

namespace {
constexpr int64_t ROWS = 4; // vectors that share each load of 16 codes

constexpr int64_t TILES = 64; // groups of ROWS vectors that go through a part of the codes together
constexpr int64_t PART_BYTES = 256 << 10; // of codes, to stay in the second-level cache meanwhile

struct Codes {
  const float* weights; // [dim, padded], a multiple of LANES codes
  const float* bias;    // [padded], infinite beyond the last code
  int64_t dim, padded;
};

// For each of ROWS vectors and each lane the least score so far, and its code.
template <int N> struct Best {
  Floats<N> score[ROWS];
  Ints<N> code[ROWS];
};

// Goes on with the codes from `begin` to `end`: bias_k + sum_d vectors_d * weights_dk.
template <int N>
PX_INLINE void search(const Codes& codes, int64_t begin, int64_t end, const float* vectors, Best<N>& best) {
  Best<N> local = best; // in registers
  Ints<N> lanes;
  for (int l = 0; l < LANES; l++) lanes.part[l / N][l % N] = (int32_t)begin + l;
  for (int64_t k = begin; k < end; k += LANES) {
    Floats<N> score[ROWS];
    for (int r = 0; r < ROWS; r++) score[r] = load<N>(codes.bias + k, LANES);
    for (int64_t d = 0; d < codes.dim; d++) {
      auto weight = load<N>(codes.weights + d * codes.padded + k, LANES);
      for (int r = 0; r < ROWS; r++) score[r] += weight * vectors[r * codes.dim + d];
    }
    for (int r = 0; r < ROWS; r++) {
      for (int i = 0; i < Floats<N>::PARTS; i++) {
        auto nearer = score[r].part[i] < local.score[r].part[i];
        local.score[r].part[i] = nearer ? score[r].part[i] : local.score[r].part[i];
        local.code[r].part[i] = nearer ? lanes.part[i] : local.code[r].part[i];
      }
    }
    lanes = lanes + (int32_t)LANES;
  }
  best = local;
}

// The lane with the least score of one vector, and of equals the first code.
template <int N> int least_lane(const Floats<N>& score, const Ints<N>& code) {
  int first = 0;
  for (int l = 1; l < LANES; l++) {
    if (score[l] < score[first] || (score[l] == score[first] && code[l] < code[first])) first = l;
  }
  return first;
}

// At most TILES * ROWS vectors, the last of which is repeated to fill up.
template <int N>
PX_INLINE void search_all(const Codes& codes, const float* vectors, int64_t n, float* least, int64_t* chosen) {
  int64_t tiles = (n + ROWS - 1) / ROWS;
  std::vector<float> rows(tiles * ROWS * codes.dim);
  for (int64_t r = 0; r < tiles * ROWS; r++) {
    std::copy_n(vectors + std::min(r, n - 1) * codes.dim, codes.dim, &rows[r * codes.dim]);
  }
  Best<N> best[TILES];
  for (auto& tile : best) {
    for (int r = 0; r < ROWS; r++) {
      tile.score[r] = Floats<N>::all(std::numeric_limits<float>::infinity());
      tile.code[r] = Ints<N>::all(0);
    }
  }
  int64_t part = std::max(LANES, PART_BYTES / (4 * codes.dim) / LANES * LANES);
  for (int64_t k = 0; k < codes.padded; k += part) {
    for (int64_t t = 0; t < tiles; t++) {
      search<N>(codes, k, std::min(codes.padded, k + part), &rows[t * ROWS * codes.dim], best[t]);
    }
  }
  for (int64_t r = 0; r < n; r++) {
    const Best<N>& tile = best[r / ROWS];
    int lane = least_lane<N>(tile.score[r % ROWS], tile.code[r % ROWS]);
    least[r] = tile.score[r % ROWS][lane];
    chosen[r] = tile.code[r % ROWS][lane];
  }
}
} // namespace

extern "C" {
// For each of vectors [N, D] the index (int64) and value of the least bias_k + vectors . weights_k, the first of equals.
// weights is [D, K'] and bias [K'] with K' a multiple of 16: a code that is only there to fill up has an infinite bias.
// Float tensors on the CPU, contiguous; `least` and `chosen` are [N].
char* px_nearest(at::Tensor* vectors, at::Tensor* weights, at::Tensor* bias, int instructions, at::Tensor* least,
                 at::Tensor* chosen) {
  return caught([&] {
    TORCH_CHECK(vectors->dim() == 2 && weights->dim() == 2, "px_nearest: shapes");
    int64_t n = vectors->size(0), dim = vectors->size(1), padded = weights->size(1);
    TORCH_CHECK(dim > 0 && padded <= std::numeric_limits<int32_t>::max() - LANES, "px_nearest: sizes");
    for (auto* t : {vectors, weights, bias, least}) {
      TORCH_CHECK(t->is_cpu() && t->is_contiguous() && t->scalar_type() == at::kFloat, "px_nearest: a tensor's kind");
    }
    TORCH_CHECK(chosen->is_cpu() && chosen->is_contiguous() && chosen->scalar_type() == at::kLong, "px_nearest: indices");
    TORCH_CHECK(weights->size(0) == dim && bias->numel() == padded && padded % LANES == 0, "px_nearest: shapes");
    TORCH_CHECK(least->numel() == n && chosen->numel() == n, "px_nearest: shapes of the results");
    const float* rows = vectors->const_data_ptr<float>();
    Codes codes{weights->const_data_ptr<float>(), bias->const_data_ptr<float>(), dim, padded};
    float* values = least->mutable_data_ptr<float>();
    int64_t* indices = chosen->mutable_data_ptr<int64_t>();
    constexpr int64_t AT_ONCE = TILES * ROWS;
    auto* search_some = version<search_all<4>, search_all<8>, search_all<16>>(instructions);
    at::parallel_for(0, (n + AT_ONCE - 1) / AT_ONCE, 1, [&](int64_t begin, int64_t end) {
      for (int64_t first = begin * AT_ONCE; first < std::min(n, end * AT_ONCE); first += AT_ONCE) {
        search_some(codes, rows + first * dim, std::min(AT_ONCE, n - first), values + first, indices + first);
      }
    });
  });
}
} // extern "C"
