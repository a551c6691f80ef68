// ACON on the CPU: the functions that Python sees.

#pragma once

#include "sweep.h"

#include <ATen/Dispatch.h>

#include <tuple>

namespace acon_mm {
namespace {

// Of the gradient of the value and x, with the sums of ACON's own parameters: those of the norm's
// operation are NaN where x is infinite.
struct AconBackward : AconOp {
  static constexpr int kInputs = 2, kSums = 3;  // for p1, p2 and, but for d^2, beta
  static constexpr bool kWrites = true, kFills = false;

  template <typename V>
  ACON_MM_INLINE V apply(const V* in, const V* p, V* sums) {
    using T = typename V::value_type;
    const V g = in[0], x = in[1], z = p[2] * x;
    const Logistic<V> f(z);
    const V t = f.er * f.r;
    const V zt = f.a * t;       // -|z| * t
    const V large = f.r - zt;   // h where z >= 0
    const V small = f.er + zt;  // 1 - h there
    // Where x is infinite, small and t are 0, and so is their product with it: see formula.py.
    const V finite = at::vec::clamp(
        x, V(std::numeric_limits<T>::lowest()), V(std::numeric_limits<T>::max()));
    const V of_large = x * large;
    const V of_small = finite * small;
    sums[0] = fmadd(g, by_sign(z, of_large, of_small), sums[0]);
    sums[1] = fmadd(g, by_sign(z, of_small, of_large), sums[1]);
    sums[2] = fmadd(g * (finite * t), finite, sums[2]);
    return g * fmadd(p[0], by_sign(z, large, small), p[1]);
  }
};

struct AconForward : AconOp {
  static constexpr int kInputs = 1, kSums = 0;
  static constexpr bool kWrites = true, kFills = false;

  template <typename V>
  ACON_MM_INLINE V apply(const V* in, const V* p, V*) {
    return value(in[0], p);
  }
};

bool per_sample(const Parameter& beta) {
  const Tensor* tensor = std::get_if<Tensor>(&beta);
  return tensor && tensor->dim() == 2;
}

Tensor forward(
    const Tensor& input, const Parameter& of_p1, const Parameter& of_p2,
    const Parameter& of_beta) {
  const Tensor x = dense(input);
  const Parameter p1 = plain(of_p1), p2 = plain(of_p2), beta = plain(of_beta);
  const Tensor y = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, x.scalar_type(), "acon_mm::acon forward", [&] {
        using T = at::opmath_type<scalar_t>;
        const Sweep<AconForward, scalar_t> sweep{
            {x.const_data_ptr<scalar_t>()},
            y.mutable_data_ptr<scalar_t>(),
            {of<T>(p1), of<T>(p2), of<T>(beta)}};
        sweep.run(Plan(Map(x), per_sample(beta)), nullptr);
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

// Writes the gradients of the parameters from the sums of AconOp, but not of numbers.
template <typename T>
void write_gradients(
    const double* sums, int64_t channels, const Parameter& p1, const Parameter& p2,
    const Tensor& dp1, const Tensor& dp2, const Tensor& dbeta) {
  const auto write = [&](const Tensor& to, const double* from, const auto& scale) {
    T* const data = to.defined() ? to.mutable_data_ptr<T>() : nullptr;
    for (int64_t i = 0; data && i < to.numel(); i += channels) {
      for (int64_t c = 0; c < channels; ++c) {
        data[i + c] = static_cast<T>(from[i + c] * scale(c));
      }
    }
  };
  const auto one = [](int64_t) { return 1.0; };
  write(dp1, sums, one);
  write(dp2, sums + channels, one);
  const Param<T> high = of<T>(p1), low = of<T>(p2);
  write(dbeta, sums + 2 * channels, [&](int64_t c) {
    const double d = static_cast<double>(high.at(0, c)) - low.at(0, c);
    return d * d;
  });
}

// The gradients of x, p1, p2 and beta; that of a number is not defined.
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& grad, const Tensor& input, const Parameter& of_p1, const Parameter& of_p2,
    const Parameter& of_beta) {
  const Tensor x = dense(input), g = like(grad, x), dx = at::empty_like(x);
  const Parameter p1 = plain(of_p1), p2 = plain(of_p2), beta = plain(of_beta);
  const Tensor dp1 = like_parameter(p1), dp2 = like_parameter(p2), dbeta = like_parameter(beta);
  const Plan plan(Map(x), per_sample(beta));
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
            add_up(plan, AconBackward::kSums, sums.data()).data(), plan.map.channels, p1, p2, dp1, dp2,
            dbeta);
      });
  return {dx, dp1, dp2, dbeta};
}

}  // namespace
}  // namespace acon_mm
