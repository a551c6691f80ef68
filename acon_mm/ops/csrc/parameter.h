// A parameter of ACON: a number for all channels, or a tensor.

#pragma once

#include <ATen/OpMathType.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros_like.h>

namespace acon_mm {
namespace {

using at::Tensor;

struct Parameter {
  Tensor tensor;  // not defined for a number
  double number = 0;

  Parameter() = default;
  Parameter(const Tensor& tensor_) : tensor(tensor_) {}
  Parameter(double number_) : number(number_) {}

  // Whether kernels take it for x: of shape (C,) or, if they take it per sample as well, (N, C).
  bool fits(const Tensor& x, bool or_sample) const {
    if (!tensor.defined()) {
      return true;
    }
    const auto shape = x.sizes();
    return tensor.scalar_type() == at::toOpMathType(x.scalar_type()) &&
        tensor.device().is_cpu() && tensor.is_contiguous() && !tensor.is_neg() &&
        (tensor.sizes() == shape.slice(1, 1) ||
         (or_sample && tensor.sizes() == shape.slice(0, 2)));
  }

  bool per_sample() const {
    return tensor.defined() && tensor.dim() == 2;
  }

  Tensor zeros() const {
    return tensor.defined() ? at::zeros_like(tensor) : Tensor();
  }
};

}  // namespace
}  // namespace acon_mm
