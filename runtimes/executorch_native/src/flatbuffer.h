// Just enough to read a flatbuffer that has been verified already: tables, vectors and strings by field number.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace fastserve::flatbuffer {

template <typename T>
T read(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

inline const uint8_t* follow(const uint8_t* at) { return at + read<uint32_t>(at); }

class Vector {
 public:
  explicit Vector(const uint8_t* at) : at_(at) {}

  uint32_t size() const { return at_ == nullptr ? 0 : read<uint32_t>(at_); }

  template <typename T>
  T scalar(uint32_t index) const {
    return read<T>(at_ + 4 + size_t{index} * sizeof(T));
  }

  const uint8_t* data() const { return at_ == nullptr ? nullptr : at_ + 4; }
  const uint8_t* element(uint32_t index) const { return follow(at_ + 4 + size_t{index} * 4); }

 private:
  const uint8_t* at_;
};

class Table {
 public:
  explicit Table(const uint8_t* at) : at_(at) {}

  explicit operator bool() const { return at_ != nullptr; }

  template <typename T>
  T scalar(uint16_t field, T absent) const {
    const uint8_t* found = find(field);
    return found == nullptr ? absent : read<T>(found);
  }

  Table table(uint16_t field) const { return Table(target(field)); }
  Vector vector(uint16_t field) const { return Vector(target(field)); }

  std::string string(uint16_t field) const {
    const uint8_t* found = target(field);
    return found == nullptr ? std::string()
                            : std::string(reinterpret_cast<const char*>(found + 4), read<uint32_t>(found));
  }

 private:
  const uint8_t* find(uint16_t field) const {
    if (at_ == nullptr) {
      return nullptr;
    }
    const uint8_t* vtable = at_ - read<int32_t>(at_);
    const size_t entry = 4 + size_t{field} * 2;
    if (entry + 2 > read<uint16_t>(vtable)) {
      return nullptr;
    }
    const uint16_t offset = read<uint16_t>(vtable + entry);
    return offset == 0 ? nullptr : at_ + offset;
  }

  const uint8_t* target(uint16_t field) const {
    const uint8_t* found = find(field);
    return found == nullptr ? nullptr : follow(found);
  }

  const uint8_t* at_;
};

}  // namespace fastserve::flatbuffer
