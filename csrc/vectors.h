// Sixteen numbers at a time, in whatever instruction set the caller has chosen.
#pragma once
#include <c10/util/BFloat16.h>
#include <cstdint>
#include <cstring>
#include <iterator>

#define PX_INLINE static inline __attribute__((always_inline))

constexpr int64_t LANES = 16;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

// The first `left` numbers at `from`, at most LANES of them, and zeros.
PX_INLINE Floats load(const float* from, int64_t left) {
  Floats out = {};
  if (left >= LANES) memcpy(&out, from, sizeof out);
  else memcpy(&out, from, left * sizeof(float));
  return out;
}

PX_INLINE Floats load(const c10::BFloat16* from, int64_t left) {
  Halves halves = {};
  if (left >= LANES) memcpy(&halves, from, sizeof halves);
  else memcpy(&halves, from, left * sizeof(c10::BFloat16));
  return (Floats)(__builtin_convertvector(halves, Words) << 16);
}

PX_INLINE void store(float* to, int64_t left, const Floats& x) {
  if (left >= LANES) memcpy(to, &x, sizeof x);
  else memcpy(to, &x, left * sizeof(float));
}

// To the nearest bfloat16, ties to even, as torch does; what is no number stays none.
PX_INLINE void store(c10::BFloat16* to, int64_t left, const Floats& x) {
  Words bits = (Words)x;
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  bits = (Words)(x == x) ? bits : Words{} + 0x7fc0;
  Halves halves = __builtin_convertvector(bits, Halves);
  if (left >= LANES) memcpy(to, &halves, sizeof halves);
  else memcpy(to, &halves, left * sizeof(c10::BFloat16));
}

// exp(x) to two units in the last place for x in [-80, 80], outside of which x is taken for the nearer end (Cephes' expf).
PX_INLINE Floats exp_of(Floats x) {
  x = x > 80.0f ? Floats{} + 80.0f : x;
  x = x < -80.0f ? Floats{} - 80.0f : x;
  Floats scaled = x * 1.44269504088896341f;
  Ints whole = __builtin_convertvector(scaled + (scaled < 0.0f ? Floats{} - 0.5f : Floats{} + 0.5f), Ints);
  Floats n = __builtin_convertvector(whole, Floats);
  Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Floats p = Floats{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * (Floats)((whole + 127) << 23);
}

PX_INLINE Floats sigmoid_of(const Floats& x) { return 1.0f / (1.0f + exp_of(-x)); }

// A kernel, which is PX_INLINE as is all that it calls, compiled for each instruction set that libtorch has kernels for. Which version
// runs is said by its index, in the order of `Instructions` in pixels/.
template <auto kernel, typename Pointer = decltype(kernel)> struct Versions;
template <auto kernel, typename... Args> struct Versions<kernel, void (*)(Args...)> {
  static void plain(Args... args) { kernel(args...); }
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  __attribute__((target("avx2,fma"))) static void avx2(Args... args) { kernel(args...); }
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) static void avx512(Args... args) { kernel(args...); }
  static constexpr void (*all[])(Args...) = {plain, avx2, avx512};
#else
  static constexpr void (*all[])(Args...) = {plain};
#endif
};

// The version of this index; the plain one where there is no such version.
template <auto kernel> auto* version(int index) {
  const auto& all = Versions<kernel>::all;
  return all[index > 0 && index < (int)std::size(all) ? index : 0];
}
