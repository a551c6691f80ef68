// One pass over a feature map: how it is cut into tasks, and the loops over a task.
//
// A pass applies an operation Op to vectors of the map, with parameters that belong to channels:
//
//   kInputs, kParams, kSums   the maps it reads, its parameters and the sums it returns
//   kWrites                   whether it writes a map
//   kFills                    whether missing elements are its first parameter instead of 0
//   prepare(p)                turns the parameters of a channel into what apply() reads
//   apply(in, p, sums)        returns what to write and adds to the sums
//
// Lanes past the end of a plane hold missing elements, which must add nothing to the sums.

#pragma once

#include "vector.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <variant>
#include <vector>

namespace acon_mm {
namespace {

using at::Tensor;

// A task has about this many elements: enough to hide its start, few enough that float32 sums of
// its elements keep six digits. Tasks depend on the shape alone, so that sums are the same for
// any number of threads.
constexpr int64_t kTaskSize = 16384;
// Below this size, the planes of several channels make one row.
constexpr int64_t kSmallPlane = 256;
constexpr int64_t kRowWidth = 1024;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// A feature map: contiguous, or the channels of a pixel side by side.
struct Map {
  int64_t samples, channels, pixels;
  bool channels_last;

  explicit Map(const Tensor& x)
      : samples(x.size(0)),
        channels(x.size(1)),
        pixels(1),
        channels_last(!x.is_contiguous() || x.dim() == 2) {
    for (int64_t i = 2; i < x.dim(); ++i) {
      pixels *= x.size(i);
    }
    channels_last = channels_last || pixels == 1;
  }
};

// What a task works on: a part of a plane, or rows that all have the same channels, `repeats`
// times `channels` of them with `inner` elements each. `tail` elements of one more row may follow.
// A group is what has parameters of its own: a sample, or all of them.
struct Piece {
  int64_t group, part, channel, offset;
  int64_t channels, inner, repeats;
  int64_t rows, stride, tail;
  bool plane;

  int64_t width() const {
    return channels * inner * repeats;
  }
  int64_t elements_of_channel() const {
    return (rows * width() + tail) / channels;
  }
  // A sixteenth of the rows, or more.
  Piece head() const {
    Piece first = *this;
    if (rows > 0) {
      first.rows = ceil_div(rows, 16);
      first.tail = 0;
    }
    return first;
  }
};

// How a map is cut. `parts` is the number of pieces of a group that hold the same channel.
struct Plan {
  Map map;
  bool per_sample;
  enum { kPlanes, kPlaneRows, kPixelRows } kind;
  int64_t groups, parts;

  Plan(const Map& map_, bool per_sample_) : map(map_), per_sample(per_sample_) {
    if (map.channels_last) {
      kind = kPixelRows;
      groups = per_sample ? map.samples : 1;
      parts = ceil_div(rows_of_group(), rows_of_task());
    } else if (!per_sample && map.pixels <= kSmallPlane && map.samples >= 4) {
      kind = kPlaneRows;
      groups = 1;
      parts = ceil_div(map.samples, samples_of_task());
    } else {
      kind = kPlanes;
      groups = map.samples;
      parts = ceil_div(map.pixels, kTaskSize);
    }
  }

  int64_t rows_of_group() const {
    return per_sample ? map.pixels : map.samples * map.pixels;
  }
  int64_t rows_of_task() const {
    return std::max<int64_t>(1, 4 * kTaskSize / std::max<int64_t>(1, map.channels));
  }
  int64_t samples_of_task() const {
    return 2 * kTaskSize / kRowWidth;
  }
  // The size of [groups, parts, kinds, channels].
  int64_t partial_sums(int64_t kinds) const {
    return groups * parts * kinds * map.channels;
  }

  // Calls work(piece) for all pieces, in parallel.
  template <typename Work>
  void run(int64_t lanes, const Work& work) const {
    const int64_t channels = map.channels, pixels = map.pixels;
    if (map.samples * channels * pixels == 0) {
      return;
    }
    if (kind == kPlanes) {
      // Counted up, because divisions for each task would be a good part of a small plane.
      const int64_t of_sample = channels * parts, grain = grain_of(std::min(pixels, kTaskSize));
      at::parallel_for(0, map.samples * of_sample, grain, [&](int64_t begin, int64_t end) {
        Piece piece{begin / of_sample, begin % parts, begin % of_sample / parts, 0, 1, 0, 1, 1, 0,
                    0, true};
        for (int64_t task = begin; task < end; ++task) {
          const int64_t first = piece.part * kTaskSize;
          piece.offset = (piece.group * channels + piece.channel) * pixels + first;
          piece.inner = std::min(kTaskSize, pixels - first);
          work(piece);
          if (++piece.part == parts) {
            piece.part = 0;
            if (++piece.channel == channels) {
              piece.channel = 0;
              ++piece.group;
            }
          }
        }
      });
    } else if (kind == kPlaneRows) {
      const int64_t width = std::min(channels, std::max<int64_t>(1, kRowWidth / pixels));
      const int64_t blocks = ceil_div(channels, width), stride = channels * pixels;
      in_parallel(blocks * parts, kTaskSize, [&](int64_t task) {
        const int64_t part = task / blocks, channel = task % blocks * width;
        const int64_t sample = part * samples_of_task();
        work(Piece{
            0, part, channel, sample * stride + channel * pixels,
            std::min(width, channels - channel), pixels, 1,
            std::min(samples_of_task(), map.samples - sample), stride, 0, false});
      });
    } else {
      // As many pixels to a row as fill whole vectors: 24 channels are one and a half of 16 lanes.
      const int64_t whole = lanes / std::gcd(lanes, channels);
      in_parallel(groups * parts, 4 * kTaskSize, [&](int64_t task) {
        const int64_t group = task / parts, part = task % parts, begin = part * rows_of_task();
        const int64_t count = std::min(rows_of_task(), rows_of_group() - begin);
        const int64_t repeats = count >= 8 * whole ? whole : 1;
        work(Piece{
            group, part, 0, (group * rows_of_group() + begin) * channels, channels, 1, repeats,
            count / repeats, channels * repeats, count % repeats * channels, false});
      });
    }
  }

 private:
  static int64_t grain_of(int64_t task_size) {
    return std::max<int64_t>(1, 2 * kTaskSize / std::max<int64_t>(1, task_size));
  }

  template <typename Work>
  static void in_parallel(int64_t tasks, int64_t task_size, const Work& work) {
    at::parallel_for(0, tasks, grain_of(task_size), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        work(task);
      }
    });
  }
};

// A parameter of ACON: of shape (C,) or, for each sample, (N, C), or a number for all channels.
using Parameter = std::variant<Tensor, double>;

// What passes read: a dense tensor, or a number.
Tensor plain(const Tensor& tensor) {
  return tensor.defined() ? tensor.resolve_neg().contiguous() : tensor;
}

Parameter plain(const Parameter& p) {
  const Tensor* tensor = std::get_if<Tensor>(&p);
  return tensor ? Parameter(plain(*tensor)) : p;
}

template <typename T>
void make_plain(std::vector<T>& all) {
  for (T& one : all) {
    one = plain(one);
  }
}

Tensor like_parameter(const Parameter& p) {
  const Tensor* tensor = std::get_if<Tensor>(&p);
  return tensor ? at::empty_like(*tensor) : Tensor();
}

// A parameter as a pass reads it: `stride` apart for each group, or a number.
template <typename T>
struct Param {
  const T* data;
  int64_t stride = 0;
  T number = 0;

  T at(int64_t group, int64_t channel) const {
    return data ? data[group * stride + channel] : number;
  }
};

template <typename T>
Param<T> of(const Tensor& tensor) {
  return {tensor.const_data_ptr<T>(), tensor.dim() == 2 ? tensor.size(1) : 0};
}

template <typename T>
Param<T> of(const Parameter& p) {
  const Tensor* tensor = std::get_if<Tensor>(&p);
  return tensor ? of<T>(*tensor) : Param<T>{nullptr, 0, static_cast<T>(std::get<double>(p))};
}

template <typename Op, typename scalar_t>
struct Sweep {
  using L = Lanes<scalar_t>;
  using T = typename L::T;
  using V = typename L::V;
  static constexpr int kVecs = L::kVecs;
  static constexpr int kParams = Op::kParams, kSums = Op::kSums;

  // Room for arrays, which cannot have the length 0.
  static constexpr int kParamRoom = kParams > 0 ? kParams : 1;
  static constexpr int kSumRoom = kSums > 0 ? kSums : 1;

  std::array<const scalar_t*, Op::kInputs> in;
  scalar_t* out;  // not used unless Op::kWrites
  std::array<Param<T>, kParams> params;

  // The sums of each channel go to sums[c], sums[stride + c] and so on.
  void run(const Piece& piece, T* sums, int64_t stride) const {
    if (piece.plane) {
      T raw[kParamRoom];
      prepare(piece, 0, raw);
      run_plane(piece.offset, piece.inner, raw, sums, stride);
    } else {
      run_rows(piece, sums, stride);
    }
  }

  // The sums go to [groups, parts, kSums, channels].
  void run(const Plan& plan, T* sums) const {
    const int64_t channels = plan.map.channels;
    plan.run(L::kSize, [&](const Piece& piece) {
      const int64_t slot = piece.group * plan.parts + piece.part;
      run(piece, sums + slot * kSums * channels + piece.channel, channels);
    });
  }

  // A plane or a part of it, of one channel with these parameters, which are prepared.
  void run_plane(
      int64_t offset, int64_t size, const T (&raw)[kParamRoom], T* to, int64_t stride) const {
    V p[kVecs][kParamRoom];
    V sums[kVecs][kSumRoom];
    for (int k = 0; k < kVecs; ++k) {
      for (int i = 0; i < kParams; ++i) {
        p[k][i] = V(raw[i]);
      }
      std::fill_n(sums[k], kSumRoom, V(0));
    }
    const int64_t end = offset + size;
    int64_t i = offset;
    for (; i + L::kSize <= end; i += L::kSize) {
      step(i, L::kSize, p, sums);
    }
    if (i < end) {
      step(i, end - i, p, sums);
    }
    for (int i = 0; i < kSums; ++i) {
      V sum = sums[0][i];
      for (int k = 1; k < kVecs; ++k) {
        sum = sum + sums[k][i];
      }
      to[i * stride] = sum_lanes(sum);
    }
  }

 private:
  void prepare(const Piece& piece, int64_t c, T (&p)[kParamRoom]) const {
    for (int k = 0; k < kParams; ++k) {
      p[k] = params[k].at(piece.group, piece.channel + c);
    }
    Op::prepare(p);
  }

  // One vector of elements at `offset`, `count` of them.
  __attribute__((always_inline)) void step(
      int64_t offset, int64_t count, const V (&p)[kVecs][kParamRoom],
      V (&sums)[kVecs][kSumRoom]) const {
    V v[Op::kInputs][kVecs], result[kVecs];
    for (int i = 0; i < Op::kInputs; ++i) {
      L::load(in[i] + offset, count, v[i]);
    }
    for (int k = 0; k < kVecs; ++k) {
      if (Op::kFills && count < L::kSize) {
        const int64_t lanes = std::clamp<int64_t>(count - k * L::kStep, 0, L::kStep);
        v[0][k] = V::blendv(p[k][0], v[0][k], V::arange(0, 1) < V(static_cast<T>(lanes)));
      }
      V of_all[Op::kInputs];
      for (int i = 0; i < Op::kInputs; ++i) {
        of_all[i] = v[i][k];
      }
      result[k] = Op::apply(of_all, p[k], sums[k]);
    }
    if constexpr (Op::kWrites) {
      L::store(out + offset, count, result);
    }
  }

  // A row of 49 or 24 elements would leave a part of every last vector unused, and small planes
  // would add up their lanes every few vectors. So the parameters are written out for a whole row
  // once, and the sums are kept for each element of a row and added up after the last row.
  void run_rows(const Piece& piece, T* to, int64_t stride) const {
    const int64_t width = piece.width();
    const int64_t padded = ceil_div(width, L::kSize) * L::kSize;
    std::vector<T> buffer((kParams + kSums) * padded);
    T* const values = buffer.data();
    T* const sums = values + kParams * padded;
    for (int64_t c = 0; c < piece.channels; ++c) {
      T raw[kParamRoom];
      prepare(piece, c, raw);
      for (int k = 0; k < kParams; ++k) {
        T* const first = values + k * padded + c * piece.inner;
        *first = raw[k];
        if (piece.inner > 1) {
          std::fill_n(first, piece.inner, raw[k]);
        }
      }
    }
    const int64_t once = piece.channels * piece.inner;
    for (int k = 0; k < kParams; ++k) {
      for (int64_t i = once; i < width; i += once) {
        std::copy_n(values + k * padded, once, values + k * padded + i);
      }
    }
    for (int64_t first = 0; first < piece.rows; first += kTile) {
      const int64_t count = std::min(kTile, piece.rows - first);
      run_tile(piece.offset + first * piece.stride, count, piece.stride, width, padded, values);
    }
    if (piece.tail > 0) {
      run_tile(piece.offset + piece.rows * piece.stride, 1, 0, piece.tail, padded, values);
    }
    for (int k = 0; k < kSums; ++k) {
      std::fill_n(to + k * stride, piece.channels, T(0));
      const T* from = sums + k * padded;
      for (int64_t repeat = 0; repeat < piece.repeats; ++repeat) {
        for (int64_t c = 0; c < piece.channels; ++c, from += piece.inner) {
          to[k * stride + c] += sum_of(from, piece.inner);
        }
      }
    }
  }

  // Rows that are read side by side, so that parameters and sums are read once for all of them.
  // The CPU does not foresee this order: each tile asks for the lines of the next.
  static constexpr int64_t kTile = 4;

  void run_tile(
      int64_t offset, int64_t count, int64_t stride, int64_t width, int64_t padded,
      T* values) const {
    for (int64_t j = 0; j < width; j += L::kSize) {
      const int64_t lanes = std::min(L::kSize, width - j);
      V p[kVecs][kParamRoom];
      V part[kVecs][kSumRoom];
      for (int k = 0; k < kVecs; ++k) {
        for (int i = 0; i < kParams; ++i) {
          p[k][i] = V::loadu(values + i * padded + j + k * L::kStep);
        }
        std::fill_n(part[k], kSumRoom, V(0));
      }
      for (int64_t row = 0; row < count; ++row) {
        const int64_t at = offset + row * stride + j, ahead = at + count * stride;
        for (const scalar_t* from : in) {
          __builtin_prefetch(from + ahead);
        }
        if constexpr (Op::kWrites) {
          __builtin_prefetch(out + ahead, 1);
        }
        step(at, lanes, p, part);
      }
      for (int k = 0; k < kVecs; ++k) {
        for (int i = 0; i < kSums; ++i) {
          T* to = values + (kParams + i) * padded + j + k * L::kStep;
          (V::loadu(to) + part[k][i]).store(to);
        }
      }
    }
  }

  // Lane by lane: each addition to a single number would wait for the one before.
  static T sum_of(const T* from, int64_t size) {
    if (size == 1) {
      return *from;
    }
    V sum(0);
    for (int64_t i = 0; i < size; i += L::kStep) {
      sum = sum + V::loadu(from + i, std::min(L::kStep, size - i));
    }
    return sum_lanes(sum);
  }
};

bool is_dense(const Tensor& x) {
  return x.is_contiguous() ||
         (x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast)) ||
         (x.dim() == 5 && x.is_contiguous(at::MemoryFormat::ChannelsLast3d));
}

Tensor dense(const Tensor& input) {
  const Tensor x = input.resolve_neg();  // a negated view has the memory of what it negates
  if (is_dense(x)) {
    return x;
  }
  // Some of the channels of a channels-last map keep their order.
  const Tensor y = at::empty_like(x);
  return is_dense(y) ? y.copy_(x) : x.contiguous();
}

Tensor like(const Tensor& g, const Tensor& x) {
  return g.strides() == x.strides() && !g.is_neg() ? g : at::empty_like(x).copy_(g);
}

}  // namespace
}  // namespace acon_mm
