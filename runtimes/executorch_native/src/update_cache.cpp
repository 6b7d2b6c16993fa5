// llama::update_cache.out(value [B, S, H, D], cache [B, C, H, D], start_pos, out): writes new tokens into a cache, in
// place. `out` stands for the result that the operator has in PyTorch; nobody reads it, and it is left alone.
#include <cstring>

#include "operands.h"

namespace fastserve {

void update_cache_kernel(executorch::runtime::KernelRuntimeContext& context, Arguments arguments) {
  constexpr const char* kName = "llama::update_cache";
  enum Place : size_t { kValue, kCache, kStart, kOut, kCount };
  const executorch::runtime::internal::EventTracerProfileOpScope scope(context.internal_event_tracer(), kName);
  Operands operands(context, arguments, kName, kCount);
  const auto* value = operands.tensor(kValue, "value");
  auto* cache = operands.tensor(kCache, "cache");
  const int64_t start = operands.integer(kStart, "start_pos");
  if (!operands.ok()) {
    return;
  }
  operands.require(value->scalar_type() == cache->scalar_type(),
                   "got a value and a cache of different types: give both the same.");
  for (const int dim : {0, 2, 3}) {
    operands.require(value->size(dim) == cache->size(dim),
                     "got a value and a cache that differ in dimension %d (%d and %d): only dimension 1 may.", dim,
                     static_cast<int>(value->size(dim)), static_cast<int>(cache->size(dim)));
  }
  operands.require_room(start, value->size(1), cache->size(1));
  if (!operands.ok()) {
    return;
  }
  const auto batch = static_cast<size_t>(value->size(0));
  const size_t token = static_cast<size_t>(value->size(2)) * static_cast<size_t>(value->size(3)) *
                       static_cast<size_t>(value->element_size());
  const size_t fresh = static_cast<size_t>(value->size(1)) * token;
  const size_t held = static_cast<size_t>(cache->size(1)) * token;
  const auto* from = static_cast<const uint8_t*>(value->const_data_ptr());
  auto* to = static_cast<uint8_t*>(cache->mutable_data_ptr()) + static_cast<size_t>(start) * token;
  for (size_t i = 0; fresh > 0 && i < batch; ++i) {
    std::memmove(to + i * held, from + i * fresh, fresh);  // a damaged program may have the two overlap
  }
  operands.log_result(kOut);
}

}  // namespace fastserve
