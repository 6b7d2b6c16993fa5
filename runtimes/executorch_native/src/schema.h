// What a program's file says about its methods, read without loading them.
#pragma once

#include <executorch/runtime/core/data_loader.h>
#include <executorch/runtime/core/error.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fastserve {

enum class Kind : uint8_t { kNone, kTensor, kInt, kFloat, kBool, kString, kOther };
enum class Dynamism : uint8_t { kStatic, kBounded, kUnbounded };

const char* kind_name(Kind kind);
const char* dynamism_name(Dynamism dynamism);

// One input or output of a method.
struct ValueInfo {
  size_t index = 0;
  Kind kind = Kind::kOther;
  std::string name;
  executorch::aten::ScalarType dtype = executorch::aten::ScalarType::Undefined;
  std::vector<int32_t> sizes;  // the upper bounds where the shape is dynamic
  std::vector<uint8_t> dim_order;
  Dynamism dynamism = Dynamism::kStatic;
  bool planned = false;  // the program has memory of its own for it
  int32_t value = -1;    // its place among the method's values
};

// What one instruction calls.
struct Instruction {
  std::string op;       // operator, or empty
  std::string backend;  // delegate, or empty
};

struct MethodInfo {
  std::string name;
  std::vector<ValueInfo> inputs;
  std::vector<ValueInfo> outputs;
  std::vector<std::string> backends;   // each once, in order of first use
  std::vector<std::string> operators;  // each once, in order of first use
  std::vector<std::vector<Instruction>> chains;
  std::vector<int64_t> buffer_sizes;  // planned memory, in bytes

  int64_t planned_bytes() const;
};

// Reads all methods of a program that ExecuTorch's own verification has accepted, and checks what that leaves out.
// Returns InvalidProgram with the reason in `problem`.
executorch::runtime::Error read_methods(const executorch::runtime::DataLoader& loader, std::vector<MethodInfo>& methods,
                                        std::string& problem);

}  // namespace fastserve
