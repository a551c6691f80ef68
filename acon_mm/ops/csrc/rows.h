// Rows whose elements have parameters of their own, which repeat from row to row: the channels of
// a pixel (channels_last), or some channels' small planes, one row a sample (NCHW).
//
// A row of 49 or 24 elements would leave a part of every last vector unused, and small planes
// would add up their lanes every few vectors. So the parameters are written out for a whole row
// once, and the sums are kept for each element of a row and added up after the last row.

#pragma once

#include "vector.h"

#include <algorithm>
#include <vector>

namespace acon_mm {
namespace {

// How channels lie in a row: `repeats` times all `channels`, each of `inner` elements.
struct Pattern {
  int64_t channels;
  int64_t inner;
  int64_t repeats;
  int64_t width() const { return channels * inner * repeats; }
};

// The parameters of each element of a row, and the sums, in multiples of a vector.
template <typename scalar_t>
class Row {
  using L = Lanes<scalar_t>;
  using T = typename L::T;
  using V = typename L::V;

 public:
  Row(const Pattern& pattern, const T* p1, const T* p2, const T* beta, bool with_sums)
      : pattern_(pattern),
        width_(pattern.width()),
        padded_((width_ + L::kSize - 1) / L::kSize * L::kSize),
        params_(3 * padded_),
        sums_(with_sums ? 3 * padded_ : 0) {
    T* d = params_.data();
    int64_t i = 0;
    for (int64_t repeat = 0; repeat < pattern.repeats; ++repeat) {
      for (int64_t c = 0; c < pattern.channels; ++c) {
        const T slope = p1[c] - p2[c];
        std::fill_n(d + i, pattern.inner, slope);
        std::fill_n(d + padded_ + i, pattern.inner, p2[c]);
        std::fill_n(d + 2 * padded_ + i, pattern.inner, beta[c] * slope);
        i += pattern.inner;
      }
    }
  }

  void forward(const scalar_t* x, scalar_t* y, int64_t rows, int64_t stride) const {
    in_tiles(rows, [&](int64_t first, int64_t count, int64_t j, const Params<V>(&p)[L::kVecs]) {
      const int64_t lanes = std::min(L::kSize, width_ - j);
      for (int64_t row = first; row < first + count; ++row) {
        const int64_t ahead = (row + count) * stride + j;
        __builtin_prefetch(x + ahead);
        __builtin_prefetch(y + ahead, 1);
        V v[L::kVecs];
        L::load(x + row * stride + j, lanes, v);
        for (int k = 0; k < L::kVecs; ++k) {
          v[k] = acon_value(v[k], p[k]);
        }
        L::store(y + row * stride + j, lanes, v);
      }
    });
  }

  void backward(
      const scalar_t* g, const scalar_t* x, scalar_t* dx, int64_t rows, int64_t stride) {
    T* sums = sums_.data();
    in_tiles(rows, [&](int64_t first, int64_t count, int64_t j, const Params<V>(&p)[L::kVecs]) {
      const int64_t lanes = std::min(L::kSize, width_ - j);
      Sums<V> part[L::kVecs];
      for (int64_t row = first; row < first + count; ++row) {
        const int64_t ahead = (row + count) * stride + j;
        __builtin_prefetch(g + ahead);
        __builtin_prefetch(x + ahead);
        __builtin_prefetch(dx + ahead, 1);
        V gv[L::kVecs];
        V v[L::kVecs];
        L::load(g + row * stride + j, lanes, gv);
        L::load(x + row * stride + j, lanes, v);
        for (int k = 0; k < L::kVecs; ++k) {
          v[k] = acon_gradient(gv[k], v[k], p[k], part[k]);
        }
        L::store(dx + row * stride + j, lanes, v);
      }
      for (int k = 0; k < L::kVecs; ++k) {
        T* to = sums + j + k * L::kStep;
        (V::loadu(to) + part[k].p1).store(to);
        (V::loadu(to + padded_) + part[k].p2).store(to + padded_);
        (V::loadu(to + 2 * padded_) + part[k].beta).store(to + 2 * padded_);
      }
    });
  }

  // Adds the sums of each channel to to[c], to[stride + c] and to[2 * stride + c].
  void add_sums(T* to, int64_t stride) const {
    for (int kind = 0; kind < 3; ++kind) {
      const T* from = sums_.data() + kind * padded_;
      for (int64_t repeat = 0; repeat < pattern_.repeats; ++repeat) {
        for (int64_t c = 0; c < pattern_.channels; ++c, from += pattern_.inner) {
          to[kind * stride + c] += sum_of(from, pattern_.inner);
        }
      }
    }
  }

 private:
  // Lane by lane: each addition to a single number would wait for the one before.
  static T sum_of(const T* from, int64_t size) {
    if (size == 1) {
      return *from;
    }
    V sum(0);
    int64_t i = 0;
    for (; i + L::kStep <= size; i += L::kStep) {
      sum = sum + V::loadu(from + i);
    }
    if (i < size) {
      sum = sum + V::loadu(from + i, size - i);
    }
    return sum_lanes(sum);
  }

  // Rows that are read side by side, so that parameters and sums are read once for all of them.
  // The CPU does not foresee this order: each tile asks for the lines of the next.
  static constexpr int64_t kTile = 4;

  template <typename Work>
  void in_tiles(int64_t rows, const Work& work) const {
    const T* params = params_.data();
    for (int64_t first = 0; first < rows; first += kTile) {
      const int64_t count = std::min(kTile, rows - first);
      for (int64_t j = 0; j < width_; j += L::kSize) {
        Params<V> p[L::kVecs];
        for (int k = 0; k < L::kVecs; ++k) {
          const T* from = params + j + k * L::kStep;
          p[k] = {V::loadu(from), V::loadu(from + padded_), V::loadu(from + 2 * padded_)};
        }
        work(first, count, j, p);
      }
    }
  }

  Pattern pattern_;
  int64_t width_;
  int64_t padded_;
  std::vector<T> params_;
  std::vector<T> sums_;
};

}  // namespace
}  // namespace acon_mm
