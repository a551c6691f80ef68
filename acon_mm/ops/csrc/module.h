// The Python module of one instruction set.
//
// Each set has a module of its own: with all of them in one, the linker would keep a single copy
// of an inline function of the standard library, perhaps one that the CPU cannot run.

#include "acon.h"
#include "norm_act.h"

#include <pybind11/functional.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/version.h>

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.attr("torch_version") = TORCH_VERSION;
  m.attr("interface") = 8;  // see cpu_kernel.py
  m.def("forward", &acon_mm::forward, py::call_guard<py::gil_scoped_release>());
  m.def("backward", &acon_mm::backward, py::call_guard<py::gil_scoped_release>());
  m.def("norm_act_forward", &acon_mm::norm_act_forward, py::call_guard<py::gil_scoped_release>());
  m.def("norm_act_backward", &acon_mm::norm_act_backward, py::call_guard<py::gil_scoped_release>());
}
