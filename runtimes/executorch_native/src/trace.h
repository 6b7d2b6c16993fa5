// Collects what ran, for how long, and the values in between.
#pragma once

#include <executorch/runtime/core/event_tracer.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace fastserve {

// A copy of a tensor.
struct TensorCopy {
  executorch::aten::ScalarType dtype = executorch::aten::ScalarType::Undefined;
  std::vector<int32_t> sizes;
  std::vector<uint8_t> dim_order;
  std::vector<std::byte> data;
};

struct Event {
  std::string name;
  int32_t chain = -1;
  int32_t instruction = -1;
  int32_t delegate_index = -1;
  bool in_delegate = false;
  bool finished = false;
  double start = 0;  // microseconds since the run began
  double microseconds = 0;
};

struct Intermediate {
  int32_t chain = -1;
  int32_t instruction = -1;
  std::string name;  // of the delegate's event, if any
  int32_t delegate_index = -1;
  bool in_delegate = false;
  TensorCopy tensor;
};

class Tracer final : public executorch::runtime::EventTracer {
 public:
  explicit Tracer(bool intermediates);

  void clear();
  std::vector<Event> events() const;
  std::vector<Intermediate> intermediates() const;

  using ChainID = executorch::runtime::ChainID;
  using DebugHandle = executorch::runtime::DebugHandle;
  using DelegateId = executorch::runtime::DelegateDebugIntId;
  using Entry = executorch::runtime::EventTracerEntry;
  using Tensor = executorch::aten::Tensor;
  using Done = executorch::runtime::Result<bool>;

  void create_event_block(const char*) override {}
  Entry start_profiling(const char* name, ChainID chain, DebugHandle instruction) override;
  Entry start_profiling_delegate(const char* name, DelegateId index) override;
  void end_profiling_delegate(Entry entry, const void*, size_t) override;
  void log_profiling_delegate(const char* name, DelegateId index, et_timestamp_t start, et_timestamp_t end, const void*,
                              size_t) override;
  void end_profiling(Entry entry) override;
  void track_allocation(executorch::runtime::AllocatorID, size_t) override {}
  executorch::runtime::AllocatorID track_allocator(const char*) override { return 0; }
  Done log_evalue(const executorch::runtime::EValue& value, executorch::runtime::LoggedEValueType type) override;
  Done log_intermediate_output_delegate(const char* name, DelegateId index, const Tensor& output) override;
  Done log_intermediate_output_delegate(const char* name, DelegateId index,
                                        executorch::runtime::ArrayRef<Tensor> outputs) override;
  Done log_intermediate_output_delegate(const char*, DelegateId, const int&) override { return true; }
  Done log_intermediate_output_delegate(const char*, DelegateId, const bool&) override { return true; }
  Done log_intermediate_output_delegate(const char*, DelegateId, const double&) override { return true; }
  void set_delegation_intermediate_output_filter(executorch::runtime::EventTracerFilterBase*) override {}

 private:
  Event delegate_event(const char* name, DelegateId index) const;
  Entry begin(Event event);
  void end(const Entry& entry);
  void keep(const Tensor& tensor, const char* name, DelegateId index, bool in_delegate);

  mutable std::mutex mutex_;
  et_timestamp_t origin_ = 0;
  std::vector<Event> events_;
  std::vector<Intermediate> intermediates_;
};

}  // namespace fastserve
