// ACON on the CPU: the functions that Python sees.

#pragma once

#include "sweep.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <tuple>

namespace acon_mm {
namespace {

struct AconForward : AconOp {
  static constexpr int kInputs = 1, kSums = 0;
  static constexpr bool kWrites = true, kFills = false;

  template <typename V>
  static inline V apply(const V* in, const V* p, V*) {
    return value(in[0], p);
  }
};

// Of the gradient of the value and x.
struct AconBackward : AconOp {
  static constexpr int kInputs = 2;
  static constexpr bool kWrites = true, kFills = false;

  template <typename V>
  static inline V apply(const V* in, const V* p, V* sums) {
    return gradient<true>(in[0], in[1], p, sums);
  }
};

void check(const Tensor& x, const Tensor& p1, const Tensor& p2, const Tensor& beta) {
  TORCH_CHECK_VALUE(x.dim() >= 2, "x must have at least two dimensions, but it has ", x.dim());
  const auto dtype = at::toOpMathType(x.scalar_type());
  for (const Tensor& p : {p1, p2, beta}) {
    TORCH_CHECK_VALUE(
        p.scalar_type() == dtype && p.is_contiguous() && p.device().is_cpu(),
        "p1, p2 and beta must be contiguous tensors of ", dtype, " on the CPU");
  }
  const auto n = x.size(0), c = x.size(1);
  TORCH_CHECK_VALUE(
      p1.sizes() == at::IntArrayRef({c}) && p2.sizes() == p1.sizes() &&
          (beta.sizes() == p1.sizes() || beta.sizes() == at::IntArrayRef({n, c})),
      "p1 and p2 must have the shape (C,) and beta (C,) or (N, C), but they have ", p1.sizes(),
      ", ", p2.sizes(), " and ", beta.sizes(), " for x of ", x.sizes());
}

Tensor forward(const Tensor& input, const Tensor& p1, const Tensor& p2, const Tensor& beta) {
  check(input, p1, p2, beta);
  const Tensor x = dense(input);
  Tensor y = at::empty_like(x);
  if (x.numel() == 0) {
    return y;
  }
  const Plan plan(Map(x), beta.dim() == 2);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, x.scalar_type(), "acon_mm::acon forward", [&] {
        using T = at::opmath_type<scalar_t>;
        const Sweep<AconForward, scalar_t> sweep{
            {x.const_data_ptr<scalar_t>()},
            y.mutable_data_ptr<scalar_t>(),
            {of<T>(p1), of<T>(p2), of<T>(beta)}};
        sweep.run(plan, nullptr);
      });
  return y;
}

// Adds up the partial sums [groups, parts, kinds, channels], those of the last kind for each group
// of a plan per sample, all others over the groups as well.
template <typename T>
std::vector<double> add_up(const Plan& plan, int64_t kinds, const T* partial) {
  const int64_t channels = plan.map.channels, shared = (kinds - 1) * channels;
  std::vector<double> sums(shared + (plan.per_sample ? plan.groups : 1) * channels);
  for (int64_t group = 0; group < plan.groups; ++group) {
    double* of_group = sums.data() + shared + (plan.per_sample ? group * channels : 0);
    for (int64_t part = 0; part < plan.parts; ++part, partial += kinds * channels) {
      for (int64_t i = 0; i < shared; ++i) {
        sums[i] += partial[i];
      }
      for (int64_t c = 0; c < channels; ++c) {
        of_group[c] += partial[shared + c];
      }
    }
  }
  return sums;
}

// Writes the gradients of the parameters that follow from the sums of AconOp, from `sums` on.
template <typename T>
void write_gradients(
    const double* sums, const Tensor& p1, const Tensor& p2, Tensor& dp1, Tensor& dp2,
    Tensor& dbeta) {
  const int64_t channels = p1.numel();
  const T *p1s = p1.const_data_ptr<T>(), *p2s = p2.const_data_ptr<T>();
  T *to1 = dp1.mutable_data_ptr<T>(), *to2 = dp2.mutable_data_ptr<T>();
  T* to = dbeta.mutable_data_ptr<T>();
  for (int64_t c = 0; c < channels; ++c) {
    const double d = static_cast<double>(p1s[c]) - p2s[c];
    to1[c] = static_cast<T>(sums[c]);
    to2[c] = static_cast<T>(sums[channels + c]);
    for (int64_t i = c; i < dbeta.numel(); i += channels) {
      to[i] = static_cast<T>(d * d * sums[2 * channels + i]);
    }
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& grad, const Tensor& input, const Tensor& p1, const Tensor& p2,
    const Tensor& beta) {
  check(input, p1, p2, beta);
  TORCH_CHECK_VALUE(
      grad.sizes() == input.sizes() && grad.scalar_type() == input.scalar_type(),
      "g must have the shape and dtype of x");
  const Tensor x = dense(input);
  const Tensor g = like(grad, x);
  Tensor dx = at::empty_like(x);
  Tensor dp1 = at::zeros_like(p1), dp2 = at::zeros_like(p2), dbeta = at::zeros_like(beta);
  if (x.numel() == 0) {
    return {dx, dp1, dp2, dbeta};
  }
  const Plan plan(Map(x), beta.dim() == 2);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, x.scalar_type(), "acon_mm::acon backward", [&] {
        using T = at::opmath_type<scalar_t>;
        std::vector<T> sums(plan.partial_sums(AconBackward::kSums));
        const Sweep<AconBackward, scalar_t> sweep{
            {g.const_data_ptr<scalar_t>(), x.const_data_ptr<scalar_t>()},
            dx.mutable_data_ptr<scalar_t>(),
            {of<T>(p1), of<T>(p2), of<T>(beta)}};
        sweep.run(plan, sums.data());
        write_gradients<T>(
            add_up(plan, AconBackward::kSums, sums.data()).data(), p1, p2, dp1, dp2, dbeta);
      });
  return {dx, dp1, dp2, dbeta};
}

}  // namespace
}  // namespace acon_mm
