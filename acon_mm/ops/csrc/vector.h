// One vector of ACON: loads, stores and the closed forms of the value and of the derivatives.
//
// With d = p1 - p2, z = beta * d * x and s = sigmoid(z), the value is x * (d * s + p2) and its
// derivatives are p2 + d * h (x), x * h (p1), x * (1 - h) (p2) and d^2 * x^2 * t (beta), where
// t = s * (1 - s) and h = s + z * t. All come from e = exp(-|z|), which cannot overflow.

#pragma once

#include <ATen/OpMathType.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <limits>
#include <type_traits>

// What loops over vectors call: a call would put all their sums into memory.
#define ACON_MM_INLINE static inline __attribute__((always_inline))

namespace acon_mm {
namespace {

using at::vec::Vectorized;
using at::vec::fmadd;

// What one vector of scalar_t holds: one vector of float or double, or two of float for the
// 16-bit types.
template <typename scalar_t>
struct Lanes {
  using T = at::opmath_type<scalar_t>;
  using V = Vectorized<T>;
  static constexpr int64_t kSize = Vectorized<scalar_t>::size();
  static constexpr int64_t kStep = V::size();
  static constexpr int kVecs = kSize / kStep;

  // Before 2.4, with AVX2 for longer, torch leaves the other lanes of 16-bit types to chance.
  static inline Vectorized<scalar_t> load_part(const scalar_t* from, int64_t count) {
    if constexpr (kVecs == 1) {
      return Vectorized<scalar_t>::loadu(from, count);
    } else {
#if defined(CPU_CAPABILITY_AVX512)
      return _mm512_maskz_loadu_epi16((1u << count) - 1, from);
#else
      alignas(64) scalar_t padded[kSize];
      std::fill_n(padded, kSize, scalar_t(0));
      std::copy_n(from, count, padded);
      return Vectorized<scalar_t>::loadu(padded);
#endif
    }
  }

  // Lanes from `count` on are 0.
  static inline void load(const scalar_t* from, int64_t count, V (&to)[kVecs]) {
    const auto raw =
        count == kSize ? Vectorized<scalar_t>::loadu(from) : load_part(from, count);
    if constexpr (kVecs == 1) {
      to[0] = raw;
    } else {
      std::tie(to[0], to[1]) = at::vec::convert_to_float<scalar_t>(raw);
    }
  }

  static inline void store(scalar_t* to, int64_t count, const V (&from)[kVecs]) {
    Vectorized<scalar_t> raw;
    if constexpr (kVecs == 1) {
      raw = from[0];
    } else {
      raw = at::vec::convert_from_float<scalar_t>(from[0], from[1]);
    }
    if (count == kSize) {
      raw.store(to);
    } else {
      raw.store(to, count);
    }
  }
};

template <typename T>
ACON_MM_INLINE T sum_lanes(Vectorized<T> values) {
  return at::vec::vec_reduce_all<T>(
      [](Vectorized<T>& a, Vectorized<T>& b) { return a + b; }, values);
}

// One vector or the other, by the sign of z. (blendv of a comparison costs three operations more.)
template <typename V>
ACON_MM_INLINE V by_sign(V z, V positive, V negative) {
  return V::blendv(positive, negative, z < V(0));
}
#if defined(CPU_CAPABILITY_AVX512)
ACON_MM_INLINE Vectorized<float> by_sign(
    Vectorized<float> z, Vectorized<float> positive, Vectorized<float> negative) {
  return _mm512_mask_blend_ps(
      _mm512_movepi32_mask(_mm512_castps_si512(z)), positive, negative);
}
#elif defined(CPU_CAPABILITY_AVX2)
ACON_MM_INLINE Vectorized<float> by_sign(
    Vectorized<float> z, Vectorized<float> positive, Vectorized<float> negative) {
  return _mm256_blendv_ps(positive, negative, z);
}
#endif

// Replaces a <= 0 by what exp() below takes: what lies under it has the exponential 0.
inline Vectorized<double> clamp_exponent(Vectorized<double> a) {
  return at::vec::clamp_min(a, Vectorized<double>(-1000.0));
}
inline Vectorized<float> clamp_exponent(Vectorized<float> a) {
  return at::vec::clamp_min(a, Vectorized<float>(-88.0f));
}

// exp(a) for such an a, to about one unit in the last place.
inline Vectorized<double> exp_nonpositive(Vectorized<double> a) {
  return a.exp();
}

// Written out because a call of Sleef's makes the loops spill all their registers.
ACON_MM_INLINE Vectorized<float> exp_nonpositive(Vectorized<float> a) {
  using V = Vectorized<float>;
  // In a float of this size the last bits of the mantissa are an integer: n + 127, where n is
  // a / ln 2, rounded. Shifted they are the float 2^n; at -88, n is -127, and the float is 0.
  const V magic = V(12582912.0f + 127.0f);
  const V shifted = fmadd(a, V(1.44269504f), magic);
  const V n = shifted - magic;
  const V power =
      at::vec::cast<float>(at::vec::cast<int32_t>(shifted) << Vectorized<int32_t>(23));
  const V r = fmadd(n, V(-0.693147180f), a);
  // The polynomial of degree 5 with the least relative error, 1e-7, on |r| <= ln(2) / 2, among
  // those that are 1 at 0.
  V p = V(0.00829030201f);
  p = fmadd(p, r, V(0.0418979749f));
  p = fmadd(p, r, V(0.166676372f));
  p = fmadd(p, r, V(0.499991506f));
  p = fmadd(p, r, V(0.999999702f));
  p = fmadd(p, r, V(1.0f));
  return p * power;
}

// 1 / a for a from 1 to 2, to about one unit in the last place.
template <typename V>
ACON_MM_INLINE V reciprocal(V a) {
#if defined(CPU_CAPABILITY_AVX512)
  // A division takes longer than all of the exponential.
  if constexpr (std::is_same_v<V, Vectorized<float>>) {
    const V r = _mm512_rcp14_ps(a);
    return r * (V(2.0f) - a * r);  // Newton's step, from 14 bits
  }
#endif
  return V(1) / a;
}

template <typename V>
struct Logistic {
  V a;   // -|z|, clamped
  V r;   // sigmoid(|z|)
  V er;  // sigmoid(-|z|) = 1 - r without cancellation

  explicit __attribute__((always_inline)) Logistic(V z) {
    a = clamp_exponent(z | V(-0.0));
    const V e = exp_nonpositive(a);
    r = reciprocal(V(1) + e);
    er = e * r;
  }
};

// ACON as an operation on vectors: what value() and slope() read of p is what prepare() makes of
// p1, p2 and beta.
struct AconOp {
  static constexpr int kParams = 3;
  // Of g, g (x - m) and, for beta, g y^2 t, beside those of g h and g h (x - m).
  static constexpr int kSums = 3;

  template <typename T>
  static inline void prepare(T* p) {
    p[0] -= p[1];
    p[2] *= p[0];
  }

  template <typename V>
  ACON_MM_INLINE V value(V y, const V* p) {
    const V z = p[2] * y;
    const Logistic<V> f(z);
    return y * fmadd(p[0], by_sign(z, f.r, f.er), p[1]);
  }

  // Returns g times the derivative at y = k (x - m) + q, sets gh and adds to the sums.
  template <typename V>
  ACON_MM_INLINE V gradient(V g, V centred, V y, const V* p, V& gh, V* sums) {
    const V z = p[2] * y;
    const Logistic<V> f(z);
    const V t = f.er * f.r;
    const V gy = g * y;
    // h is s + z t; of s and z t, -|z| t has the sign that the larger of r and er needs.
    gh = g * by_sign(z, f.r - f.a * t, fmadd(f.a, t, f.er));
    sums[0] = sums[0] + g;
    sums[1] = fmadd(g, centred, sums[1]);
    sums[2] = fmadd(gy * y, t, sums[2]);
    return fmadd(p[0], gh, p[1] * g);
  }
};

struct ReluOp {
  static constexpr int kParams = 0, kSums = 0;

  template <typename T>
  static inline void prepare(T*) {}

  template <typename V>
  ACON_MM_INLINE V value(V y, const V*) {
    return at::vec::maximum(y, V(0));
  }

  template <typename V>
  ACON_MM_INLINE V gradient(V g, V, V y, const V*, V& gh, V*) {
    return gh = V::blendv(g, V(0), y <= V(0));
  }
};

}  // namespace
}  // namespace acon_mm
