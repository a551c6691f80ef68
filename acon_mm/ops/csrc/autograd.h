// ACON as an autograd function of C++. Between the layers of a network, the steps of one that is
// written in Python have left the CPU's caches and take as long as a small map.

#pragma once

#include "acon.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

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

struct Acon : torch::autograd::Function<Acon> {
  static Tensor forward(
      torch::autograd::AutogradContext* ctx,
      const Tensor& x,
      const Tensor& p1,
      const Tensor& p2,
      const Tensor& beta) {
    ctx->save_for_backward({x, p1, p2, beta});
    return acon_mm::forward(x, p1, p2, beta);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &p1 = saved[1], &p2 = saved[2], &beta = saved[3];
    // Gradients are enabled in here under create_graph only: then they must be differentiable.
    // Many gradients at once, of a vmap, have no memory of their own.
    const bool by_operations = at::GradMode::is_enabled() || !grads[0].has_storage();
    const auto [dx, dp1, dp2, dbeta] = by_operations
        ? differentiable_gradients()(grads[0], x, p1, p2, beta)
        : acon_mm::backward(grads[0], x, p1, p2, beta);
    return {dx, dp1, dp2, dbeta};
  }
};

// Whether a parameter is as `check` wants it.
bool fits(const Tensor& p, const Tensor& x, bool or_sample) {
  const auto shape = x.sizes();
  return p.scalar_type() == at::toOpMathType(x.scalar_type()) && p.device().is_cpu() &&
      p.is_contiguous() &&
      (p.sizes() == shape.slice(1, 1) || (or_sample && p.sizes() == shape.slice(0, 2)));
}

// Returns nothing for parameters that have to be converted or expanded first, or do not fit at all.
std::optional<Tensor> apply(
    const Tensor& x, const Tensor& p1, const Tensor& p2, const Tensor& beta) {
  if (x.dim() < 2 || !fits(p1, x, false) || !fits(p2, x, false) || !fits(beta, x, true)) {
    return std::nullopt;
  }
  return at::GradMode::is_enabled() ? Acon::apply(x, p1, p2, beta) : forward(x, p1, p2, beta);
}

}  // namespace
}  // namespace acon_mm
