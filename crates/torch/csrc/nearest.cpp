// The nearest code of each vector. For narrow codes on the CPU, scores are computed and compared in
// registers. Writing and reading the [N, K] table of a matrix product would take most of the time
// (docs/performance.md).
#include "operators.h"
#include "vectors.h"
#include <ATen/Parallel.h>
#include <algorithm>
#include <limits>
#include <vector>

namespace {
// The widest codes for which the search in registers is faster.
constexpr int64_t MAX_NARROW_DIM = 32;

constexpr int64_t ROWS = 4; // vectors that share each load of 16 codes

constexpr int64_t TILES = 64; // groups of ROWS vectors that go through a part of the codes together
constexpr int64_t PART_BYTES = 256 << 10; // of codes, to stay in the second-level cache meanwhile

struct Codes {
  const float* weights; // [dim, padded], a multiple of LANES codes
  const float* bias;    // [padded], infinite beyond the last code
  int64_t dim, padded;
};

// For each of ROWS vectors and each lane: the least score so far, and its code.
template <int N> struct Best {
  Floats<N> score[ROWS];
  Ints<N> code[ROWS];
};

// Continues with the codes from `begin` to `end`: bias_k + sum_d vectors_d * weights_dk.
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

// The lane with the least score of one vector; among equal scores, the first code.
template <int N> int least_lane(const Floats<N>& score, const Ints<N>& code) {
  int first = 0;
  for (int l = 1; l < LANES; l++) {
    if (score[l] < score[first] || (score[l] == score[first] && code[l] < code[first])) first = l;
  }
  return first;
}

// Searches for at most TILES * ROWS vectors. The last vector is repeated to fill the tile.
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

// Searches in registers if that is faster. The tensors are float; each row is computed separately.
Nearest nearest_on_cpu(const at::Tensor& vectors, const at::Tensor& weights, const at::Tensor& bias,
                       int64_t table_bytes, int64_t instructions) {
  for (auto* t : {&vectors, &weights, &bias}) {
    TORCH_CHECK(t->is_cpu() && t->scalar_type() == at::kFloat, "pixtok::nearest: a tensor's kind");
  }
  TORCH_CHECK(vectors.dim() == 2 && weights.dim() == 2 && bias.dim() == 1, "pixtok::nearest: shapes");
  int64_t n = vectors.size(0), dim = vectors.size(1), count = weights.size(1);
  TORCH_CHECK(weights.size(0) == dim && bias.size(0) == count, "pixtok::nearest: shapes");
  if (dim > MAX_NARROW_DIM) return nearest_by_products(vectors, weights, bias, table_bytes, instructions);
  TORCH_CHECK(dim > 0 && count <= std::numeric_limits<int32_t>::max() - 2 * LANES, "pixtok::nearest: sizes");
  // A code that only pads the table is infinitely far away.
  int64_t missing = (LANES - count % LANES) % LANES;
  auto filled = at::constant_pad_nd(weights, {0, missing}).contiguous();
  auto never = at::full({missing}, std::numeric_limits<float>::infinity(), bias.options());
  auto biases = at::cat({bias, never});
  auto rows = vectors.contiguous();
  auto least = at::empty({n}, vectors.options());
  auto chosen = at::empty({n}, vectors.options().dtype(at::kLong));
  Codes codes{filled.const_data_ptr<float>(), biases.const_data_ptr<float>(), dim, count + missing};
  const float* from = rows.const_data_ptr<float>();
  float* values = least.mutable_data_ptr<float>();
  int64_t* indices = chosen.mutable_data_ptr<int64_t>();
  constexpr int64_t AT_ONCE = TILES * ROWS;
  auto* search_some = version<search_all<4>, search_all<8>, search_all<16>>((int)instructions);
  at::parallel_for(0, (n + AT_ONCE - 1) / AT_ONCE, 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * AT_ONCE; first < std::min(n, end * AT_ONCE); first += AT_ONCE) {
      search_some(codes, from + first * dim, std::min(AT_ONCE, n - first), values + first, indices + first);
    }
  });
  return {least, chosen};
}

// Searches by matrix products.
Nearest nearest_by_products(const at::Tensor& vectors, const at::Tensor& weights, const at::Tensor& bias,
                            int64_t table_bytes, int64_t /*instructions*/) {
  int64_t n = vectors.size(0), codes = weights.size(1);
  TORCH_CHECK(codes > 0, "pixtok::nearest: there are no codes");
  int64_t rows = std::clamp<int64_t>(table_bytes / (4 * codes), 1, std::max<int64_t>(n, 1));
  // One table is reused for all parts: a new one for each would need fresh pages, which is several
  // times as slow.
  auto table = at::empty({rows, codes}, weights.options());
  auto least = at::empty({n, 1}, weights.options());
  auto chosen = at::empty({n, 1}, weights.options().dtype(at::kLong));
  auto biases = bias.unsqueeze(0);
  for (int64_t first = 0; first < n; first += rows) {
    int64_t count = std::min(rows, n - first);
    auto scores = table.narrow(0, 0, count), values = least.narrow(0, first, count);
    auto indices = chosen.narrow(0, first, count);
    at::addmm_out(scores, biases, vectors.narrow(0, first, count), weights);
    at::argmin_out(indices, scores, 1, /*keepdim=*/true);
    at::gather_out(values, scores, 1, indices);
  }
  return {least.squeeze(1), chosen.squeeze(1)};
}

// Only operations that a trace can hold, for any number of vectors: no kernel of ours and no loop
// over vectors, so the whole table at once.
Nearest nearest_in_one_table(const at::Tensor& vectors, const at::Tensor& weights, const at::Tensor& bias,
                             int64_t /*table_bytes*/, int64_t /*instructions*/) {
  auto scores = at::addmm(bias.unsqueeze(0), vectors, weights);
  auto indices = at::argmin(scores, 1, /*keepdim=*/true);
  return {at::gather(scores, 1, indices).squeeze(1), indices.squeeze(1)};
}
