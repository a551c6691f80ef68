// A batch norm and the activation after it in one operator, which costs what the norm alone does.
//
// The norm is y = k (x - m) + q, where m is the mean as x's precision has it. The sums over planes
// that make the statistics also give the mean of y of each plane, from which Meta-ACON computes its
// switching factor. With a, the slope of the activation at y, and dm, the gradient of that mean,
// the gradient of x is k g a + c0 + c1 (x - m), where c0 and c1 follow from the sums of g a,
// of g a (x - m) and those of the activation. So there are two passes in each direction, and one
// where neither the statistics nor Meta-ACON need sums. The first one backward leaves k g a in the
// output, in the map's dtype, so that the second one needs no sigmoid.
//
// Without a norm, m is 0 and k is 1: this is Meta-ACON by itself.

#pragma once

#include "meta.h"

#include <ATen/ops/sigmoid_backward.h>

#include <optional>


namespace acon_mm {
namespace {

using OptTensors = std::vector<std::optional<Tensor>>;

Tensors plain(const OptTensors& all) {
  Tensors result;
  for (const std::optional<Tensor>& one : all) {
    result.push_back(plain(one.value_or(Tensor())));
  }
  return result;
}

// What follows the norm: a plain ReLU, ACON with a given beta, and Meta-ACON in two manners.
enum Kind : int64_t { kRelu, kAcon, kChannelWise, kLayerWise };

// The sums of x - shift and of its square.
struct Deviations {
  static constexpr int kInputs = 1, kParams = 1, kSums = 2;
  static constexpr bool kWrites = false, kFills = true;

  template <typename T>
  static inline void prepare(T*) {}

  template <typename V>
  ACON_MM_INLINE V apply(const V* in, const V* p, V* sums) {
    const V d = in[0] - p[0];
    sums[0] = sums[0] + d;
    sums[1] = fmadd(d, d, sums[1]);
    return d;
  }
};

// The parameters are m, k, q and those of the activation.
template <typename Act>
struct NormForward {
  static constexpr int kInputs = 1, kParams = 3 + Act::kParams, kSums = 0;
  static constexpr bool kWrites = true, kFills = false;

  template <typename T>
  static inline void prepare(T* p) {
    Act::prepare(p + 3);
  }

  template <typename V>
  ACON_MM_INLINE V apply(const V* in, const V* p, V*) {
    return Act::value(fmadd(in[0] - p[0], p[1], p[2]), p + 3);
  }
};

// Of the gradient of the value and x: writes k g a, where a is the slope of the activation, and
// adds up g h, g h (x - m) and the sums of the activation.
template <typename Act>
struct NormBackward {
  static constexpr int kInputs = 2, kParams = 3 + Act::kParams, kSums = 2 + Act::kSums;
  static constexpr bool kWrites = true, kFills = false;

  template <typename T>
  static inline void prepare(T* p) {
    Act::prepare(p + 3);
  }

  template <typename V>
  ACON_MM_INLINE V apply(const V* in, const V* p, V* sums) {
    const V centred = in[1] - p[0];
    V gh;
    const V ga = Act::gradient(
        in[0], centred, fmadd(centred, p[1], p[2]), p + 3, gh, sums + 2);
    sums[0] = sums[0] + gh;
    sums[1] = fmadd(gh, centred, sums[1]);
    return p[1] * ga;
  }
};

// Of k g a and x, the gradient of x; m, c0 and c1 are the parameters.
struct NormFinish {
  static constexpr int kInputs = 2, kParams = 3, kSums = 0;
  static constexpr bool kWrites = true, kFills = false;

  template <typename T>
  static inline void prepare(T*) {}

  template <typename V>
  ACON_MM_INLINE V apply(const V* in, const V* p, V*) {
    return in[0] + fmadd(p[2], in[1] - p[0], p[1]);
  }
};

struct Moments {
  std::vector<double> mean, squares;  // of each channel; the sum of the squared deviations
  std::vector<double> plane_mean;     // of each group
};

// Each piece takes its deviations from the mean of its head. Where that is one of k parts of the
// piece, it lies at most sqrt(k) standard deviations from the mean of all: the squares lose four
// bits, or six in planes of up to 64 elements, whose head is one. Pieces are then joined by their
// means, in double.
constexpr int64_t kOfOneElement = 64;

template <typename scalar_t>
Moments moments(const Plan& plan, const scalar_t* x) {
  using T = at::opmath_type<scalar_t>;
  const int64_t channels = plan.map.channels, slots = plan.groups * plan.parts;
  std::vector<double> partial(slots * 3 * channels);  // mean, squares and number of each piece
  plan.run(Lanes<scalar_t>::kSize, [&](const Piece& piece) {
    // A division takes as long as a small plane.
    const double count = piece.plane ? piece.inner : piece.elements_of_channel();
    const double share = 1 / count;
    double* to = partial.data() + (piece.group * plan.parts + piece.part) * 3 * channels +
        piece.channel;
    const auto keep = [&](int64_t c, double shift, double sum, double squares) {
      to[c] = shift + sum * share;
      to[channels + c] = squares - sum * sum * share;
      to[2 * channels + c] = count;
    };
    if (piece.plane) {
      const Sweep<Deviations, scalar_t> sweep{{x}, nullptr, {}};
      T shift[1] = {static_cast<T>(x[piece.offset])}, sums[2];
      if (piece.inner > kOfOneElement) {
        const int64_t size = std::max<int64_t>(kOfOneElement, piece.inner / 16);
        sweep.run_plane(piece.offset, size, shift, sums, 1);
        shift[0] += sums[0] / size;
      }
      sweep.run_plane(piece.offset, piece.inner, shift, sums, 1);
      keep(0, shift[0], sums[0], sums[1]);
      return;
    }
    std::vector<T> buffer(3 * piece.channels);
    T *const shift = buffer.data(), *const sums = shift + piece.channels;
    Piece local = piece;  // whose parameters and sums are the buffer's
    local.group = local.channel = 0;
    const Sweep<Deviations, scalar_t> sweep{{x}, nullptr, {Param<T>{shift, 0}}};
    const Piece head = local.head();
    sweep.run(head, sums, piece.channels);
    for (int64_t c = 0; c < piece.channels; ++c) {
      shift[c] = sums[c] / head.elements_of_channel();
    }
    sweep.run(local, sums, piece.channels);
    for (int64_t c = 0; c < piece.channels; ++c) {
      keep(c, shift[c], sums[c], sums[piece.channels + c]);
    }
  });
  Moments result{
      std::vector<double>(channels), std::vector<double>(channels),
      std::vector<double>(plan.groups * channels)};
  const double of_group = plan.parts > 0 ? 1.0 / plan.groups : 0;
  for (int64_t slot = 0; slot < slots; ++slot) {
    const double* from = partial.data() + slot * 3 * channels;
    double* group = result.plane_mean.data() + slot / plan.parts * channels;
    const double share = plan.groups / static_cast<double>(plan.map.samples * plan.map.pixels);
    for (int64_t c = 0; c < channels; ++c) {
      group[c] += share * from[2 * channels + c] * from[c];
    }
  }
  for (int64_t i = 0; i < plan.groups * channels; i += channels) {
    for (int64_t c = 0; c < channels; ++c) {
      result.mean[c] += of_group * result.plane_mean[i + c];
    }
  }
  for (int64_t slot = 0; slot < slots; ++slot) {
    const double* from = partial.data() + slot * 3 * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double d = from[c] - result.mean[c];
      result.squares[c] += from[channels + c] + from[2 * channels + c] * d * d;
    }
  }
  return result;
}

template <typename T>
std::vector<double> values_or(const Tensor& tensor, int64_t size, double value) {
  if (!tensor.defined()) {
    return std::vector<double>(size, value);
  }
  const T* from = tensor.const_data_ptr<T>();
  return std::vector<double>(from, from + size);
}

// y = k (x - m) + q = weight * inverse * (x - mean) + bias. `norm` is empty or begins with weight
// and bias; `stats` holds mean and inverse.
template <typename T>
struct Affine {
  std::vector<double> weight, bias;
  const double *mean, *inverse;
  std::vector<T> m, k, q;

  Affine(const Tensors& norm, const Tensor& stats)
      : weight(values_or<T>(norm.empty() ? Tensor() : norm[0], stats.size(1), 1)),
        bias(values_or<T>(norm.empty() ? Tensor() : norm[1], stats.size(1), 0)),
        mean(stats.const_data_ptr<double>()),
        inverse(mean + stats.size(1)),
        m(mean, mean + stats.size(1)),
        k(m.size()),
        q(m.size()) {
    for (size_t c = 0; c < m.size(); ++c) {
      k[c] = static_cast<T>(weight[c] * inverse[c]);
      q[c] = static_cast<T>(bias[c] - k[c] * rounding(c));
    }
  }
  double rounding(int64_t c) const {
    return mean[c] - m[c];
  }
  std::array<Param<T>, 3> params() const {
    return {Param<T>{m.data(), 0}, Param<T>{k.data(), 0}, Param<T>{q.data(), 0}};
  }
};

template <typename T, size_t... kCounts>
auto join(const std::array<T, kCounts>&... parts) {
  std::array<T, (kCounts + ...)> all;
  auto to = all.begin();
  ((to = std::copy(parts.begin(), parts.end(), to)), ...);
  return all;
}

// Calls work(activation, its parameters), of ReLU without any and of ACON with p1, p2 and beta.
template <typename T, typename Work>
void with_activation(
    const std::vector<Parameter>& act, const Work& work) {
  if (act.empty()) {
    work(ReluOp(), std::array<Param<T>, 0>{});
  } else {
    work(AconOp(), std::array<Param<T>, 3>{of<T>(act[0]), of<T>(act[1]), of<T>(act[2])});
  }
}

// Writes mean and 1 / sqrt(variance + eps), which the norm uses.
template <typename T>
void statistics(
    const Tensors& norm, const NormMode& mode, const Moments& found, double count, double* to,
    int64_t channels) {
  Statistics stats(channels, count);
  if (norm.empty()) {
    stats.var.assign(channels, 1.0);
  } else if (mode.use_batch_stats) {
    stats.mean = found.mean;
    for (int64_t c = 0; c < channels; ++c) {
      stats.var[c] = found.squares[c] / count;
    }
    stats.follow<T>(norm[2], norm[3], mode);
  } else {
    stats.read<T>(norm[2], norm[3]);
  }
  for (int64_t c = 0; c < channels; ++c) {
    to[c] = stats.mean[c];
    to[channels + c] = 1 / std::sqrt(stats.var[c] + mode.eps);
  }
}

// `norm` is weight, bias, running mean and variance, or empty. `act` is empty, p1, p2 and beta, or
// p1 and p2 for Meta-ACON, with the layers as switching_forward() takes them. Returns the value and what
// norm_act_backward() needs besides: the statistics and, of Meta-ACON, the mean of each plane as
// normalised and of y, beta, and what the layers save.
Tensors norm_act_forward(
    const Tensor& input, const OptTensors& of_norm, bool batch, double momentum, double eps,
    int64_t kind, std::vector<Parameter> act, Tensors layers, bool act_batch,
    std::pair<double, double> act_momentum, std::pair<double, double> act_eps,
    const std::vector<Exchange>& joins) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const Tensor x = dense(input);
  const Tensors norm = plain(of_norm);
  make_plain(act);
  make_plain(layers);
  const bool meta = kind >= kChannelWise;
  const Plan plan(Map(x), meta);
  const int64_t channels = plan.map.channels;
  const Tensor stats = at::empty({2, channels}, x.options().dtype(at::kDouble));
  const auto wide = x.options().dtype(at::toOpMathType(x.scalar_type()));
  Tensors result = {at::empty_like(x), stats};
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, x.scalar_type(), "acon_mm::norm_act forward", [&] {
        using T = at::opmath_type<scalar_t>;
        const scalar_t* from = x.const_data_ptr<scalar_t>();
        Moments found;
        if (batch || meta) {
          found = moments(plan, from);
        }
        statistics<T>(
            norm, {batch, momentum, eps, joins[0]}, found, plan.map.samples * plan.map.pixels,
            stats.mutable_data_ptr<double>(), channels);
        const Affine<T> affine(norm, stats);
        if (meta) {
          const Tensor normal = at::empty({plan.map.samples, channels}, wide);
          const Tensor mean = at::empty_like(normal);
          T *to = normal.mutable_data_ptr<T>(), *to_mean = mean.mutable_data_ptr<T>();
          for (int64_t i = 0; i < normal.numel(); i += channels) {
            for (int64_t c = 0; c < channels; ++c) {
              const double value =
                  affine.inverse[c] * (found.plane_mean[i + c] - affine.mean[c]);
              to[i + c] = static_cast<T>(value);
              to_mean[i + c] = static_cast<T>(affine.weight[c] * value + affine.bias[c]);
            }
          }
          result.insert(result.end(), {normal, mean});
          if (kind == kLayerWise) {
            result.push_back(mean.sum(1, true).sigmoid_().expand_as(mean).contiguous());
          } else {
            const Tensors saved = switching_forward(
                mean, layers, {act_batch, act_momentum.first, act_eps.first, joins[1]},
                {act_batch, act_momentum.second, act_eps.second, joins[2]});
            result.insert(result.end(), saved.begin(), saved.end());
          }
          act.push_back(result[4]);
        }
        with_activation<T>(act, [&](auto op, const auto& params) {
          const Sweep<NormForward<decltype(op)>, scalar_t> sweep{
              {from}, result[0].mutable_data_ptr<scalar_t>(), join(affine.params(), params)};
          sweep.run(plan, nullptr);
        });
      });
  return result;
}

// `norm` is weight and bias, or empty; `act` is as there; `layers` are as switching_backward() takes
// them; `saved` is what norm_act_forward() returned besides the value.
// Returns the gradients of x (undefined unless `with_dx`), of weight and bias, and of p1, p2 and
// beta or the layers.
Tensors norm_act_backward(
    const Tensor& grad, const Tensor& input, const OptTensors& of_norm, bool batch, int64_t kind,
    std::vector<Parameter> act, const Tensors& layers, const Tensors& saved, bool act_batch,
    bool with_dx,
    const std::vector<Exchange>& exchanges) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const Tensor x = dense(input), g = like(grad, x);
  const Tensors norm = plain(of_norm);
  make_plain(act);
  const bool meta = kind >= kChannelWise;
  const Plan plan(Map(x), meta);
  const int64_t channels = plan.map.channels, samples = plan.map.samples;
  if (meta) {
    act.push_back(saved[3]);
  }
  const auto wide = x.options().dtype(at::toOpMathType(x.scalar_type()));
  const Tensor dweight = at::empty({channels}, wide), dbias = at::empty_like(dweight);
  const Tensor dx = at::empty_like(x);
  Tensors result = {with_dx ? dx : Tensor(), dweight, dbias};
  std::transform(act.begin(), act.end(), std::back_inserter(result), like_parameter);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, x.scalar_type(), "acon_mm::norm_act backward", [&] {
        using T = at::opmath_type<scalar_t>;
        const Affine<T> affine(norm, saved[0]);
        const scalar_t* const from = x.const_data_ptr<scalar_t>();
        scalar_t* const to = dx.mutable_data_ptr<scalar_t>();
        with_activation<T>(act, [&](auto op, const auto& act_params) {
          using Pass = NormBackward<decltype(op)>;
          std::vector<T> partial(plan.partial_sums(Pass::kSums));
          Sweep<Pass, scalar_t>{
              {g.const_data_ptr<scalar_t>(), from}, to, join(affine.params(), act_params)}
              .run(plan, partial.data());
          std::vector<double> sums = add_up(plan, Pass::kSums, partial.data());
          if constexpr (Pass::kSums > 2) {
            // Those of g y h, g y (1 - h) and g y^2 t, and then those of g a and g a (x - m).
            std::vector<double> of_act(sums.begin() + 2 * channels, sums.end());
            const Param<T> p1 = of<T>(act[0]), p2 = of<T>(act[1]);
            for (int64_t c = 0; c < channels; ++c) {
              double *const gh = &sums[c], *const ghx = &sums[channels + c];
              const double g = sums[2 * channels + c], gx = sums[3 * channels + c];
              const double k = affine.k[c], q = affine.q[c];
              const double low = p2.at(0, c), d = static_cast<double>(p1.at(0, c)) - low;
              of_act[c] = k * *ghx + q * *gh;
              of_act[channels + c] = k * (gx - *ghx) + q * (g - *gh);
              *gh = d * *gh + low * g;
              *ghx = d * *ghx + low * gx;
            }
            write_gradients<T>(
                of_act.data(), channels, act[0], act[1], result[3], result[4], result[5]);
          }
          Tensor dm;  // the gradient of the mean of y over a plane
          if (kind == kChannelWise) {
            const Tensors found = switching_backward(
                result[5], saved[2], layers,
                {saved.begin() + 3, saved.end()}, act_batch, exchanges);
            dm = found[0];
            result.pop_back();
            result.insert(result.end(), found.begin() + 1, found.end());
          } else if (kind == kLayerWise) {
            dm = at::sigmoid_backward(result[5].sum(1, true), saved[3]).contiguous();
            result.pop_back();
          }
          std::vector<double> of_weight(channels), of_bias(channels);
          const T* dms = meta ? dm.const_data_ptr<T>() : nullptr;
          const T* normal = meta ? saved[1].const_data_ptr<T>() : nullptr;
          for (int64_t c = 0; c < channels; ++c) {
            of_bias[c] = sums[c];
            of_weight[c] =
                affine.inverse[c] * (sums[channels + c] - affine.rounding(c) * sums[c]);
          }
          for (int64_t i = 0; meta && i < samples * channels; i += channels) {
            for (int64_t c = 0; c < channels; ++c) {
              of_bias[c] += dms[i + c];
              of_weight[c] += static_cast<double>(dms[i + c]) * normal[i + c];
            }
          }
          std::copy(of_weight.begin(), of_weight.end(), dweight.mutable_data_ptr<T>());
          std::copy(of_bias.begin(), of_bias.end(), dbias.mutable_data_ptr<T>());
          if (!with_dx || (!batch && !meta)) {
            return;
          }
          const int64_t planes = meta ? samples : 1;
          std::vector<T> c0(planes * channels), c1(channels);
          std::vector<double> means(2 * channels);
          if (batch) {
            const double count = samples * plan.map.pixels;
            means = averages<T>(exchanges[0], channels, count, [&](int64_t c) {
              return std::pair(of_bias[c], ratio(of_weight[c], affine.inverse[c]));
            });
          }
          for (int64_t c = 0; c < channels; ++c) {
            const double slope =
                -affine.inverse[c] * affine.inverse[c] * means[channels + c];
            const double shared = -means[c] - slope * affine.rounding(c);
            c1[c] = static_cast<T>(affine.k[c] * slope);
            for (int64_t i = c; i < planes * channels; i += channels) {
              const double of_mean = meta ? static_cast<double>(dms[i]) / plan.map.pixels : 0;
              c0[i] = static_cast<T>(affine.k[c] * (of_mean + shared));
            }
          }
          const std::array<Param<T>, 3> rest{
              Param<T>{affine.m.data(), 0}, Param<T>{c0.data(), meta ? channels : 0},
              Param<T>{c1.data(), 0}};
          Sweep<NormFinish, scalar_t>{{to, from}, to, rest}.run(plan, nullptr);
        });
      });
  return result;
}

}  // namespace
}  // namespace acon_mm
