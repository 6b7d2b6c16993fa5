// The operators that this package has itself: those for text generation, whose kernels ExecuTorch's package has only in a
// library that needs PyTorch, and those whose kernels there read beyond their operands.
#pragma once

#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/core/span.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>

namespace fastserve {

using Arguments = executorch::runtime::Span<executorch::runtime::EValue*>;

// llama::update_cache.out and llama::custom_sdpa.out, as ExecuTorch calls kernels. Wrong arguments make the call fail
// with a sentence in the log; nothing is written then.
void update_cache_kernel(executorch::runtime::KernelRuntimeContext& context, Arguments arguments);
void custom_sdpa_kernel(executorch::runtime::KernelRuntimeContext& context, Arguments arguments);

// Look-ups in tables of integers, which end in the kernels that are registered for the process, once it is sure that
// every index is one of the table's.
executorch::runtime::Span<const executorch::runtime::Kernel> embedding_kernels();

// All of them, to load methods with. They are looked up here before those that are registered for the whole process:
// under the same names, the official package registers its own, and registering a name twice would end the process.
executorch::runtime::Span<const executorch::runtime::Kernel> own_kernels();

}  // namespace fastserve
