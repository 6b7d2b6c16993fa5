// The operators for text generation that this package has itself. ExecuTorch's package has their kernels only in a
// library that needs PyTorch.
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

// Both, to load methods with. They are looked up here before those that are registered for the whole process: under
// the same names, the official package registers its own, and registering a name twice would end the process.
executorch::runtime::Span<const executorch::runtime::Kernel> own_kernels();

}  // namespace fastserve
