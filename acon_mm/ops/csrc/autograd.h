// ACON as an autograd function of C++. Between the layers of a network, the steps of one that is
// written in Python have left the CPU's caches and take as long as a small map.

#pragma once

#include "acon.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/version.h>

#include <array>
#include <functional>
#include <optional>

namespace acon_mm {
namespace {

// Computes what `backward` does by operations that autograd records. Never destroyed: it holds a
// function of a Python that is gone by then.
using Gradients = std::function<decltype(backward)>;

Gradients& differentiable_gradients() {
  static auto* gradients = new Gradients;
  return *gradients;
}

// Autograd sees optional tensors among the arguments, but not into a Parameter.
using Numbers = std::array<double, 3>;

// Before torch 2.4, c10::optional is a class of its own, the only one that autograd looks into.
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 4
using Optional = c10::optional<Tensor>;
#else
using Optional = std::optional<Tensor>;
#endif

struct Acon : torch::autograd::Function<Acon> {
  static Tensor forward(
      torch::autograd::AutogradContext* ctx,
      const Tensor& x,
      const Optional& p1,
      const Optional& p2,
      const Optional& beta,
      const Numbers& numbers) {
    const Tensor none;
    ctx->save_for_backward({x, p1.value_or(none), p2.value_or(none), beta.value_or(none)});
    for (int i = 0; i < 3; ++i) {
      if (numbers[i] != 0) {
        ctx->saved_data[kNames[i]] = numbers[i];
      }
    }
    return acon_mm::forward(
        x, parameter(p1, numbers[0]), parameter(p2, numbers[1]), parameter(beta, numbers[2]));
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto restored = [&](int i) {
      const auto found = ctx->saved_data.find(kNames[i]);
      const bool is_set = found != ctx->saved_data.end();
      return parameter(saved[1 + i], is_set ? found->second.toDouble() : 0);
    };
    const Tensor& x = saved[0];
    const Parameter p1 = restored(0), p2 = restored(1), beta = restored(2);
    // Gradients are enabled in a backward pass under create_graph only, which differentiates it.
    // A batch of gradients under vmap has no memory of its own.
    const bool by_operations = at::GradMode::is_enabled() || !grads[0].has_storage();
    const auto [dx, dp1, dp2, dbeta] = by_operations
        ? differentiable_gradients()(grads[0], x, p1, p2, beta)
        : acon_mm::backward(grads[0], x, p1, p2, beta);
    return {dx, dp1, dp2, dbeta, Tensor()};
  }

 private:
  static constexpr std::array kNames{"p1", "p2", "beta"};

  static Parameter parameter(const Optional& tensor, double number) {
    return tensor && tensor->defined() ? Parameter(*tensor) : Parameter(number);
  }
};

// Returns nothing for tensors that have to be converted or expanded first, or do not fit at all.
std::optional<Tensor> apply(
    const Tensor& x, const Parameter& p1, const Parameter& p2, const Parameter& beta) {
  if (x.dim() < 2 || !p1.fits(x, false) || !p2.fits(x, false) || !beta.fits(x, true)) {
    return std::nullopt;
  }
  if (!at::GradMode::is_enabled()) {
    return forward(x, p1, p2, beta);
  }
  const auto tensor = [](const Parameter& p) {
    return p.tensor.defined() ? Optional(p.tensor) : Optional();
  };
  return Acon::apply(
      x, tensor(p1), tensor(p2), tensor(beta), Numbers{p1.number, p2.number, beta.number});
}

}  // namespace
}  // namespace acon_mm
