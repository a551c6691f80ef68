// The Python module of one instruction set.
//
// Each set has a module of its own: with all of them in one, the linker would keep a single copy
// of an inline function of the standard library, perhaps one that the CPU cannot run.

#include "acon.h"
#include "autograd.h"
#include "norm_act.h"

#include <torch/csrc/autograd/python_variable.h>
#include <pybind11/functional.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/version.h>

// Any tensor or number of Python; a number comes back as a float.
template <>
struct pybind11::detail::type_caster<acon_mm::Parameter> {
  PYBIND11_TYPE_CASTER(acon_mm::Parameter, const_name("Tensor | float"));

  bool load(handle source, bool convert) {
    if (THPVariable_Check(source.ptr())) {
      value = THPVariable_Unpack(source.ptr());
      return true;
    }
    make_caster<double> number;
    if (!number.load(source, convert)) {
      return false;
    }
    value = cast_op<double>(number);
    return true;
  }

  static handle cast(const acon_mm::Parameter& p, return_value_policy policy, handle parent) {
    return p.tensor.defined() ? make_caster<at::Tensor>::cast(p.tensor, policy, parent)
                              : make_caster<double>::cast(p.number, policy, parent);
  }
};

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.attr("torch_version") = TORCH_VERSION;
  m.attr("interface") = 6;  // see cpu_kernel.py
  m.def("forward", &acon_mm::forward, py::call_guard<py::gil_scoped_release>());
  m.def("backward", &acon_mm::backward, py::call_guard<py::gil_scoped_release>());
  m.def("apply", &acon_mm::apply, py::call_guard<py::gil_scoped_release>());
  m.def("set_differentiable_gradients", [](py::function function) {
    acon_mm::differentiable_gradients() = [kept = function.release()](const auto&... args) {
      py::gil_scoped_acquire gil;
      // None, for a number, is what pybind11 turns into no tensor but an optional one.
      using Optional = std::optional<at::Tensor>;
      const auto [dx, dp1, dp2, dbeta] =
          kept(args...).template cast<std::tuple<Optional, Optional, Optional, Optional>>();
      const at::Tensor none;
      return std::tuple{
          dx.value_or(none), dp1.value_or(none), dp2.value_or(none), dbeta.value_or(none)};
    };
  });
  m.def("norm_act_forward", &acon_mm::norm_act_forward, py::call_guard<py::gil_scoped_release>());
  m.def("norm_act_backward", &acon_mm::norm_act_backward, py::call_guard<py::gil_scoped_release>());
}
