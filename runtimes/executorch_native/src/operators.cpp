#include "operators.h"

namespace fastserve {

executorch::runtime::Span<const executorch::runtime::Kernel> own_kernels() {
  using executorch::runtime::Kernel;
  static constexpr Kernel kKernels[] = {
      Kernel("llama::custom_sdpa.out", custom_sdpa_kernel),
      Kernel("llama::update_cache.out", update_cache_kernel),
  };
  return {kKernels, sizeof(kKernels) / sizeof(kKernels[0])};
}

}  // namespace fastserve
