#include "tensors.h"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "errors.h"

namespace nb = nanobind;

namespace fastserve {
namespace {

struct TypeEntry {
  ScalarType type;
  const char* name;
  size_t size;
  bool in_numpy;
};

constexpr TypeEntry kTypes[] = {
    {ScalarType::Byte, "uint8", 1, true},
    {ScalarType::Char, "int8", 1, true},
    {ScalarType::Short, "int16", 2, true},
    {ScalarType::Int, "int32", 4, true},
    {ScalarType::Long, "int64", 8, true},
    {ScalarType::Half, "float16", 2, true},
    {ScalarType::Float, "float32", 4, true},
    {ScalarType::Double, "float64", 8, true},
    {ScalarType::ComplexFloat, "complex64", 8, true},
    {ScalarType::ComplexDouble, "complex128", 16, true},
    {ScalarType::Bool, "bool", 1, true},
    {ScalarType::UInt16, "uint16", 2, true},
    {ScalarType::UInt32, "uint32", 4, true},
    {ScalarType::UInt64, "uint64", 8, true},
    {ScalarType::BFloat16, "bfloat16", 2, false},
    {ScalarType::ComplexHalf, "complex32", 4, false},
    {ScalarType::QInt8, "qint8", 1, false},
    {ScalarType::QUInt8, "quint8", 1, false},
    {ScalarType::QInt32, "qint32", 4, false},
};

const TypeEntry* find_type(ScalarType type) {
  const auto* found =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeEntry& entry) { return entry.type == type; });
  return found == std::end(kTypes) ? nullptr : found;
}

ScalarType integer_type(bool is_signed, size_t size) {
  switch (size) {
    case 1:
      return is_signed ? ScalarType::Char : ScalarType::Byte;
    case 2:
      return is_signed ? ScalarType::Short : ScalarType::UInt16;
    case 4:
      return is_signed ? ScalarType::Int : ScalarType::UInt32;
    case 8:
      return is_signed ? ScalarType::Long : ScalarType::UInt64;
    default:
      return ScalarType::Undefined;
  }
}

// The type that a buffer's format (of Python's struct module) stands for.
ScalarType parse_format(const char* format, size_t size) {
  std::string code = format == nullptr ? "B" : format;
  if (!code.empty() && (code[0] == '@' || code[0] == '=' || code[0] == '<')) {
    code.erase(0, 1);
  }
  if (code == "Zf") {
    return ScalarType::ComplexFloat;
  }
  if (code == "Zd") {
    return ScalarType::ComplexDouble;
  }
  if (code.size() != 1) {
    return ScalarType::Undefined;
  }
  switch (code[0]) {
    case '?':
      return ScalarType::Bool;
    case 'e':
      return ScalarType::Half;
    case 'f':
      return ScalarType::Float;
    case 'd':
      return ScalarType::Double;
    case 'b':
    case 'h':
    case 'i':
    case 'l':
    case 'q':
      return integer_type(true, size);
    case 'B':
    case 'H':
    case 'I':
    case 'L':
    case 'Q':
      return integer_type(false, size);
    default:
      return ScalarType::Undefined;
  }
}

bool is_default_order(const std::vector<uint8_t>& order) { return std::is_sorted(order.begin(), order.end()); }

void copy_dimension(size_t dim, std::byte* to, const std::vector<ptrdiff_t>& to_strides, const std::byte* from,
                    const std::vector<ptrdiff_t>& from_strides, const std::vector<int32_t>& sizes, size_t item) {
  if (dim == sizes.size()) {
    std::memcpy(to, from, item);
    return;
  }
  const bool innermost = dim + 1 == sizes.size();
  const auto step = static_cast<ptrdiff_t>(item);
  if (innermost && to_strides[dim] == step && from_strides[dim] == step) {
    std::memcpy(to, from, static_cast<size_t>(sizes[dim]) * item);
    return;
  }
  for (int32_t i = 0; i < sizes[dim]; ++i) {
    copy_dimension(dim + 1, to + i * to_strides[dim], to_strides, from + i * from_strides[dim], from_strides, sizes,
                   item);
  }
}

nb::handle numpy_empty() {
  static PyObject* function = nb::object(nb::module_::import_("numpy").attr("empty")).release().ptr();
  return function;
}

nb::handle numpy_dtype(ScalarType type) {
  static PyObject* cache[static_cast<size_t>(ScalarType::NumOptions)] = {};
  PyObject*& found = cache[static_cast<size_t>(type)];
  if (found == nullptr) {
    found = nb::object(nb::module_::import_("numpy").attr("dtype")(dtype_name(type))).release().ptr();
  }
  return found;
}

nb::object tuple_of(const std::vector<int32_t>& values) {
  nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(values.size())));
  for (size_t i = 0; i < values.size(); ++i) {
    PyTuple_SetItem(tuple.ptr(), static_cast<Py_ssize_t>(i), PyLong_FromLong(values[i]));
  }
  return tuple;
}

}  // namespace

std::string dtype_name(ScalarType type) {
  const TypeEntry* entry = find_type(type);
  return entry == nullptr ? "type " + std::to_string(static_cast<int>(type)) : entry->name;
}

bool numpy_has(ScalarType type) {
  const TypeEntry* entry = find_type(type);
  return entry != nullptr && entry->in_numpy;
}

size_t item_size(ScalarType type) {
  const TypeEntry* entry = find_type(type);
  return entry == nullptr ? 0 : entry->size;
}

std::string shape_text(const std::vector<int32_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

std::vector<ptrdiff_t> dense_strides(const std::vector<int32_t>& sizes, const std::vector<uint8_t>& order,
                                     size_t item) {
  std::vector<ptrdiff_t> strides(sizes.size());
  auto step = static_cast<ptrdiff_t>(item);
  for (size_t i = order.size(); i-- > 0;) {
    strides[order[i]] = step;
    step *= std::max(sizes[order[i]], 1);
  }
  return strides;
}

size_t element_count(const std::vector<int32_t>& sizes) {
  size_t count = 1;
  for (const int32_t size : sizes) {
    count *= static_cast<size_t>(size);
  }
  return count;
}

void copy_elements(std::byte* to, const std::vector<ptrdiff_t>& to_strides, const std::byte* from,
                   const std::vector<ptrdiff_t>& from_strides, const std::vector<int32_t>& sizes, size_t item) {
  if (element_count(sizes) == 0) {
    return;
  }
  copy_dimension(0, to, to_strides, from, from_strides, sizes, item);
}

BufferView::~BufferView() {
  if (held_) {
    PyBuffer_Release(&view_);
  }
}

BufferView::BufferView(BufferView&& other) noexcept
    : view_(other.view_),
      held_(std::exchange(other.held_, false)),
      dtype_(other.dtype_),
      sizes_(std::move(other.sizes_)),
      strides_(std::move(other.strides_)) {}

BufferView& BufferView::operator=(BufferView&& other) noexcept {
  std::swap(view_, other.view_);
  std::swap(held_, other.held_);
  std::swap(dtype_, other.dtype_);
  std::swap(sizes_, other.sizes_);
  std::swap(strides_, other.strides_);
  return *this;
}

BufferView BufferView::of(nb::handle object, bool writable, const std::string& what) {
  BufferView result;
  const int flags = PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object.ptr(), &result.view_, flags) != 0) {
    PyErr_Clear();
    raise_value_error(what + ": not " + (writable ? "a writable" : "an") + " array of numbers (" +
                      nb::type_name(object.type()).c_str() + ")");
  }
  result.held_ = true;
  const Py_buffer& view = result.view_;
  result.dtype_ = parse_format(view.format, static_cast<size_t>(view.itemsize));
  if (result.dtype_ == ScalarType::Undefined) {
    raise_value_error(what + ": no such type of elements in ExecuTorch (format '" +
                      (view.format == nullptr ? "" : view.format) + "')");
  }
  for (int i = 0; i < view.ndim; ++i) {
    if (view.shape[i] > std::numeric_limits<int32_t>::max()) {
      raise_value_error(what + ": a dimension of " + std::to_string(view.shape[i]) + " is too large");
    }
    result.sizes_.push_back(static_cast<int32_t>(view.shape[i]));
    result.strides_.push_back(view.strides[i]);
  }
  return result;
}

bool BufferView::is_dense(const std::vector<uint8_t>& order) const {
  const auto item = static_cast<size_t>(view_.itemsize);
  if (reinterpret_cast<uintptr_t>(view_.buf) % std::min<size_t>(item, alignof(double)) != 0) {
    return false;
  }
  const auto wanted = dense_strides(sizes_, order, item);
  for (size_t i = 0; i < sizes_.size(); ++i) {
    if (sizes_[i] > 1 && strides_[i] != wanted[i]) {
      return false;
    }
  }
  return true;
}

bool BufferView::overlaps(const std::byte* begin, size_t bytes) const {
  const std::byte* low = data();
  const std::byte* high = data() + view_.itemsize;
  for (size_t i = 0; i < sizes_.size(); ++i) {
    if (sizes_[i] == 0) {
      return false;
    }
    const ptrdiff_t reach = strides_[i] * (sizes_[i] - 1);
    (reach < 0 ? low : high) += reach;
  }
  return low < begin + bytes && begin < high;
}

nb::object new_array(const std::vector<int32_t>& sizes, const std::vector<uint8_t>& order, ScalarType type,
                     std::byte*& data) {
  std::vector<int32_t> in_memory(sizes);
  if (!is_default_order(order)) {
    std::transform(order.begin(), order.end(), in_memory.begin(), [&](uint8_t dim) { return sizes[dim]; });
  }
  nb::object array = numpy_empty()(tuple_of(in_memory), numpy_dtype(type));
  Py_buffer view;
  if (PyObject_GetBuffer(array.ptr(), &view, PyBUF_STRIDES) != 0) {
    throw nb::python_error();
  }
  data = static_cast<std::byte*>(view.buf);
  PyBuffer_Release(&view);
  if (is_default_order(order)) {
    return array;
  }
  std::vector<int32_t> back(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    back[order[i]] = static_cast<int32_t>(i);
  }
  return array.attr("transpose")(tuple_of(back));
}

}  // namespace fastserve
