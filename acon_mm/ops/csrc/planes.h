// Runs of elements that share their parameters: a part of one channel of one sample (NCHW).

#pragma once

#include "vector.h"

namespace acon_mm {
namespace {

template <typename T>
inline Params<Vectorized<T>> broadcast_params(T p1, T p2, T beta) {
  const T d = p1 - p2;
  return {Vectorized<T>(d), Vectorized<T>(p2), Vectorized<T>(beta * d)};
}

template <typename scalar_t, typename T = at::opmath_type<scalar_t>>
inline void plane_forward(
    const scalar_t* x, scalar_t* y, int64_t size, T p1, T p2, T beta) {
  using L = Lanes<scalar_t>;
  const auto p = broadcast_params(p1, p2, beta);
  const auto step = [&](int64_t i, int64_t count) {
    typename L::V v[L::kVecs];
    L::load(x + i, count, v);
    for (auto& part : v) {
      part = acon_value(part, p);
    }
    L::store(y + i, count, v);
  };
  int64_t i = 0;
  for (; i + L::kSize <= size; i += L::kSize) {
    step(i, L::kSize);
  }
  if (i < size) {
    step(i, size - i);
  }
}

// Writes dx and the three sums of `Sums`.
template <typename scalar_t, typename T = at::opmath_type<scalar_t>>
inline void plane_backward(
    const scalar_t* g,
    const scalar_t* x,
    scalar_t* dx,
    int64_t size,
    T p1,
    T p2,
    T beta,
    T* sums_p1,
    T* sums_p2,
    T* sums_beta) {
  using L = Lanes<scalar_t>;
  const auto p = broadcast_params(p1, p2, beta);
  Sums<typename L::V> sums;
  const auto step = [&](int64_t i, int64_t count) {
    typename L::V gv[L::kVecs];
    typename L::V v[L::kVecs];
    L::load(g + i, count, gv);  // the lanes past the end are 0 and add nothing to the sums
    L::load(x + i, count, v);
    for (int k = 0; k < L::kVecs; ++k) {
      v[k] = acon_gradient(gv[k], v[k], p, sums);
    }
    L::store(dx + i, count, v);
  };
  int64_t i = 0;
  for (; i + L::kSize <= size; i += L::kSize) {
    step(i, L::kSize);
  }
  if (i < size) {
    step(i, size - i);
  }
  *sums_p1 = sum_lanes(sums.p1);
  *sums_p2 = sum_lanes(sums.p2);
  *sums_beta = sum_lanes(sums.beta);
}

}  // namespace
}  // namespace acon_mm
