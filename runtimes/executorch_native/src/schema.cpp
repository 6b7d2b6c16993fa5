#include "schema.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "flatbuffer.h"
#include "xnnpack_blob.h"

namespace fastserve {
namespace {

using executorch::runtime::DataLoader;
using executorch::runtime::Error;
using flatbuffer::Table;
using flatbuffer::Vector;

// Field numbers and union members of ExecuTorch's program.fbs.
namespace program_field {
constexpr uint16_t kPlans = 1, kDelegateData = 3, kSegments = 4, kNamedData = 7;
}
namespace plan_field {
constexpr uint16_t kName = 0, kValues = 2, kInputs = 3, kOutputs = 4, kChains = 5, kOperators = 6, kDelegates = 7,
                   kBufferSizes = 8;
}
namespace tensor_field {
constexpr uint16_t kScalarType = 0, kSizes = 2, kDimOrder = 3, kDataBuffer = 5, kAllocation = 6, kDynamism = 8,
                   kExtra = 9;
}
constexpr uint16_t kExtraName = 1, kExtraLocation = 2;
constexpr uint8_t kValueNull = 1, kValueInt = 2, kValueBool = 3, kValueDouble = 4, kValueTensor = 5, kValueString = 6,
                  kValueTensorList = 10, kValueOptionalTensorList = 11;
constexpr uint8_t kKernelCall = 1, kDelegateCall = 2, kMoveCall = 3, kFreeCall = 5;
constexpr size_t kHeaderBytes = 40;  // root offset, identifier, extended header with three sizes

struct Layout {
  uint64_t program_bytes;
  uint64_t segments_at;  // 0: none
};

Error fail(std::string& problem, std::string reason) {
  problem = std::move(reason);
  return Error::InvalidProgram;
}

Error read_layout(const DataLoader& loader, uint64_t file_bytes, Layout& layout, std::string& problem) {
  if (file_bytes < kHeaderBytes) {
    return fail(problem, "the file is too short");
  }
  auto head = loader.load(0, kHeaderBytes, DataLoader::SegmentInfo(DataLoader::SegmentInfo::Type::Program));
  if (!head.ok()) {
    return head.error();
  }
  const auto* bytes = static_cast<const uint8_t*>(head->data());
  layout = {file_bytes, 0};
  if (bytes[8] == 'e' && bytes[9] == 'h') {
    layout = {flatbuffer::read<uint64_t>(bytes + 16), flatbuffer::read<uint64_t>(bytes + 24)};
  }
  if (layout.program_bytes > file_bytes || layout.segments_at > file_bytes) {
    return fail(problem, "the file is truncated");
  }
  return Error::Ok;
}

Error check_segments(const Table& program, const Layout& layout, uint64_t file_bytes, std::string& problem) {
  const Vector segments = program.vector(program_field::kSegments);
  const uint64_t room = file_bytes - layout.segments_at;
  for (uint32_t i = 0; i < segments.size(); ++i) {
    const Table segment(segments.element(i));
    const auto offset = segment.scalar<uint64_t>(0, 0);
    const auto size = segment.scalar<uint64_t>(1, 0);
    if (offset > room || size > room - offset) {
      return fail(problem, "segment " + std::to_string(i) + " ends after the end of the file");
    }
  }
  return Error::Ok;
}

Kind kind_of(uint8_t type) {
  switch (type) {
    case kValueNull:
      return Kind::kNone;
    case kValueInt:
      return Kind::kInt;
    case kValueBool:
      return Kind::kBool;
    case kValueDouble:
      return Kind::kFloat;
    case kValueTensor:
      return Kind::kTensor;
    case kValueString:
      return Kind::kString;
    default:
      return Kind::kOther;
  }
}

Error read_value(const Vector& values, int32_t place, size_t index, ValueInfo& info, std::string& problem) {
  if (place < 0 || static_cast<uint32_t>(place) >= values.size()) {
    return fail(problem, "an input or output refers to a value that is not there");
  }
  const Table value(values.element(static_cast<uint32_t>(place)));
  info.index = index;
  info.value = place;
  info.kind = kind_of(value.scalar<uint8_t>(0, 0));
  if (info.kind != Kind::kTensor) {
    return Error::Ok;
  }
  const Table tensor = value.table(1);
  if (!tensor) {
    return fail(problem, "a tensor has no description");
  }
  info.dtype = static_cast<executorch::aten::ScalarType>(tensor.scalar<int8_t>(tensor_field::kScalarType, 0));
  const Vector sizes = tensor.vector(tensor_field::kSizes);
  const Vector order = tensor.vector(tensor_field::kDimOrder);
  if (order.size() != sizes.size()) {
    return fail(problem, "a tensor's sizes and order of dimensions disagree");
  }
  std::vector<bool> seen(order.size());
  for (uint32_t i = 0; i < sizes.size(); ++i) {
    info.sizes.push_back(sizes.scalar<int32_t>(i));
    info.dim_order.push_back(order.scalar<uint8_t>(i));
    if (info.sizes.back() < 0 || info.dim_order.back() >= seen.size() || seen[info.dim_order.back()]) {
      return fail(problem, "a tensor has impossible sizes or order of dimensions");
    }
    seen[info.dim_order.back()] = true;
  }
  const auto dynamism = tensor.scalar<int8_t>(tensor_field::kDynamism, 0);
  info.dynamism = dynamism == 0 ? Dynamism::kStatic : dynamism == 1 ? Dynamism::kBounded : Dynamism::kUnbounded;
  info.planned = static_cast<bool>(tensor.table(tensor_field::kAllocation)) ||
                 tensor.scalar<uint32_t>(tensor_field::kDataBuffer, 0) > 0;
  const Table extra = tensor.table(tensor_field::kExtra);
  info.name = extra ? extra.string(kExtraName) : std::string();
  return Error::Ok;
}

Error check_tensors(const Table& plan, std::string& problem) {
  const Vector values = plan.vector(plan_field::kValues);
  for (uint32_t i = 0; i < values.size(); ++i) {
    const Table value(values.element(i));
    if (value.scalar<uint8_t>(0, 0) != kValueTensor) {
      continue;
    }
    const auto dynamism = value.table(1).scalar<int8_t>(tensor_field::kDynamism, 0);
    if (dynamism < 0 || dynamism > 2) {
      return fail(problem, "a tensor's shape is neither static nor dynamic");
    }
  }
  return Error::Ok;
}

Error read_values(const Table& plan, uint16_t field, std::vector<ValueInfo>& infos, std::string& problem) {
  const Vector values = plan.vector(plan_field::kValues);
  const Vector places = plan.vector(field);
  infos.resize(places.size());
  for (uint32_t i = 0; i < places.size(); ++i) {
    const Error error = read_value(values, places.scalar<int32_t>(i), i, infos[i], problem);
    if (error != Error::Ok) {
      return error;
    }
  }
  return Error::Ok;
}

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    names.push_back(name);
  }
}

std::vector<std::string> operator_names(const Table& plan) {
  const Vector operators = plan.vector(plan_field::kOperators);
  std::vector<std::string> names;
  for (uint32_t i = 0; i < operators.size(); ++i) {
    const Table op(operators.element(i));
    const std::string overload = op.string(1);
    names.push_back(overload.empty() ? op.string(0) : op.string(0) + "." + overload);
  }
  return names;
}

std::vector<std::string> delegate_names(const Table& plan) {
  const Vector delegates = plan.vector(plan_field::kDelegates);
  std::vector<std::string> names;
  for (uint32_t i = 0; i < delegates.size(); ++i) {
    names.push_back(Table(delegates.element(i)).string(0));
  }
  return names;
}

// The values that will have memory when instructions run although the file gives them none.
std::vector<bool> values_set_later(const Table& plan, const MethodInfo& method) {
  std::vector<bool> set(plan.vector(plan_field::kValues).size());
  const auto mark = [&](int32_t place) {
    if (place >= 0 && static_cast<size_t>(place) < set.size()) {
      set[static_cast<size_t>(place)] = true;
    }
  };
  for (const ValueInfo& info : method.inputs) {
    mark(info.value);
  }
  for (const ValueInfo& info : method.outputs) {
    if (info.dynamism != Dynamism::kUnbounded) {  // memory of unknown size cannot be given to the method
      mark(info.value);
    }
  }
  const Vector chains = plan.vector(plan_field::kChains);
  for (uint32_t i = 0; i < chains.size(); ++i) {
    const Vector instructions = Table(chains.element(i)).vector(2);
    for (uint32_t j = 0; j < instructions.size(); ++j) {
      const Table instruction(instructions.element(j));
      if (instruction.scalar<uint8_t>(0, 0) == kMoveCall) {
        mark(instruction.table(1).scalar<int32_t>(1, -1));
      }
    }
  }
  return set;
}

bool is_tensor(const Vector& values, int32_t place) {
  return place >= 0 && static_cast<uint32_t>(place) < values.size() &&
         Table(values.element(static_cast<uint32_t>(place))).scalar<uint8_t>(0, 0) == kValueTensor;
}

// Whether a value can be used by an instruction: kernels do not check that tensors have memory.
bool usable(const Vector& values, const std::vector<bool>& set_later, int32_t place) {
  if (place < 0 || static_cast<size_t>(place) >= set_later.size()) {
    return false;
  }
  const Table value(values.element(static_cast<uint32_t>(place)));
  const auto type = value.scalar<uint8_t>(0, 0);
  const Table content = value.table(1);
  if (type == kValueTensor) {
    const Table extra = content.table(tensor_field::kExtra);
    return content &&
           (set_later[static_cast<size_t>(place)] || content.table(tensor_field::kAllocation) ||
            content.scalar<uint32_t>(tensor_field::kDataBuffer, 0) > 0 || extra.scalar<int8_t>(kExtraLocation, 0) != 0);
  }
  if (type == kValueTensorList || type == kValueOptionalTensorList) {
    const Vector items = content.vector(0);
    for (uint32_t i = 0; i < items.size(); ++i) {
      const auto item = items.scalar<int32_t>(i);
      const bool absent = type == kValueOptionalTensorList && item == -1;
      if (!absent && (!is_tensor(values, item) || !usable(values, set_later, item))) {
        return false;
      }
    }
  }
  return true;
}

// Kernels of quantized operators divide by sizes of their constants.
bool is_empty_constant(const Vector& values, int32_t place) {
  const Table value(values.element(static_cast<uint32_t>(place)));
  const Table tensor = value.table(1);
  if (value.scalar<uint8_t>(0, 0) != kValueTensor || tensor.scalar<uint32_t>(tensor_field::kDataBuffer, 0) == 0) {
    return false;
  }
  const Vector sizes = tensor.vector(tensor_field::kSizes);
  for (uint32_t i = 0; i < sizes.size(); ++i) {
    if (sizes.scalar<int32_t>(i) == 0) {
      return true;
    }
  }
  return false;
}

Error check_arguments(const Table& plan, const std::vector<bool>& set_later, const Table& call, const std::string& name,
                      std::string& problem) {
  const Vector values = plan.vector(plan_field::kValues);
  const Vector arguments = call.vector(1);
  const bool quantized = name.rfind("quantized_decomposed::", 0) == 0;
  for (uint32_t i = 0; i < arguments.size(); ++i) {
    const auto place = arguments.scalar<int32_t>(i);
    if (!usable(values, set_later, place)) {
      return fail(problem, "an instruction uses a value that is not there or has no memory");
    }
    if (quantized && is_empty_constant(values, place)) {
      return fail(problem, "a constant of " + name + " is empty");
    }
  }
  return arguments.size() > 0 ? Error::Ok : fail(problem, "an instruction has no arguments");
}

// Whether a value's memory is neither planned, nor constant, nor the caller's.
bool may_be_freed(const Table& plan, const std::vector<bool>& set_later, const Table& call) {
  const Vector values = plan.vector(plan_field::kValues);
  const int32_t place = call ? call.scalar<int32_t>(0, 0) : -1;
  return is_tensor(values, place) && !usable(values, set_later, place);
}

Error read_chains(const Table& plan, MethodInfo& method, std::string& problem) {
  const std::vector<std::string> operators = operator_names(plan);
  const std::vector<std::string> delegates = delegate_names(plan);
  const std::vector<bool> set_later = values_set_later(plan, method);
  const Vector chains = plan.vector(plan_field::kChains);
  for (uint32_t i = 0; i < chains.size(); ++i) {
    const Vector instructions = Table(chains.element(i)).vector(2);
    auto& chain = method.chains.emplace_back(instructions.size());
    for (uint32_t j = 0; j < instructions.size(); ++j) {
      const Table instruction(instructions.element(j));
      const auto type = instruction.scalar<uint8_t>(0, 0);
      if (type == kFreeCall && !may_be_freed(plan, set_later, instruction.table(1))) {
        return fail(problem, "an instruction frees memory that is not its own");
      }
      if (type != kKernelCall && type != kDelegateCall) {
        continue;
      }
      const auto& names = type == kKernelCall ? operators : delegates;
      const Table call = instruction.table(1);
      const int32_t place = call ? call.scalar<int32_t>(0, 0) : -1;
      if (place < 0 || static_cast<size_t>(place) >= names.size()) {
        return fail(problem, "an instruction calls something that is not there");
      }
      const std::string& name = names[static_cast<size_t>(place)];
      if (name.empty()) {
        return fail(problem, "an instruction calls something without a name");
      }
      (type == kKernelCall ? chain[j].op : chain[j].backend) = name;
      const Error error = check_arguments(plan, set_later, call, name, problem);
      if (error != Error::Ok) {
        return error;
      }
    }
  }
  for (const auto& name : operators) {
    add_once(method.operators, name);
  }
  for (const auto& name : delegates) {
    add_once(method.backends, name);
  }
  return Error::Ok;
}

Error read_method(const Table& plan, MethodInfo& method, std::string& problem) {
  method.name = plan.string(plan_field::kName);
  if (method.name.empty()) {
    return fail(problem, "a method has no name");
  }
  const Vector sizes = plan.vector(plan_field::kBufferSizes);
  for (uint32_t i = 1; i < sizes.size(); ++i) {  // the first is reserved
    method.buffer_sizes.push_back(sizes.scalar<int64_t>(i));
    if (method.buffer_sizes.back() < 0) {
      return fail(problem, "a memory size is negative");
    }
  }
  Error error = check_tensors(plan, problem);
  if (error == Error::Ok) {
    error = read_values(plan, plan_field::kInputs, method.inputs, problem);
  }
  if (error == Error::Ok) {
    error = read_values(plan, plan_field::kOutputs, method.outputs, problem);
  }
  if (error == Error::Ok) {
    error = read_chains(plan, method, problem);
  }
  return error;
}

// The contents of the file that methods refer to.
struct Contents {
  const DataLoader& loader;
  const Table& program;
  const Layout& layout;
  std::map<std::string, uint64_t> named_sizes;
};

std::map<std::string, uint64_t> named_sizes(const Table& program) {
  std::map<std::string, uint64_t> sizes;
  const Vector segments = program.vector(program_field::kSegments);
  const Vector named = program.vector(program_field::kNamedData);
  for (uint32_t i = 0; i < named.size(); ++i) {
    const Table entry(named.element(i));
    const auto segment = entry.scalar<uint32_t>(1, 0);
    if (segment < segments.size()) {
      sizes[entry.string(0)] = Table(segments.element(segment)).scalar<uint64_t>(1, 0);
    }
  }
  return sizes;
}

Error check_delegate(const Contents& contents, const Table& delegate, std::string& problem) {
  const Table processed = delegate.table(1);
  const bool in_segment = processed.scalar<int8_t>(0, 0) != 0;
  const auto index = processed.scalar<uint32_t>(1, 0);
  const Vector places = contents.program.vector(in_segment ? program_field::kSegments : program_field::kDelegateData);
  if (!processed || index >= places.size()) {
    return fail(problem, "a delegate's data is not there");
  }
  const Vector specs = delegate.vector(2);
  for (uint32_t i = 0; i < specs.size(); ++i) {
    const Table spec(specs.element(i));
    if (spec.vector(0).data() == nullptr || spec.vector(1).data() == nullptr) {
      return fail(problem, "a delegate's options are damaged");
    }
  }
  if (delegate.string(0) != "XnnpackBackend") {
    return Error::Ok;
  }
  const Table place(places.element(index));
  bool fits = false;
  if (in_segment) {
    auto blob =
        contents.loader.load(contents.layout.segments_at + place.scalar<uint64_t>(0, 0), place.scalar<uint64_t>(1, 0),
                             DataLoader::SegmentInfo(DataLoader::SegmentInfo::Type::Backend));
    if (!blob.ok()) {
      return blob.error();
    }
    fits = xnnpack_graph_is_sound(static_cast<const uint8_t*>(blob->data()), blob->size(), contents.named_sizes);
  } else {
    const Vector blob = place.vector(0);
    fits = xnnpack_graph_is_sound(blob.data(), blob.size(), contents.named_sizes);
  }
  return fits ? Error::Ok : fail(problem, "the data of a delegate of XNNPACK is damaged");
}

Error check_delegates(const Contents& contents, const Table& plan, std::string& problem) {
  const Vector delegates = plan.vector(plan_field::kDelegates);
  for (uint32_t i = 0; i < delegates.size(); ++i) {
    const Error error = check_delegate(contents, Table(delegates.element(i)), problem);
    if (error != Error::Ok) {
      return error;
    }
  }
  return Error::Ok;
}

}  // namespace

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kNone:
      return "none";
    case Kind::kTensor:
      return "tensor";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kBool:
      return "bool";
    case Kind::kString:
      return "string";
    default:
      return "other";
  }
}

const char* dynamism_name(Dynamism dynamism) {
  switch (dynamism) {
    case Dynamism::kStatic:
      return "static";
    case Dynamism::kBounded:
      return "bounded";
    default:
      return "unbounded";
  }
}

int64_t MethodInfo::planned_bytes() const {
  return std::accumulate(buffer_sizes.begin(), buffer_sizes.end(), int64_t{0});
}

Error read_methods(const DataLoader& loader, std::vector<MethodInfo>& methods, std::string& problem) {
  const auto size = loader.size();
  if (!size.ok()) {
    return size.error();
  }
  Layout layout{};
  Error error = read_layout(loader, *size, layout, problem);
  if (error != Error::Ok) {
    return error;
  }
  auto data = loader.load(0, layout.program_bytes, DataLoader::SegmentInfo(DataLoader::SegmentInfo::Type::Program));
  if (!data.ok()) {
    return data.error();
  }
  const Table program(flatbuffer::follow(static_cast<const uint8_t*>(data->data())));
  error = check_segments(program, layout, *size, problem);
  const Vector plans = program.vector(program_field::kPlans);
  const Contents contents{loader, program, layout, named_sizes(program)};
  for (uint32_t i = 0; error == Error::Ok && i < plans.size(); ++i) {
    const Table plan(plans.element(i));
    error = read_method(plan, methods.emplace_back(), problem);
    if (error == Error::Ok) {
      error = check_delegates(contents, plan, problem);
    }
  }
  return error;
}

}  // namespace fastserve
