#include "arguments.h"

#include <cstring>
#include <utility>

namespace nb = nanobind;

namespace fastserve {
namespace {

using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::runtime::EValue;
using executorch::runtime::Method;

// Delegates may read this far past the end of an input, as XNNPACK documents. A buffer whose end is nearer to the end
// of its page is copied, because the next page may not be there.
constexpr size_t kReadPastEnd = 128;
constexpr size_t kSmallestPage = 4096;

std::string wanted_text(const ValueInfo& info) {
  if (info.dynamism == Dynamism::kUnbounded) {
    return dtype_name(info.dtype) + " of rank " + std::to_string(info.sizes.size());
  }
  return dtype_name(info.dtype) + " " + (info.dynamism == Dynamism::kBounded ? "of at most " : "") +
         shape_text(info.sizes);
}

bool shape_fits(const ValueInfo& info, const std::vector<int32_t>& sizes) {
  if (sizes.size() != info.sizes.size()) {
    return false;
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    const bool fits = info.dynamism == Dynamism::kStatic    ? sizes[i] == info.sizes[i]
                      : info.dynamism == Dynamism::kBounded ? sizes[i] <= info.sizes[i]
                                                            : true;
    if (!fits) {
      return false;
    }
  }
  return true;
}

void check_tensor(const ValueInfo& info, const BufferView& view, const std::string& label) {
  if (view.dtype() != info.dtype || !shape_fits(info, view.sizes())) {
    raise_value_error(label + ": wanted " + wanted_text(info) + ", got " + dtype_name(view.dtype()) + " " +
                      shape_text(view.sizes()));
  }
}

std::string label_of(const MethodInfo& method, const char* what, size_t index) {
  return std::string(what) + " " + std::to_string(index) + " of method '" + method.name + "'";
}

bool ends_near_page_end(const std::byte* begin, size_t bytes) {
  const size_t end = (reinterpret_cast<uintptr_t>(begin) + bytes) % kSmallestPage;
  return end == 0 || end > kSmallestPage - kReadPastEnd;
}

[[noreturn]] void raise_wrong_kind(const ValueInfo& info, nb::handle value, const std::string& label) {
  raise_value_error(label + ": wanted a value of kind " + kind_name(info.kind) + ", got " +
                    nb::type_name(value.type()).c_str());
}

// A value that is not a tensor, from a Python number or an array of no dimensions.
EValue plain_value(const ValueInfo& info, nb::handle value, const std::string& label) {
  if (info.kind == Kind::kNone) {
    if (!value.is_none()) {
      raise_wrong_kind(info, value, label);
    }
    return EValue();
  }
  nb::object number = nb::borrow(value);
  if (nb::hasattr(value, "item")) {
    number = value.attr("item")();
  }
  const bool is_bool = PyBool_Check(number.ptr());
  if (info.kind == Kind::kBool && is_bool) {
    return EValue(nb::cast<bool>(number));
  }
  if (info.kind == Kind::kInt && !is_bool && PyLong_Check(number.ptr())) {
    return EValue(nb::cast<int64_t>(number));
  }
  if (info.kind == Kind::kFloat && !is_bool && (PyFloat_Check(number.ptr()) || PyLong_Check(number.ptr()))) {
    return EValue(nb::cast<double>(number));
  }
  raise_wrong_kind(info, value, label);
}

template <typename T>
nb::object scalar_result(T value, ScalarType type) {
  std::byte* data = nullptr;
  nb::object array = new_array({}, {}, type, data);
  std::memcpy(data, &value, sizeof(T));
  return array;
}

}  // namespace

Inputs::Inputs(const MethodInfo& method, nb::sequence values) {
  const size_t count = nb::len(values);
  if (count != method.inputs.size()) {
    raise_value_error("method '" + method.name + "' wants " + std::to_string(method.inputs.size()) + " inputs, got " +
                      std::to_string(count));
  }
  arguments_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const ValueInfo& info = method.inputs[i];
    const nb::object value = values[i];
    const std::string label = label_of(method, "input", i);
    if (info.kind != Kind::kTensor) {
      arguments_.push_back({&info, {}, {}, {}, {}, {}, nullptr, plain_value(info, value, label)});
      continue;
    }
    if (!numpy_has(info.dtype)) {
      raise_value_error(label + " is " + dtype_name(info.dtype) + ", which numpy has not");
    }
    BufferView view = BufferView::of(value, false, label);
    check_tensor(info, view, label);
    arguments_.push_back({&info, std::move(view), {}, {}, {}, {}, nullptr, {}});
  }
}

void Inputs::place(Argument& argument) {
  const ValueInfo& info = *argument.info;
  const BufferView& view = argument.view;
  const size_t item = item_size(info.dtype);
  argument.sizes = view.sizes();
  argument.dim_order = info.dim_order;
  const auto strides = dense_strides(argument.sizes, argument.dim_order, item);
  for (const ptrdiff_t stride : strides) {
    argument.strides.push_back(static_cast<int32_t>(stride / static_cast<ptrdiff_t>(item)));
  }
  std::byte* data = view.data();
  const size_t bytes = element_count(argument.sizes) * item;
  const bool borrowed = !info.planned;  // planned inputs are copied by ExecuTorch itself
  if (!view.is_dense(info.dim_order) || (borrowed && ends_near_page_end(data, bytes))) {
    argument.copy.resize(bytes + kReadPastEnd);
    copy_elements(argument.copy.data(), strides, data, view.strides(), argument.sizes, item);
    data = argument.copy.data();
  }
  argument.tensor =
      std::make_unique<TensorImpl>(info.dtype, static_cast<ssize_t>(argument.sizes.size()), argument.sizes.data(), data,
                                   argument.dim_order.data(), argument.strides.data());
  argument.value = EValue(Tensor(argument.tensor.get()));
}

Error Inputs::set(Method& method) {
  for (size_t i = 0; i < arguments_.size(); ++i) {
    if (arguments_[i].info->kind == Kind::kTensor) {
      place(arguments_[i]);
    }
    const Error error = method.set_input(arguments_[i].value, i);
    if (error != Error::Ok) {
      return error;
    }
  }
  return Error::Ok;
}

bool Inputs::overlap(const std::byte* begin, size_t bytes) const {
  for (const Argument& argument : arguments_) {
    if (argument.info->kind == Kind::kTensor && argument.view.overlaps(begin, bytes)) {
      return true;
    }
  }
  return false;
}

bool Inputs::has_value(int32_t value) const {
  for (const Argument& argument : arguments_) {
    if (argument.info->value == value) {
      return true;
    }
  }
  return false;
}

Outputs::Outputs(const MethodInfo& method, nb::object arrays, const Inputs& inputs) {
  const size_t count = method.outputs.size();
  if (!arrays.is_none() && nb::len(arrays) != count) {
    raise_value_error("method '" + method.name + "' has " + std::to_string(count) + " outputs, got buffers for " +
                      std::to_string(nb::len(arrays)));
  }
  slots_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    Slot& slot = slots_[i];
    slot.info = &method.outputs[i];
    slot.label = label_of(method, "output", i);
    const ValueInfo& info = *slot.info;
    const bool is_tensor = info.kind == Kind::kTensor;
    if (is_tensor && !numpy_has(info.dtype)) {
      raise_value_error(slot.label + " is " + dtype_name(info.dtype) + ", which numpy has not");
    }
    if (!arrays.is_none()) {
      if (!is_tensor) {
        raise_value_error(slot.label + " is of kind " + kind_name(info.kind) + " and cannot go to a buffer");
      }
      slot.array = arrays[i];
      slot.from_caller = true;
      slot.view = BufferView::of(slot.array, true, slot.label);
      check_tensor(info, slot.view, slot.label);
    }
    if (!is_tensor || info.planned || info.dynamism == Dynamism::kUnbounded || inputs.has_value(info.value)) {
      continue;
    }
    slot.in_place_bytes = element_count(info.sizes) * item_size(info.dtype);
    if (!slot.from_caller) {
      slot.array = new_array(info.sizes, info.dim_order, info.dtype, slot.in_place);
    } else if (slot.view.sizes() == info.sizes && slot.view.is_dense(info.dim_order) &&
               !inputs.overlap(slot.view.data(), slot.in_place_bytes)) {
      slot.in_place = slot.view.data();
    } else {
      slot.scratch = new_array(info.sizes, info.dim_order, info.dtype, slot.in_place);
    }
  }
}

Error Outputs::bind(Method& method) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.in_place == nullptr || slot.in_place_bytes == 0) {
      continue;
    }
    const Error error = method.set_output_data_ptr(slot.in_place, slot.in_place_bytes, i);
    if (error != Error::Ok) {
      return error;
    }
  }
  return Error::Ok;
}

nb::object Outputs::tensor_result(Slot& slot, const Tensor& tensor) {
  const std::vector<int32_t> sizes(tensor.sizes().begin(), tensor.sizes().end());
  const std::vector<uint8_t> order(tensor.dim_order().begin(), tensor.dim_order().end());
  const ScalarType type = tensor.scalar_type();
  const size_t item = item_size(type);
  const auto* data = static_cast<const std::byte*>(tensor.const_data_ptr());
  const bool here = data != nullptr && data == slot.in_place;
  if (slot.from_caller) {
    if (sizes != slot.view.sizes() || type != slot.view.dtype()) {
      raise_value_error(slot.label + ": this run gives " + dtype_name(type) + " " + shape_text(sizes) +
                        ", the buffer is " + dtype_name(slot.view.dtype()) + " " + shape_text(slot.view.sizes()));
    }
    if (here && slot.in_place == slot.view.data()) {
      return slot.array;
    }
  } else if (here && sizes == slot.info->sizes) {
    return slot.array;
  }
  if (data == nullptr && element_count(sizes) > 0) {
    raise_invalid_program("run", slot.label + " has no data");
  }
  const auto from = dense_strides(sizes, order, item);
  if (slot.from_caller) {
    copy_elements(slot.view.data(), slot.view.strides(), data, from, sizes, item);
    return slot.array;
  }
  std::byte* to = nullptr;
  nb::object array = new_array(sizes, order, type, to);
  copy_elements(to, from, data, from, sizes, item);
  return array;
}

nb::list Outputs::collect(const Method& method) {
  nb::list results;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const EValue& value = method.get_output(i);
    if (value.isTensor()) {
      results.append(tensor_result(slots_[i], value.toTensor()));
    } else if (value.isInt()) {
      results.append(scalar_result(value.toInt(), ScalarType::Long));
    } else if (value.isDouble()) {
      results.append(scalar_result(value.toDouble(), ScalarType::Double));
    } else if (value.isBool()) {
      results.append(scalar_result(value.toBool(), ScalarType::Bool));
    } else if (value.isNone()) {
      results.append(nb::none());
    } else {
      raise_value_error(slots_[i].label + " is of kind " + kind_name(slots_[i].info->kind) +
                        ", which has no array form");
    }
  }
  return results;
}

}  // namespace fastserve
