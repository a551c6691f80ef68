// The switching factor of Meta-ACON, which comes from the means of the channels by two linear
// layers, each with a batch norm, and a sigmoid, all of them small: the number of calls decides the
// time.

#pragma once

#include "acon.h"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

namespace acon_mm {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

// What a synchronised norm exchanges with other processes, by a function of Python, empty for other
// norms. Forward, it turns mean, 1 / sqrt(variance + eps) and number of elements of this process's
// batch into mean, variance and number of all; backward, two sums into their averages over all.
using Exchange = std::function<Tensor(const Tensor&)>;

template <typename T>
std::vector<double> exchanged(const Exchange& exchange, const std::vector<double>& values) {
  const Tensor wire = at::empty(
      {static_cast<int64_t>(values.size())}, c10::CppTypeToScalarType<T>::value);
  std::copy(values.begin(), values.end(), wire.mutable_data_ptr<T>());
  const Tensor found = exchange(wire);
  const double* from = found.const_data_ptr<double>();
  return {from, from + found.numel()};
}

// That of a sum and 1 / std, where 0 / 0 is 0: a variance that overflows leaves no gradient, as in
// torch's norms.
inline double ratio(double sum, double inverse) {
  return inverse == 0 ? 0 : sum / inverse;
}

// The averages over the batch, or over the batches of all processes, of two sums of each channel:
// of dy and of dy (x - mean).
template <typename T, typename Sums>
std::vector<double> averages(
    const Exchange& exchange, int64_t channels, double count, const Sums& sums) {
  std::vector<double> values(2 * channels);
  for (int64_t c = 0; c < channels; ++c) {
    std::tie(values[c], values[channels + c]) = sums(c);
  }
  if (exchange) {
    return exchanged<T>(exchange, values);
  }
  for (double& value : values) {
    value /= count;
  }
  return values;
}

struct NormMode {
  bool use_batch_stats;  // by the statistics of the batch, which the running ones then follow
  double momentum, eps;
  Exchange join;
};

// What a batch norm normalises by: mean and variance of each channel.
struct Statistics {
  std::vector<double> mean, var;
  double count;

  Statistics(int64_t channels, double count_) : mean(channels), var(channels), count(count_) {}

  template <typename T>
  void read(const Tensor& running_mean, const Tensor& running_var) {
    std::copy_n(running_mean.const_data_ptr<T>(), mean.size(), mean.begin());
    std::copy_n(running_var.const_data_ptr<T>(), var.size(), var.begin());
  }

  // Joins those of a batch with other processes' or, where there are none, has the running ones
  // follow, which the exchange does otherwise.
  template <typename T>
  void follow(const Tensor& running_mean, const Tensor& running_var, const NormMode& mode) {
    if (mode.join) {
      std::vector<double> all(mean);
      for (const double v : var) {
        all.push_back(1 / std::sqrt(v + mode.eps));
      }
      all.push_back(count);
      all = exchanged<T>(mode.join, all);
      std::copy_n(all.begin(), mean.size(), mean.begin());
      std::copy_n(all.begin() + mean.size(), var.size(), var.begin());
    } else if (running_mean.defined()) {
      T* to_mean = running_mean.mutable_data_ptr<T>();
      T* to_var = running_var.mutable_data_ptr<T>();
      for (size_t c = 0; c < mean.size(); ++c) {
        to_mean[c] += mode.momentum * (mean[c] - to_mean[c]);
        to_var[c] += mode.momentum * (var[c] * count / (count - 1) - to_var[c]);
      }
      // Autograd must notice if they were saved for a backward pass, as after all in-place changes.
      torch::autograd::impl::bump_version(running_mean);
      torch::autograd::impl::bump_version(running_var);
    }
  }
};

// A linear layer of `outputs` x `inputs` weights and the norm after it.
struct Layer {
  const Tensor &weight, &bias, &norm_weight, &norm_bias, &running_mean, &running_var;
};

// From u = linear(x), writes u's normalised values, 1 / std, and the layer's output.
template <typename T>
void normalise(
    const Tensor& u, const Layer& layer, const NormMode& mode, Tensor& normal, Tensor& scale,
    Tensor& out) {
  const int64_t n = u.size(0), width = u.size(1);
  const T* from = u.const_data_ptr<T>();
  const T* weight = layer.norm_weight.const_data_ptr<T>();
  const T* bias = layer.norm_bias.const_data_ptr<T>();
  T* inverse = scale.mutable_data_ptr<T>();
  Statistics stats(width, n);
  // In double, so that the square of a large number does not overflow.
  std::vector<double>&mean = stats.mean, &var = stats.var;
  if (!mode.use_batch_stats) {
    stats.read<T>(layer.running_mean, layer.running_var);
  } else {
    for (int64_t i = 0; i < n * width; i += width) {
      for (int64_t c = 0; c < width; ++c) {
        mean[c] += from[i + c];
      }
    }
    for (int64_t c = 0; c < width; ++c) {
      mean[c] /= n;
    }
    for (int64_t i = 0; i < n * width; i += width) {
      for (int64_t c = 0; c < width; ++c) {
        const double d = from[i + c] - mean[c];
        var[c] += d * d;
      }
    }
    for (int64_t c = 0; c < width; ++c) {
      var[c] /= n;
    }
    stats.follow<T>(layer.running_mean, layer.running_var, mode);
  }
  for (int64_t c = 0; c < width; ++c) {
    inverse[c] = static_cast<T>(1 / std::sqrt(var[c] + mode.eps));
  }
  T* to = normal.mutable_data_ptr<T>();
  T* result = out.mutable_data_ptr<T>();
  for (int64_t i = 0; i < n * width; i += width) {
    for (int64_t c = 0; c < width; ++c) {
      to[i + c] = (from[i + c] - static_cast<T>(mean[c])) * inverse[c];
      result[i + c] = to[i + c] * weight[c] + bias[c];
    }
  }
}

// Turns g, the gradient of a layer's output, into that of u, and returns those of the norm.
template <typename T>
std::pair<Tensor, Tensor> normalise_backward(
    Tensor& g, const Tensor& norm_weight, const Tensor& normal, const Tensor& scale,
    bool use_batch_stats, const Exchange& exchange) {
  const int64_t n = g.size(0), width = g.size(1);
  Tensor dweight = at::zeros_like(norm_weight), dbias = at::zeros_like(norm_weight);
  T* grad = g.mutable_data_ptr<T>();
  T* gw = dweight.mutable_data_ptr<T>();
  T* gb = dbias.mutable_data_ptr<T>();
  const T* weight = norm_weight.const_data_ptr<T>();
  const T* values = normal.const_data_ptr<T>();
  const T* inverse = scale.const_data_ptr<T>();
  for (int64_t i = 0; i < n * width; i += width) {
    for (int64_t c = 0; c < width; ++c) {
      gb[c] += grad[i + c];
      gw[c] += grad[i + c] * values[i + c];
    }
  }
  std::vector<T> mean_b(width), mean_w(width);
  if (use_batch_stats) {
    const std::vector<double> means = averages<T>(exchange, width, n, [&](int64_t c) {
      return std::pair<double, double>(gb[c], ratio(gw[c], inverse[c]));
    });
    for (int64_t c = 0; c < width; ++c) {
      mean_b[c] = means[c];
      mean_w[c] = means[width + c] * inverse[c];
    }
  }
  for (int64_t i = 0; i < n * width; i += width) {
    for (int64_t c = 0; c < width; ++c) {
      grad[i + c] =
          weight[c] * inverse[c] * (grad[i + c] - mean_b[c] - values[i + c] * mean_w[c]);
    }
  }
  return {dweight, dbias};
}

// `layers` holds, for both layers, weight, bias, the norm's weight and bias and its running mean
// and variance. Returns beta and what backward() needs besides: for both layers the normalised
// values and 1 / std, and the first layer's output.
Tensors switching_forward(
    const Tensor& mean, const Tensors& layers, const NormMode& of_first,
    const NormMode& of_second) {
  const Layer first{layers[0], layers[1], layers[2], layers[3], layers[4], layers[5]};
  const Layer second{layers[6], layers[7], layers[8], layers[9], layers[10], layers[11]};
  Tensors saved;
  Tensor x = mean;
  AT_DISPATCH_FLOATING_TYPES(mean.scalar_type(), "acon_mm::switching forward", [&] {
    const auto apply = [&](const Layer& layer, const NormMode& mode) {
      const Tensor u = at::addmm(layer.bias, x, layer.weight.flatten(1).t());
      Tensor normal = at::empty_like(u), out = at::empty_like(u);
      Tensor scale = at::empty_like(layer.norm_weight);
      normalise<scalar_t>(u, layer, mode, normal, scale, out);
      saved.insert(saved.end(), {normal, scale});
      x = out;
    };
    apply(first, of_first);
    saved.push_back(x);
    apply(second, of_second);
  });
  saved.insert(saved.begin(), at::sigmoid(x));
  return saved;
}

// The gradient of a weight, (C', C, 1, 1), in its shape and strides, as DDP wants it.
Tensor of_weight(const Tensor& g, const Tensor& weight) {
  return weight.flatten(1).is_contiguous() ? g.as_strided(weight.sizes(), weight.strides())
                                           : at::empty_like(weight).copy_(g.view(weight.sizes()));
}

// `layers` holds, for both layers, weight, bias, and the norm's weight and bias. Returns the
// gradients of the mean and of all of them.
Tensors switching_backward(
    const Tensor& grad, const Tensor& mean, const Tensors& layers, const Tensors& saved,
    bool use_batch_stats, const std::vector<Exchange>& averages) {
  const Tensor w1 = layers[0].flatten(1), norm1 = plain(layers[2]);
  const Tensor w2 = layers[4].flatten(1), norm2 = plain(layers[6]);
  const Tensor &beta = saved[0], &normal1 = saved[1], &scale1 = saved[2], &hidden = saved[3];
  const Tensor &normal2 = saved[4], &scale2 = saved[5];
  Tensors result;
  AT_DISPATCH_FLOATING_TYPES(mean.scalar_type(), "acon_mm::switching backward", [&] {
    Tensor g2 = at::empty_like(beta);
    const Tensor from = grad.contiguous();
    const scalar_t* gs = from.const_data_ptr<scalar_t>();
    const scalar_t* betas = beta.const_data_ptr<scalar_t>();
    scalar_t* to = g2.mutable_data_ptr<scalar_t>();
    for (int64_t i = 0; i < beta.numel(); ++i) {
      to[i] = gs[i] * betas[i] * (1 - betas[i]);
    }
    const auto of_norm2 =
        normalise_backward<scalar_t>(
            g2, norm2, normal2, scale2, use_batch_stats, averages[2]);
    Tensor g1 = at::mm(g2, w2);
    const auto of_norm1 =
        normalise_backward<scalar_t>(
            g1, norm1, normal1, scale1, use_batch_stats, averages[1]);
    result = {
        at::mm(g1, w1),
        of_weight(at::mm(g1.t(), mean), layers[0]),
        g1.sum(0),
        of_norm1.first,
        of_norm1.second,
        of_weight(at::mm(g2.t(), hidden), layers[4]),
        g2.sum(0),
        of_norm2.first,
        of_norm2.second};
  });
  return result;
}

}  // namespace
}  // namespace acon_mm
