#include "xnnpack_blob.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

namespace fastserve {
namespace {

// Field numbers and union members of the delegate's runtime_schema.fbs.
constexpr uint16_t kGraphNodes = 1, kGraphValues = 2, kGraphInputs = 4, kGraphOutputs = 5, kGraphBuffers = 6, kGraphConstants = 8;
constexpr uint16_t kTensorType = 0, kTensorRank = 1, kTensorDims = 2, kTensorBuffer = 3, kTensorFlags = 5,
                   kTensorId = 6;
constexpr uint32_t kExternalInput = 1;          // a flag of a tensor
constexpr uint32_t kNoValue = UINT32_MAX;       // the id of a bias that is not there
constexpr uint16_t kNodeType = 0, kNodeContent = 1, kNodeRange = 3;
constexpr uint8_t kTranspose = 5, kPad = 10, kReshape = 20, kSlice = 35;  // those whose tables have vectors
constexpr uint8_t kPlainTensor = 1, kQuantizedTensor = 2;
constexpr uint8_t kPerChannel = 1, kPerChannelGroup = 4;
constexpr uint32_t kMostDims = 6;
constexpr uint64_t kMostBytes = uint64_t{1} << 32;  // of one tensor between operators; more is damage

struct Damaged {};

// The fields of a node's table that hold the ids of the values that it reads and writes.
struct Ports {
  std::vector<uint16_t> inputs;
  std::vector<uint16_t> outputs;
  bool has_bias = false;  // the third input
};

// By the number of the union's member; those that are not here have one input and one output, fields 0 and 1.
const std::map<uint8_t, Ports>& special_ports() {
  static const Ports two{{0, 1}, {2}};
  static const Ports convolution{{15, 16, 17}, {18}, true};
  static const Ports pooling{{10}, {11}};
  static const std::map<uint8_t, Ports> ports = {
      {1, two},                             // add
      {2, {{0, 1, 2}, {3}, true}},          // fully connected
      {5, {{2}, {3}}},                      // transpose
      {7, convolution},                     // convolution
      {8, two},                             // divide
      {9, {{2}, {3}}},                      // resize bilinear
      {10, {{3}, {4}}},                     // pad
      {11, pooling},                        // average pooling
      {12, two},                            // minimum
      {13, convolution},                    // depthwise convolution
      {14, pooling},                        // max pooling
      {15, two},                            // multiply
      {16, two},                            // subtract
      {20, {{2}, {3}}},                     // reshape
      {21, {{6}, {7, 8}}},                  // arg max pooling
      {25, {{1}, {2}}},                     // leaky ReLU
      {26, two},                            // maximum
      {29, {{1}, {2}}},                     // ELU
      {31, two},                            // PReLU
      {32, {{1, 2}, {5}}},                  // concatenate
      {33, {{1, 2, 3}, {5}}},               // concatenate
      {34, {{1, 2, 3, 4}, {5}}},            // concatenate
      {35, {{3}, {4}}},                     // slice
      {36, {{0, 1, 2, 3, 4}, {5}}},         // scaled dot product attention
      {37, two},                            // matrix multiply
      {38, {{1, 2, 3, 4, 7}, {5}}},         // concatenate
      {39, convolution},                    // transposed convolution
  };
  return ports;
}
constexpr uint8_t kLastKnownNode = 47;

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

  // Whether a table and all its fields lie inside: the delegate reads them unchecked.
  bool has_whole_table(size_t table) const {
    const auto back = read<int32_t>(table);
    const auto vtable = static_cast<size_t>(static_cast<int64_t>(table) - back);
    const size_t entries = read<uint16_t>(vtable);
    const size_t bytes = read<uint16_t>(vtable + 2);
    if (entries < 4 || entries % 2 != 0 || bytes < 4 || entries > size_ - vtable || bytes > size_ - table) {
      return false;
    }
    for (size_t entry = 4; entry < entries; entry += 2) {
      const size_t offset = read<uint16_t>(vtable + entry);
      if (offset != 0 && (offset < 4 || offset >= bytes)) {
        return false;
      }
    }
    return true;
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

  bool nodes_are_whole() const {
    const size_t nodes = reader_.target(root_, kGraphNodes);
    for (uint32_t i = 0; i < reader_.count(nodes, 4); ++i) {
      const size_t node = reader_.element(nodes, i);
      if (!reader_.has_whole_table(node)) {
        return false;
      }
      const auto type = reader_.scalar<uint8_t>(node, kNodeType, 0);
      const size_t content = reader_.target(node, kNodeContent);
      const size_t range = reader_.target(node, kNodeRange);
      const bool whole = type != 0 && content != 0 && reader_.has_whole_table(content) &&
                         (range == 0 || reader_.has_whole_table(range)) && vectors_fit(type, content);
      if (!whole) {
        return false;
      }
    }
    return true;
  }

  // Whether every value is an input, a constant, or written once and before it is read, the outputs too: XNNPACK has
  // memory for no other.
  bool values_come_first() const {
    const std::set<uint32_t> constants = sources(/*constants_only=*/true);
    std::set<uint32_t> present = sources(/*constants_only=*/false);
    const size_t nodes = reader_.target(root_, kGraphNodes);
    for (uint32_t i = 0; i < reader_.count(nodes, 4); ++i) {
      const size_t node = reader_.element(nodes, i);
      const auto type = reader_.scalar<uint8_t>(node, kNodeType, 0);
      if (type > kLastKnownNode) {
        return true;  // of a later ExecuTorch: the delegate refuses it
      }
      const size_t content = reader_.target(node, kNodeContent);
      static const Ports one{{0}, {1}};
      const auto special = special_ports().find(type);
      const Ports& ports = special == special_ports().end() ? one : special->second;
      for (const uint16_t field : ports.inputs) {
        const auto id = reader_.scalar<uint32_t>(content, field, 0);
        if (id != kNoValue && present.count(id) == 0) {
          return false;
        }
      }
      if (ports.has_bias) {
        // XNNPACK packs a constant filter together with its bias.
        const auto filter = reader_.scalar<uint32_t>(content, ports.inputs[1], 0);
        const auto bias = reader_.scalar<uint32_t>(content, ports.inputs[2], 0);
        if (bias != kNoValue && constants.count(filter) != 0 && constants.count(bias) == 0) {
          return false;
        }
      }
      for (const uint16_t field : ports.outputs) {
        if (!present.insert(reader_.scalar<uint32_t>(content, field, 0)).second) {
          return false;
        }
      }
    }
    const std::vector<uint32_t> outputs = ids(kGraphOutputs);
    return std::all_of(outputs.begin(), outputs.end(), [&](uint32_t id) { return present.count(id) != 0; });
  }

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
  std::vector<uint32_t> ids(uint16_t number) const {
    std::vector<uint32_t> found;
    const size_t vector = reader_.target(root_, number);
    for (uint32_t i = 0; i < reader_.count(vector, 4); ++i) {
      found.push_back(reader_.read<uint32_t>(vector + 4 + size_t{i} * 4));
    }
    return found;
  }

  std::set<uint32_t> sources(bool constants_only) const {
    std::set<uint32_t> found;
    if (!constants_only) {
      const std::vector<uint32_t> inputs = ids(kGraphInputs);
      found.insert(inputs.begin(), inputs.end());
    }
    const size_t values = reader_.target(root_, kGraphValues);
    for (uint32_t i = 0; i < reader_.count(values, 4); ++i) {
      const size_t value = reader_.element(values, i);
      const size_t content = reader_.target(value, 1);
      const bool plain = reader_.scalar<uint8_t>(value, 0, 0) == kPlainTensor;
      const size_t tensor = plain ? content : reader_.target(content, 0);
      const bool given = !constants_only && (reader_.scalar<uint32_t>(tensor, kTensorFlags, 0) & kExternalInput) != 0;
      if (given || reader_.scalar<uint32_t>(tensor, kTensorBuffer, 0) != 0) {
        found.insert(reader_.scalar<uint32_t>(tensor, kTensorId, 0));
      }
    }
    return found;
  }

  // A vector must be there, and as long as the number of dimensions beside it says.
  bool vectors_fit(uint8_t type, size_t content) const {
    if (type == kPad) {
      return reader_.count(reader_.target(content, 0), 4) == reader_.count(reader_.target(content, 1), 4) &&
             reader_.target(content, 0) != 0 && reader_.target(content, 1) != 0;
    }
    if (type != kTranspose && type != kReshape && type != kSlice) {
      return true;
    }
    const auto dims = reader_.scalar<uint32_t>(content, 0, 0);
    const uint16_t last = type == kSlice ? 2 : 1;
    for (uint16_t number = 1; number <= last; ++number) {
      const size_t vector = reader_.target(content, number);
      if (dims > kMostDims || (vector == 0 && dims != 0) || reader_.count(vector, 4) < dims) {
        return false;
      }
    }
    return true;
  }

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
      return found == named_.end() ? 0 : found->second;
    }
    if (index < reader_.count(buffers_, 4)) {
      return reader_.count(reader_.target(reader_.element(buffers_, index), 0), 1);
    }
    return 0;
  }

  Reader reader_;
  const std::map<std::string, uint64_t>& named_;
  size_t root_;
  size_t buffers_;
  size_t constants_;
};

}  // namespace

bool xnnpack_graph_is_sound(const uint8_t* blob, size_t bytes, const std::map<std::string, uint64_t>& named) {
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
    const Graph graph(Reader(blob + start, size), named);
    return graph.nodes_are_whole() && graph.constants_fit() && graph.values_come_first();
  } catch (const Damaged&) {
    return false;
  }
}

}  // namespace fastserve
