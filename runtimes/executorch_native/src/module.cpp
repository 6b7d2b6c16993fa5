// The Python module.
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/kernel/operator_registry.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "errors.h"
#include "log.h"
#include "operators.h"
#include "program.h"
#include "tensors.h"
#include "threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace fastserve {
namespace {

nb::object value_object(const ValueInfo& info, nb::handle type) {
  nb::list sizes;
  nb::list order;
  for (const int32_t size : info.sizes) {
    sizes.append(size);
  }
  for (const uint8_t dim : info.dim_order) {
    order.append(static_cast<int>(dim));
  }
  nb::object dtype = nb::none();
  if (info.kind == Kind::kTensor) {
    dtype = nb::cast(dtype_name(info.dtype));
  }
  return type(info.index, kind_name(info.kind), dtype, nb::tuple(sizes), dynamism_name(info.dynamism), nb::tuple(order),
              info.planned, info.name);
}

nb::object values_object(const std::vector<ValueInfo>& infos, nb::handle type) {
  nb::list values;
  for (const ValueInfo& info : infos) {
    values.append(value_object(info, type));
  }
  return nb::tuple(values);
}

nb::object names_object(const std::vector<std::string>& names) { return nb::tuple(nb::cast(names)); }

nb::dict methods_object(const Program& program) {
  nb::module_ types = nb::module_::import_("fastserve_executorch._types");
  nb::object value_type = types.attr("ValueInfo");
  nb::dict methods;
  for (const MethodInfo& info : program.methods()) {
    size_t instructions = 0;
    std::map<std::string, size_t> counted;
    for (const auto& chain : info.chains) {
      instructions += chain.size();
      for (const Instruction& instruction : chain) {
        const std::string& called = instruction.op.empty() ? instruction.backend : instruction.op;
        if (!called.empty()) {
          ++counted[called];
        }
      }
    }
    nb::dict calls;
    for (const auto& [called, count] : counted) {
      calls[called.c_str()] = count;
    }
    methods[info.name.c_str()] = types.attr("MethodInfo")(
        info.name, values_object(info.inputs, value_type), values_object(info.outputs, value_type),
        names_object(info.backends), names_object(info.operators), calls, instructions, info.planned_bytes());
  }
  return methods;
}

std::vector<std::string> available_backends() {
  std::vector<std::string> names;
  for (size_t i = 0; i < executorch::runtime::get_num_registered_backends(); ++i) {
    const auto name = executorch::runtime::get_backend_name(i);
    if (!name.ok()) {
      continue;
    }
    const auto* backend = executorch::runtime::get_backend_class(*name);
    if (backend != nullptr && backend->is_available()) {
      names.emplace_back(*name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> available_operators() {
  std::set<std::string> names;
  for (const auto& kernel : executorch::runtime::get_registered_kernels()) {
    names.insert(kernel.name_);
  }
  for (const auto& kernel : own_kernels()) {
    names.insert(kernel.name_);
  }
  return {names.begin(), names.end()};
}

size_t get_threads() {
  size_t count = 0;
  check(guarded_without_gil([&] {
          count = threads::count();
          return Error::Ok;
        }),
        "starting the pool of threads");
  return count;
}

void set_threads(int count) {
  if (count < 1) {
    raise_value_error("threads must be at least 1, got " + std::to_string(count));
  }
  bool resized = false;
  check(guarded_without_gil([&] {
          resized = threads::resize(static_cast<size_t>(count));
          return Error::Ok;
        }),
        "changing the pool of threads");
  if (!resized) {
    raise_busy("the pool of threads is in use by loaded programs; close them first");
  }
}

}  // namespace
}  // namespace fastserve

NB_MODULE(_native, m) {
  using fastserve::Program;
  fastserve::install_platform_hooks();

  m.attr("__version__") = FASTSERVE_VERSION;
  m.attr("__executorch_version__") = FASTSERVE_EXECUTORCH_VERSION;

  nb::class_<Program>(m, "Program", "An ExecuTorch program (.pte), verified when opened.")
      .def(nb::init<nb::object, std::optional<int>, bool, bool>(), "source"_a, nb::kw_only(), "threads"_a = nb::none(),
           "trace"_a = false, "intermediates"_a = false)
      .def_prop_ro("methods", &fastserve::methods_object,
                   "The methods by name: inputs, outputs, backends and operators, without loading them.")
      .def_prop_ro("threads", &Program::threads, "What the program was opened with.")
      .def_prop_ro("closed", &Program::closed, "Whether close() has been called.")
      .def("load", &Program::load, "method"_a = nb::none(), "Loads a method, or all of them, ahead of its first run.")
      .def("run", &Program::run, "method"_a, "inputs"_a, "outputs"_a = nb::none(),
           "Runs a method and returns its outputs.")
      .def("reset", &Program::reset, "method"_a = nb::none(),
           "Loads a method, or all loaded ones, anew: mutable buffers start afresh.")
      .def("close", &Program::close, "Frees all memory; the program cannot run any more.")
      .def("profile", &Program::profile, "What the last run did, for how long.")
      .def("intermediates", &Program::intermediates, "The values that the operators of the last run wrote.")
      .def("__enter__", [](nb::handle self) { return nb::borrow(self); })
      .def("__exit__", [](Program& self, nb::args) { self.close(); });

  m.def("available_backends", &fastserve::available_backends, "The delegates that can be used, by name.");
  m.def("available_operators", &fastserve::available_operators, "The operators that have kernels, by name.");
  m.def("get_threads", &fastserve::get_threads, "The size of the pool of threads that all programs share.");
  m.def("set_threads", &fastserve::set_threads, "count"_a,
        "Changes the size of the pool; refused while a program has methods loaded.");
}
