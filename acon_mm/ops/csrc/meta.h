// Meta-ACON. Its switching factor comes from the means of the channels by two linear layers, each
// with a batch norm, and a sigmoid, all of them small: the number of calls decides the time.

#pragma once

#include "acon.h"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

namespace acon_mm {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

// A linear layer of `outputs` x `inputs` weights and the norm after it.
struct Layer {
  const Tensor &weight, &bias, &norm_weight, &norm_bias, &running_mean, &running_var;
};

struct NormMode {
  bool use_batch_stats;  // by the statistics of the batch, which the running ones then follow
  double momentum, eps;
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
  std::vector<T> mean(width), var(width);
  if (!mode.use_batch_stats) {
    const T* running_mean = layer.running_mean.const_data_ptr<T>();
    const T* running_var = layer.running_var.const_data_ptr<T>();
    mean.assign(running_mean, running_mean + width);
    var.assign(running_var, running_var + width);
  } else {
    T* running_mean = layer.running_mean.mutable_data_ptr<T>();
    T* running_var = layer.running_var.mutable_data_ptr<T>();
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
        const T d = from[i + c] - mean[c];
        var[c] += d * d;
      }
    }
    const T momentum = mode.momentum;
    for (int64_t c = 0; c < width; ++c) {
      running_mean[c] += momentum * (mean[c] - running_mean[c]);
      running_var[c] += momentum * (var[c] / (n - 1) - running_var[c]);
      var[c] /= n;
    }
    // Autograd must notice if they were saved for a backward pass, as after all in-place changes.
    torch::autograd::impl::bump_version(layer.running_mean);
    torch::autograd::impl::bump_version(layer.running_var);
  }
  for (int64_t c = 0; c < width; ++c) {
    inverse[c] = 1 / std::sqrt(var[c] + static_cast<T>(mode.eps));
  }
  T* to = normal.mutable_data_ptr<T>();
  T* result = out.mutable_data_ptr<T>();
  for (int64_t i = 0; i < n * width; i += width) {
    for (int64_t c = 0; c < width; ++c) {
      to[i + c] = (from[i + c] - mean[c]) * inverse[c];
      result[i + c] = to[i + c] * weight[c] + bias[c];
    }
  }
}

// Turns g, the gradient of a layer's output, into that of u, and returns those of the norm.
template <typename T>
std::pair<Tensor, Tensor> normalise_backward(
    Tensor& g, const Tensor& norm_weight, const Tensor& normal, const Tensor& scale,
    bool use_batch_stats) {
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
  const T share = use_batch_stats ? T(1) / n : T(0);
  for (int64_t i = 0; i < n * width; i += width) {
    for (int64_t c = 0; c < width; ++c) {
      grad[i + c] = weight[c] * inverse[c] *
          (grad[i + c] - share * (gb[c] + values[i + c] * gw[c]));
    }
  }
  return {dweight, dbias};
}

// `layers` holds, for both layers, weight, bias, the norm's weight and bias and its running mean
// and variance. Returns beta and what backward() needs besides: for both layers the normalised
// values and 1 / std, and the first layer's output.
Tensors switching_forward(
    const Tensor& mean, const Tensors& layers, bool use_batch_stats,
    std::pair<double, double> momentum, std::pair<double, double> eps) {
  const Layer first{layers[0], layers[1], layers[2], layers[3], layers[4], layers[5]};
  const Layer second{layers[6], layers[7], layers[8], layers[9], layers[10], layers[11]};
  Tensors saved;
  Tensor x = mean;
  AT_DISPATCH_FLOATING_TYPES(mean.scalar_type(), "acon_mm::switching forward", [&] {
    const auto apply = [&](const Layer& layer, const NormMode& mode) {
      const Tensor u = at::addmm(layer.bias, x, layer.weight.t());
      Tensor normal = at::empty_like(u), out = at::empty_like(u);
      Tensor scale = at::empty_like(layer.norm_weight);
      normalise<scalar_t>(u, layer, mode, normal, scale, out);
      saved.insert(saved.end(), {normal, scale});
      x = out;
    };
    apply(first, {use_batch_stats, momentum.first, eps.first});
    saved.push_back(x);
    apply(second, {use_batch_stats, momentum.second, eps.second});
  });
  saved.insert(saved.begin(), at::sigmoid(x));
  return saved;
}

// Returns the gradients of the mean and, for both layers, of weight, bias and the norm's weight
// and bias.
Tensors switching_backward(
    const Tensor& grad, const Tensor& mean, const Tensors& weights, const Tensors& saved,
    bool use_batch_stats) {
  const Tensor &w1 = weights[0], &norm1 = weights[1], &w2 = weights[2], &norm2 = weights[3];
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
        normalise_backward<scalar_t>(g2, norm2, normal2, scale2, use_batch_stats);
    Tensor g1 = at::mm(g2, w2);
    const auto of_norm1 =
        normalise_backward<scalar_t>(g1, norm1, normal1, scale1, use_batch_stats);
    result = {
        at::mm(g1, w1),     at::mm(g1.t(), mean), g1.sum(0),
        of_norm1.first,     of_norm1.second,      at::mm(g2.t(), hidden),
        g2.sum(0),    of_norm2.first,       of_norm2.second};
  });
  return result;
}

// Meta-ACON: the value, beta, the mean, and what switching_forward() returns besides.
Tensors meta_forward(
    const Tensor& x, const Tensor& p1, const Tensor& p2, const Tensors& layers,
    bool use_batch_stats, std::pair<double, double> momentum, std::pair<double, double> eps) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  std::vector<int64_t> pixels(x.dim() - 2);
  std::iota(pixels.begin(), pixels.end(), 2);
  const Tensor mean = at::mean(x, pixels, false, p1.scalar_type());
  const Tensors saved = switching_forward(mean, layers, use_batch_stats, momentum, eps);
  Tensors result = {forward(x, p1, p2, saved[0]), mean};
  result.insert(result.end(), saved.begin(), saved.end());
  return result;
}

// The gradients of x, p1, p2 and those of switching_backward() but for the mean's.
Tensors meta_backward(
    const Tensor& g, const Tensor& x, const Tensor& p1, const Tensor& p2, const Tensors& weights,
    const Tensors& saved, bool use_batch_stats) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const Tensors factor(saved.begin() + 1, saved.end());
  auto [dx, dp1, dp2, dbeta] = backward(g, x, p1, p2, factor[0]);
  const Tensors found = switching_backward(dbeta, saved[0], weights, factor, use_batch_stats);
  const int64_t pixels = x.numel() / found[0].numel();
  std::vector<int64_t> shape(x.dim(), 1);
  shape[0] = x.size(0);
  shape[1] = x.size(1);
  dx.add_(found[0].div(pixels).to(x.scalar_type()).view(shape));
  Tensors result = {dx, dp1, dp2};
  result.insert(result.end(), found.begin() + 1, found.end());
  return result;
}

}  // namespace
}  // namespace acon_mm
