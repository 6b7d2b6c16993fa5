#include "trace.h"

#include <executorch/runtime/platform/platform.h>

#include <cstring>

namespace fastserve {
namespace {

using executorch::runtime::EventTracerDebugLogLevel;
using executorch::runtime::kUnsetChainId;

double microseconds(et_timestamp_t ticks) {
  static const auto ratio = executorch::runtime::pal_ticks_to_ns_multiplier();
  return static_cast<double>(ticks) * static_cast<double>(ratio.numerator) / static_cast<double>(ratio.denominator) /
         1000.0;
}

}  // namespace

Tracer::Tracer(bool intermediates) {
  if (intermediates) {
    set_event_tracer_debug_level(EventTracerDebugLogLevel::kIntermediateOutputs);
    log_intermediate_tensors_ = true;
  }
}

void Tracer::clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  events_.clear();
  intermediates_.clear();
  origin_ = executorch::runtime::pal_current_ticks();
}

std::vector<Event> Tracer::events() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return events_;
}

std::vector<Intermediate> Tracer::intermediates() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return intermediates_;
}

Tracer::Entry Tracer::begin(Event event) {
  Entry entry{};
  std::lock_guard<std::mutex> lock(mutex_);
  entry.event_id = static_cast<int64_t>(events_.size());
  entry.chain_id = event.chain;
  entry.start_time = executorch::runtime::pal_current_ticks();
  event.start = microseconds(entry.start_time - origin_);
  events_.push_back(std::move(event));
  return entry;
}

void Tracer::end(const Entry& entry) {
  const et_timestamp_t now = executorch::runtime::pal_current_ticks();
  std::lock_guard<std::mutex> lock(mutex_);
  if (entry.event_id < 0 || static_cast<size_t>(entry.event_id) >= events_.size()) {
    return;  // of an earlier run
  }
  Event& event = events_[static_cast<size_t>(entry.event_id)];
  event.microseconds = microseconds(now - entry.start_time);
  event.finished = true;
}

Tracer::Entry Tracer::start_profiling(const char* name, ChainID chain, DebugHandle instruction) {
  Event event;
  event.name = name == nullptr ? "" : name;
  event.chain = chain == kUnsetChainId ? chain_id_ : chain;
  if (event.chain != kUnsetChainId) {
    event.instruction = static_cast<int32_t>(chain == kUnsetChainId ? debug_handle_ : instruction);
  }
  return begin(std::move(event));
}

// An event that a delegate reports, inside the instruction that called it.
Event Tracer::delegate_event(const char* name, DelegateId index) const {
  Event event;
  event.name = name == nullptr ? "" : name;
  event.chain = chain_id_;
  event.instruction = chain_id_ == kUnsetChainId ? -1 : static_cast<int32_t>(debug_handle_);
  event.delegate_index = index;
  event.in_delegate = true;
  return event;
}

Tracer::Entry Tracer::start_profiling_delegate(const char* name, DelegateId index) {
  return begin(delegate_event(name, index));
}

void Tracer::end_profiling_delegate(Entry entry, const void*, size_t) { end(entry); }

void Tracer::log_profiling_delegate(const char* name, DelegateId index, et_timestamp_t start, et_timestamp_t stop,
                                    const void*, size_t) {
  Event event = delegate_event(name, index);
  event.finished = true;
  std::lock_guard<std::mutex> lock(mutex_);
  event.start = start > origin_ ? microseconds(start - origin_) : 0;
  event.microseconds = stop > start ? microseconds(stop - start) : 0;
  events_.push_back(std::move(event));
}

void Tracer::end_profiling(Entry entry) { end(entry); }

void Tracer::keep(const Tensor& tensor, const char* name, DelegateId index, bool in_delegate) {
  Intermediate found;
  found.chain = chain_id_;
  found.instruction = chain_id_ == kUnsetChainId ? -1 : static_cast<int32_t>(debug_handle_);
  found.name = name == nullptr ? "" : name;
  found.delegate_index = index;
  found.in_delegate = in_delegate;
  found.tensor.dtype = tensor.scalar_type();
  found.tensor.sizes.assign(tensor.sizes().begin(), tensor.sizes().end());
  found.tensor.dim_order.assign(tensor.dim_order().begin(), tensor.dim_order().end());
  if (tensor.nbytes() > 0 && tensor.const_data_ptr() != nullptr) {
    found.tensor.data.resize(tensor.nbytes());
    std::memcpy(found.tensor.data.data(), tensor.const_data_ptr(), tensor.nbytes());
  }
  std::lock_guard<std::mutex> lock(mutex_);
  intermediates_.push_back(std::move(found));
}

Tracer::Done Tracer::log_evalue(const executorch::runtime::EValue& value, executorch::runtime::LoggedEValueType type) {
  if (type == executorch::runtime::LoggedEValueType::kIntermediateOutput && value.isTensor()) {
    keep(value.toTensor(), nullptr, executorch::runtime::kUnsetDelegateDebugIntId, false);
  }
  return true;
}

Tracer::Done Tracer::log_intermediate_output_delegate(const char* name, DelegateId index, const Tensor& output) {
  keep(output, name, index, true);
  return true;
}

Tracer::Done Tracer::log_intermediate_output_delegate(const char* name, DelegateId index,
                                                      executorch::runtime::ArrayRef<Tensor> outputs) {
  for (const Tensor& output : outputs) {
    keep(output, name, index, true);
  }
  return true;
}

}  // namespace fastserve
