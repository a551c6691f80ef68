// ACON on the CPU: how a feature map is cut into tasks, and the functions that Python sees.

#pragma once

#include "parameter.h"
#include "planes.h"
#include "rows.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include <numeric>
#include <tuple>
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

// A feature map and how it is cut.
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

template <typename Work>
void in_parallel(int64_t tasks, int64_t task_size, const Work& work) {
  const int64_t grain = std::max<int64_t>(1, 2 * kTaskSize / std::max<int64_t>(1, task_size));
  at::parallel_for(0, tasks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      work(task);
    }
  });
}

// Calls planes(sample, channel, part, offset, size) or rows(group, part, channel, pattern, offset,
// count, stride) for all of a map, in parallel. `parts` is the number of partial sums of a group;
// a group is a sample, or all of them where beta is shared and rows are cut.
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
    return std::max<int64_t>(1, 4 * kTaskSize / map.channels);
  }
  int64_t channels_of_row() const {
    return std::min(map.channels, std::max<int64_t>(1, kRowWidth / map.pixels));
  }
  int64_t samples_of_task() const {
    return 2 * kTaskSize / kRowWidth;
  }

  template <typename Planes, typename Rows>
  void run(int64_t lanes, const Planes& planes, const Rows& rows) const {
    if (kind == kPlanes) {
      in_parallel(
          map.samples * map.channels * parts, std::min(map.pixels, kTaskSize), [&](int64_t task) {
            const int64_t plane = task / parts, part = task % parts;
            const int64_t begin = part * kTaskSize;
            planes(
                plane / map.channels,
                plane % map.channels,
                part,
                plane * map.pixels + begin,
                std::min(kTaskSize, map.pixels - begin));
          });
    } else if (kind == kPlaneRows) {
      const int64_t width = channels_of_row();
      const int64_t blocks = ceil_div(map.channels, width);
      const int64_t stride = map.channels * map.pixels;
      in_parallel(blocks * parts, kTaskSize, [&](int64_t task) {
        const int64_t part = task / blocks, channel = task % blocks * width;
        const int64_t sample = part * samples_of_task();
        rows(
            0,
            part,
            channel,
            Pattern{std::min(width, map.channels - channel), map.pixels, 1},
            sample * stride + channel * map.pixels,
            std::min(samples_of_task(), map.samples - sample),
            stride);
      });
    } else {
      // As many pixels to a row as fill whole vectors: 24 channels are one and a half of 16 lanes.
      const int64_t repeats = lanes / std::gcd(lanes, map.channels);
      in_parallel(groups * parts, 4 * kTaskSize, [&](int64_t task) {
        const int64_t group = task / parts, part = task % parts;
        int64_t begin = part * rows_of_task();
        const int64_t count = std::min(rows_of_task(), rows_of_group() - begin);
        begin += group * rows_of_group();
        const int64_t whole = repeats > 1 && count >= 8 * repeats ? count / repeats : 0;
        if (whole > 0) {
          const Pattern pattern{map.channels, 1, repeats};
          rows(group, part, 0, pattern, begin * map.channels, whole, pattern.width());
        }
        const int64_t rest = count - whole * repeats;
        if (rest > 0) {
          begin += whole * repeats;
          const Pattern pattern{map.channels, 1, 1};
          rows(group, part, 0, pattern, begin * map.channels, rest, map.channels);
        }
      });
    }
  }
};

Tensor dense(const Tensor& input) {
  const Tensor x = input.resolve_neg();  // a negated view has the memory of what it negates
  if (x.is_contiguous()) {
    return x;
  }
  if ((x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast)) ||
      (x.dim() == 5 && x.is_contiguous(at::MemoryFormat::ChannelsLast3d))) {
    return x;
  }
  return x.contiguous();
}

Tensor like(const Tensor& g, const Tensor& x) {
  return g.strides() == x.strides() && !g.is_neg() ? g : at::empty_like(x).copy_(g);
}

void check(
    const Tensor& x, const Parameter& p1, const Parameter& p2, const Parameter& beta) {
  TORCH_CHECK_VALUE(x.dim() >= 2, "x must have at least two dimensions, but it has ", x.dim());
  TORCH_CHECK_VALUE(
      p1.fits(x, false) && p2.fits(x, false) && beta.fits(x, true),
      "p1 and p2 must be numbers or contiguous tensors of the shape (C,), beta likewise or "
      "(N, C), of ", at::toOpMathType(x.scalar_type()), " on the CPU, for x of ", x.sizes());
}

Tensor forward(
    const Tensor& input, const Parameter& p1, const Parameter& p2, const Parameter& beta) {
  check(input, p1, p2, beta);
  const Tensor x = dense(input);
  Tensor y = at::empty_like(x);
  if (x.numel() == 0) {
    return y;
  }
  const Plan plan(Map(x), beta.per_sample());
  const int64_t channels = plan.map.channels;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, x.scalar_type(), "acon_mm::acon forward", [&] {
        using T = at::opmath_type<scalar_t>;
        const scalar_t* from = x.const_data_ptr<scalar_t>();
        scalar_t* to = y.mutable_data_ptr<scalar_t>();
        const Values<T> p1s(p1, channels), p2s(p2, channels), betas(beta, channels);
        const int64_t beta_stride = plan.per_sample ? channels : 0;
        plan.run(
            Lanes<scalar_t>::kSize,
            [&](int64_t sample, int64_t c, int64_t, int64_t offset, int64_t size) {
              plane_forward(
                  from + offset, to + offset, size, p1s[c], p2s[c],
                  betas[sample * beta_stride + c]);
            },
            [&](int64_t group, int64_t, int64_t c, const Pattern& pattern, int64_t offset,
                int64_t rows, int64_t stride) {
              Row<scalar_t> row(
                  pattern, &p1s[c], &p2s[c], &betas[group * beta_stride + c], false);
              row.forward(from + offset, to + offset, rows, stride);
            });
      });
  return y;
}

// Adds up the partial sums [groups, parts, 3, channels] into the gradients of the parameters; null
// for those of numbers.
template <typename T>
void finish(
    const Plan& plan, const T* partial, const T* p1, const T* p2, T* dp1, T* dp2, T* dbeta) {
  const int64_t channels = plan.map.channels;
  std::vector<double> sums(2 * channels), of_group(channels);
  for (int64_t group = 0; group < plan.groups; ++group) {
    if (plan.per_sample) {
      std::fill(of_group.begin(), of_group.end(), 0.0);
    }
    for (int64_t part = 0; part < plan.parts; ++part, partial += 3 * channels) {
      for (int64_t c = 0; c < channels; ++c) {
        sums[c] += partial[c];
        sums[channels + c] += partial[channels + c];
        of_group[c] += partial[2 * channels + c];
      }
    }
    if (dbeta != nullptr && (plan.per_sample || group == plan.groups - 1)) {
      for (int64_t c = 0; c < channels; ++c) {
        const double d = p1[c] - p2[c];
        *dbeta++ = static_cast<T>(d * d * of_group[c]);
      }
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    if (dp1 != nullptr) {
      dp1[c] = static_cast<T>(sums[c]);
    }
    if (dp2 != nullptr) {
      dp2[c] = static_cast<T>(sums[channels + c]);
    }
  }
}

// The gradients of x, p1, p2 and beta; that of a number is not defined.
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& grad,
    const Tensor& input,
    const Parameter& p1,
    const Parameter& p2,
    const Parameter& beta) {
  check(input, p1, p2, beta);
  TORCH_CHECK_VALUE(
      grad.sizes() == input.sizes() && grad.scalar_type() == input.scalar_type(),
      "g must have the shape and dtype of x");
  const Tensor x = dense(input);
  const Tensor g = like(grad, x);
  Tensor dx = at::empty_like(x);
  Tensor dp1 = p1.zeros(), dp2 = p2.zeros(), dbeta = beta.zeros();
  if (x.numel() == 0) {
    return {dx, dp1, dp2, dbeta};
  }
  const Plan plan(Map(x), beta.per_sample());
  const int64_t channels = plan.map.channels;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, x.scalar_type(), "acon_mm::acon backward", [&] {
        using T = at::opmath_type<scalar_t>;
        const scalar_t* gs = g.const_data_ptr<scalar_t>();
        const scalar_t* xs = x.const_data_ptr<scalar_t>();
        scalar_t* to = dx.mutable_data_ptr<scalar_t>();
        std::vector<T> partial(plan.groups * plan.parts * 3 * channels);
        T* sums = partial.data();
        const Values<T> p1s(p1, channels), p2s(p2, channels), betas(beta, channels);
        const int64_t beta_stride = plan.per_sample ? channels : 0;
        plan.run(
            Lanes<scalar_t>::kSize,
            [&](int64_t sample, int64_t c, int64_t part, int64_t offset, int64_t size) {
              T* out = sums + (sample * plan.parts + part) * 3 * channels + c;
              plane_backward(
                  gs + offset, xs + offset, to + offset, size, p1s[c], p2s[c],
                  betas[sample * beta_stride + c], out, out + channels, out + 2 * channels);
            },
            [&](int64_t group, int64_t part, int64_t c, const Pattern& pattern, int64_t offset,
                int64_t rows, int64_t stride) {
              Row<scalar_t> row(
                  pattern, &p1s[c], &p2s[c], &betas[group * beta_stride + c], true);
              row.backward(gs + offset, xs + offset, to + offset, rows, stride);
              row.add_sums(sums + (group * plan.parts + part) * 3 * channels + c, channels);
            });
        finish(
            plan, sums, &p1s[0], &p2s[0], data_or_null<T>(dp1), data_or_null<T>(dp2),
            data_or_null<T>(dbeta));
      });
  return {dx, dp1, dp2, dbeta};
}

}  // namespace
}  // namespace acon_mm
