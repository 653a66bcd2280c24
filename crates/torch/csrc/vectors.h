// Sixteen numbers at a time, in the instruction set that the caller has chosen.
#pragma once
#include <c10/util/BFloat16.h>
#include <cstdint>
#include <cstring>
#include <iterator>

#define PX_INLINE static inline __attribute__((always_inline))

constexpr int64_t LANES = 16;

// LANES numbers as vectors of N, the width of the instruction set. GCC splits wider vectors badly.
template <typename E, int N> struct Pack {
  typedef E Part __attribute__((vector_size(sizeof(E) * N)));
  static constexpr int PARTS = LANES / N;
  Part part[PARTS];

  E operator[](int lane) const { return part[lane / N][lane % N]; }

  // A Pack whose parts are body(i).
  template <typename F> __attribute__((always_inline)) static inline Pack of(F&& body) {
    Pack out;
#pragma GCC unroll 4
    for (int i = 0; i < PARTS; i++) out.part[i] = body(i);
    return out;
  }
  __attribute__((always_inline)) static inline Pack all(E value) {
    return of([&](int) __attribute__((always_inline)) { return Part{} + value; });
  }
};
template <int N> using Floats = Pack<float, N>;
template <int N> using Ints = Pack<int32_t, N>;

#define PX_OPERATOR(op)                                                                                                         \
  template <typename E, int N> PX_INLINE Pack<E, N> operator op(const Pack<E, N>& a, const Pack<E, N>& b) {                    \
    return Pack<E, N>::of([&](int i) __attribute__((always_inline)) { return a.part[i] op b.part[i]; });                        \
  }                                                                                                                             \
  template <typename E, int N> PX_INLINE Pack<E, N> operator op(const Pack<E, N>& a, E b) {                                    \
    return Pack<E, N>::of([&](int i) __attribute__((always_inline)) { return a.part[i] op b; });                                \
  }                                                                                                                             \
  template <typename E, int N> PX_INLINE Pack<E, N> operator op(E a, const Pack<E, N>& b) {                                    \
    return Pack<E, N>::of([&](int i) __attribute__((always_inline)) { return a op b.part[i]; });                                \
  }
PX_OPERATOR(+)
PX_OPERATOR(-)
PX_OPERATOR(*)
PX_OPERATOR(/)
#undef PX_OPERATOR
template <typename E, int N> PX_INLINE void operator+=(Pack<E, N>& a, const Pack<E, N>& b) { a = a + b; }

// Reads LANES numbers from memory, part by part. GCC would copy a whole Pack in pieces narrower
// than the vectors.
template <typename P, typename E> PX_INLINE P read(const E* from) {
  return P::of([&](int i) __attribute__((always_inline)) {
    typename P::Part part;
    memcpy(&part, from + i * (LANES / P::PARTS), sizeof part);
    return part;
  });
}
template <typename P, typename E> PX_INLINE void write(E* to, const P& x) {
#pragma GCC unroll 4
  for (int i = 0; i < P::PARTS; i++) memcpy(to + i * (LANES / P::PARTS), &x.part[i], sizeof x.part[i]);
}

// Reads the first `left` numbers (at most LANES) at `from`, and fills up with zeros.
template <typename P, typename E> PX_INLINE P read(const E* from, int64_t left) {
  if (left >= LANES) return read<P>(from);
  P out = {};
  memcpy(&out, from, left * sizeof(E));
  return out;
}
template <typename P, typename E> PX_INLINE void write(E* to, int64_t left, const P& x) {
  if (left >= LANES) write(to, x);
  else memcpy(to, &x, left * sizeof(E));
}

template <int N> PX_INLINE Floats<N> load(const float* from, int64_t left) { return read<Floats<N>>(from, left); }
template <int N> PX_INLINE void store(float* to, int64_t left, const Floats<N>& x) { write(to, left, x); }

template <int N> PX_INLINE Floats<N> load(const c10::BFloat16* from, int64_t left) {
  auto halves = read<Pack<uint16_t, N>>(from, left);
  return Floats<N>::of([&](int i) __attribute__((always_inline)) {
    return (typename Floats<N>::Part)(__builtin_convertvector(halves.part[i], typename Pack<uint32_t, N>::Part) << 16);
  });
}

// Rounds to the nearest bfloat16, ties to even, like torch. NaN stays NaN.
template <int N> PX_INLINE void store(c10::BFloat16* to, int64_t left, const Floats<N>& x) {
  typedef typename Pack<uint32_t, N>::Part Words;
  write(to, left, Pack<uint16_t, N>::of([&](int i) __attribute__((always_inline)) {
    Words bits = (Words)x.part[i];
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    bits = (Words)(x.part[i] == x.part[i]) ? bits : Words{} + 0x7fc0;
    return __builtin_convertvector(bits, typename Pack<uint16_t, N>::Part);
  }));
}

// exp(x) to two units in the last place for x in [-80, 80]; x is clamped to this range (Cephes'
// expf).
template <int N> PX_INLINE typename Floats<N>::Part exp_of(typename Floats<N>::Part x) {
  typedef typename Floats<N>::Part F;
  x = x > 80.0f ? F{} + 80.0f : x;
  x = x < -80.0f ? F{} - 80.0f : x;
  F scaled = x * 1.44269504088896341f;
  auto whole = __builtin_convertvector(scaled + (scaled < 0.0f ? F{} - 0.5f : F{} + 0.5f), typename Ints<N>::Part);
  F n = __builtin_convertvector(whole, F);
  F r = x - n * 0.693359375f + n * 2.12194440e-4f;
  F p = F{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * (F)((whole + 127) << 23);
}

template <int N> PX_INLINE Floats<N> sigmoid_of(const Floats<N>& x) {
  return Floats<N>::of([&](int i) __attribute__((always_inline)) { return 1.0f / (1.0f + exp_of<N>(-x.part[i])); });
}

// Compiles a kernel once for each instruction set for which libtorch has kernels, with vectors of
// that width. The kernel and everything it calls must be PX_INLINE. An index selects the version,
// in the order of `Instructions` in crates/pixels.
template <auto with4, auto with8, auto with16, typename Pointer = decltype(with4)> struct Versions;
template <auto with4, auto with8, auto with16, typename... Args> struct Versions<with4, with8, with16, void (*)(Args...)> {
  static void plain(Args... args) { with4(args...); }
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  __attribute__((target("avx2,fma"))) static void avx2(Args... args) { with8(args...); }
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) static void avx512(Args... args) { with16(args...); }
  static constexpr void (*all[])(Args...) = {plain, avx2, avx512};
#else
  static constexpr void (*all[])(Args...) = {plain};
#endif
};

// The version with this index; the plain one if there is no such version.
template <auto with4, auto with8, auto with16> auto* version(int index) {
  const auto& all = Versions<with4, with8, with16>::all;
  return all[index > 0 && index < (int)std::size(all) ? index : 0];
}
