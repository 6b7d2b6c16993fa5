// The inputs and outputs of one run: checked, then bound to the method without copies where possible.
#pragma once

#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/executor/method.h>
#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "errors.h"
#include "schema.h"
#include "tensors.h"

namespace fastserve {

class Inputs {
 public:
  // Raises ValueError unless the values fit the method.
  Inputs(const MethodInfo& method, nanobind::sequence values);

  // Copies what cannot be used in place, and sets the method's inputs. Without the GIL.
  Error set(executorch::runtime::Method& method);

  bool overlap(const std::byte* begin, size_t bytes) const;
  bool has_value(int32_t value) const;  // whether a method's value is one of the inputs

 private:
  struct Argument {
    const ValueInfo* info;
    BufferView view;
    std::vector<std::byte> copy;
    std::vector<int32_t> sizes;
    std::vector<uint8_t> dim_order;
    std::vector<int32_t> strides;  // in elements
    std::unique_ptr<executorch::aten::TensorImpl> tensor;
    executorch::runtime::EValue value;
  };

  static void place(Argument& argument);

  std::vector<Argument> arguments_;
};

class Outputs {
 public:
  // Raises ValueError unless the arrays (None: make new ones) fit the method.
  Outputs(const MethodInfo& method, nanobind::object arrays, const Inputs& inputs);

  // Lets the method write where the results go, as far as it has no memory of its own for them. Without the GIL.
  Error bind(executorch::runtime::Method& method);

  // The results, after a run.
  nanobind::list collect(const executorch::runtime::Method& method);

 private:
  struct Slot {
    const ValueInfo* info;
    std::string label;
    nanobind::object array;  // the caller's, or one made to be written in place
    bool from_caller = false;
    nanobind::object scratch;       // written in place, where the caller's array cannot be
    BufferView view;                // of the caller's array
    std::byte* in_place = nullptr;  // where the method writes
    size_t in_place_bytes = 0;
  };

  static nanobind::object tensor_result(Slot& slot, const executorch::aten::Tensor& tensor);

  std::vector<Slot> slots_;
};

}  // namespace fastserve
