// Numpy arrays in and out: views of callers' buffers, new arrays, and copies between layouts.
#pragma once

#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fastserve {

using executorch::aten::ScalarType;

// Numpy's name of a type ("float32"), or ExecuTorch's where numpy has none ("bfloat16").
std::string dtype_name(ScalarType type);
bool numpy_has(ScalarType type);
size_t item_size(ScalarType type);

// A shape as Python writes it in a list: [1, 64].
std::string shape_text(const std::vector<int32_t>& shape);

// Strides in bytes of a dense tensor whose dimensions lie in memory in this order, outermost first.
std::vector<ptrdiff_t> dense_strides(const std::vector<int32_t>& sizes, const std::vector<uint8_t>& order, size_t item);

size_t element_count(const std::vector<int32_t>& sizes);

// Copies every element of one layout to another. Needs no GIL.
void copy_elements(std::byte* to, const std::vector<ptrdiff_t>& to_strides, const std::byte* from,
                   const std::vector<ptrdiff_t>& from_strides, const std::vector<int32_t>& sizes, size_t item);

// A held view of an object's buffer. Made and destroyed with the GIL.
class BufferView {
 public:
  BufferView() = default;
  ~BufferView();
  BufferView(BufferView&& other) noexcept;
  BufferView& operator=(BufferView&& other) noexcept;
  BufferView(const BufferView&) = delete;
  BufferView& operator=(const BufferView&) = delete;

  // Raises ValueError, beginning with `what`, unless the object has a buffer of a type that ExecuTorch has.
  static BufferView of(nanobind::handle object, bool writable, const std::string& what);

  std::byte* data() const { return static_cast<std::byte*>(view_.buf); }
  ScalarType dtype() const { return dtype_; }
  const std::vector<int32_t>& sizes() const { return sizes_; }
  const std::vector<ptrdiff_t>& strides() const { return strides_; }

  // Whether the elements lie dense in this order and aligned, so that the memory can be used as it is.
  bool is_dense(const std::vector<uint8_t>& order) const;
  bool overlaps(const std::byte* begin, size_t bytes) const;

 private:
  Py_buffer view_{};
  bool held_ = false;
  ScalarType dtype_ = ScalarType::Undefined;
  std::vector<int32_t> sizes_;
  std::vector<ptrdiff_t> strides_;
};

// A new numpy array whose memory is dense in this order; `data` is set to its first element.
nanobind::object new_array(const std::vector<int32_t>& sizes, const std::vector<uint8_t>& order, ScalarType type,
                           std::byte*& data);

}  // namespace fastserve
