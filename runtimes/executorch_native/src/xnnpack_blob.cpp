#include "xnnpack_blob.h"

#include <cstring>

namespace fastserve {
namespace {

// Field numbers and union members of the delegate's runtime_schema.fbs.
constexpr uint16_t kGraphValues = 2, kGraphBuffers = 6, kGraphConstants = 8;
constexpr uint16_t kTensorType = 0, kTensorRank = 1, kTensorDims = 2, kTensorBuffer = 3;
constexpr uint8_t kPlainTensor = 1, kQuantizedTensor = 2;
constexpr uint8_t kPerChannel = 1, kPerChannelGroup = 4;
constexpr uint32_t kMostDims = 6;
constexpr uint64_t kMostBytes = uint64_t{1} << 32;  // of one tensor between operators; more is damage

struct Damaged {};

// Reads a flatbuffer that nothing has verified: whatever lies outside throws Damaged.
class Reader {
 public:
  Reader(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  template <typename T>
  T read(size_t at) const {
    if (at > size_ || size_ - at < sizeof(T)) {
      throw Damaged{};
    }
    T value;
    std::memcpy(&value, data_ + at, sizeof(T));
    return value;
  }

  size_t follow(size_t at) const { return at + read<uint32_t>(at); }

  // Where a table's field lies, or 0.
  size_t field(size_t table, uint16_t number) const {
    const auto back = read<int32_t>(table);
    const auto vtable = static_cast<size_t>(static_cast<int64_t>(table) - back);
    const size_t entry = 4 + size_t{number} * 2;
    if (entry + 2 > read<uint16_t>(vtable)) {
      return 0;
    }
    const auto offset = read<uint16_t>(vtable + entry);
    return offset == 0 ? 0 : table + offset;
  }

  template <typename T>
  T scalar(size_t table, uint16_t number, T absent) const {
    const size_t at = field(table, number);
    return at == 0 ? absent : read<T>(at);
  }

  // Where a field's table, vector or string lies, or 0.
  size_t target(size_t table, uint16_t number) const {
    const size_t at = field(table, number);
    return at == 0 ? 0 : follow(at);
  }

  // The size of a vector or string whose elements have this many bytes.
  uint32_t count(size_t vector, size_t item) const {
    if (vector == 0) {
      return 0;
    }
    const auto size = read<uint32_t>(vector);
    if (uint64_t{size} * item > size_ - vector - 4) {
      throw Damaged{};
    }
    return size;
  }

  size_t element(size_t vector, uint32_t index) const { return follow(vector + 4 + size_t{index} * 4); }

  std::string text(size_t string) const {
    const uint32_t size = count(string, 1);
    return size == 0 ? std::string() : std::string(reinterpret_cast<const char*>(data_ + string + 4), size);
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

unsigned bits_of(int16_t type) {
  switch (type) {
    case 1:   // fp32
    case 5:   // qint32
    case 7:   // qcint32
    case 12:  // int32
      return 32;
    case 2:   // fp16
    case 14:  // bf16
      return 16;
    case 8:   // qcint4
    case 10:  // qbint4
      return 4;
    default:
      return 8;
  }
}

class Graph {
 public:
  Graph(Reader reader, const std::map<std::string, uint64_t>& named)
      : reader_(reader),
        named_(named),
        root_(reader.follow(0)),
        buffers_(reader.target(root_, kGraphBuffers)),
        constants_(reader.target(root_, kGraphConstants)) {}

  bool constants_fit() const {
    const size_t values = reader_.target(root_, kGraphValues);
    for (uint32_t i = 0; i < reader_.count(values, 4); ++i) {
      const size_t value = reader_.element(values, i);
      const auto type = reader_.scalar<uint8_t>(value, 0, 0);
      const size_t content = reader_.target(value, 1);
      if (content == 0 || (type != kPlainTensor && type != kQuantizedTensor)) {
        return false;
      }
      const size_t tensor = type == kPlainTensor ? content : reader_.target(content, 0);
      if (tensor == 0 || !tensor_fits(tensor) || (type == kQuantizedTensor && !scales_fit(content))) {
        return false;
      }
    }
    return true;
  }

 private:
  bool tensor_fits(size_t tensor) const {
    const size_t dims = reader_.target(tensor, kTensorDims);
    const uint32_t rank = reader_.count(dims, 4);
    if (rank > kMostDims || rank != reader_.scalar<uint32_t>(tensor, kTensorRank, 0)) {
      return false;
    }
    uint64_t bits = bits_of(reader_.scalar<int16_t>(tensor, kTensorType, 0));
    for (uint32_t i = 0; i < rank; ++i) {
      if (__builtin_mul_overflow(bits, uint64_t{reader_.read<uint32_t>(dims + 4 + size_t{i} * 4)}, &bits)) {
        return false;
      }
    }
    const auto buffer = reader_.scalar<uint32_t>(tensor, kTensorBuffer, 0);
    return bits / 8 <= (buffer == 0 ? kMostBytes : available(buffer));
  }

  bool scales_fit(size_t quantized) const {
    const auto type = reader_.scalar<uint8_t>(quantized, 1, 0);
    const size_t parameters = reader_.target(quantized, 2);
    if (parameters == 0 || (type != kPerChannel && type != kPerChannelGroup)) {
      return true;
    }
    const uint16_t first = type == kPerChannel ? 2 : 4;  // scale_buffer_idx; num_scales follows it
    const auto buffer = reader_.scalar<uint32_t>(parameters, first, 0);
    const uint64_t scales = reader_.scalar<uint32_t>(parameters, static_cast<uint16_t>(first + 1), 0);
    return buffer == 0 || scales * (type == kPerChannel ? 4 : 2) <= available(buffer);
  }

  // The bytes of a constant. Whether they lie inside the blob is checked by the delegate.
  uint64_t available(uint32_t index) const {
    if (index < reader_.count(constants_, 4)) {
      const size_t constant = reader_.element(constants_, index);
      const std::string key = reader_.text(reader_.target(constant, 2));
      if (key.empty()) {
        return reader_.scalar<uint64_t>(constant, 1, 0);
      }
      const auto found = named_.find(key);
      return found == named_.end() ? UINT64_MAX : found->second;  // the delegate reports missing data better
    }
    if (index < reader_.count(buffers_, 4)) {
      return reader_.count(reader_.target(reader_.element(buffers_, index), 0), 1);
    }
    return UINT64_MAX;  // likewise
  }

  Reader reader_;
  const std::map<std::string, uint64_t>& named_;
  size_t root_;
  size_t buffers_;
  size_t constants_;
};

}  // namespace

bool xnnpack_constants_fit(const uint8_t* blob, size_t bytes, const std::map<std::string, uint64_t>& named) {
  try {
    const Reader all(blob, bytes);
    size_t start = 0;
    size_t size = bytes;
    if (bytes >= 30 && std::memcmp(blob + 4, "XH00", 4) == 0) {
      start = all.read<uint32_t>(10);
      size = all.read<uint32_t>(14);
      if (start > bytes || size > bytes - start) {
        return false;
      }
    }
    return Graph(Reader(blob + start, size), named).constants_fit();
  } catch (const Damaged&) {
    return false;
  }
}

}  // namespace fastserve
