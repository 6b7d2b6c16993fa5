#include "operators.h"

#include <vector>

namespace fastserve {

executorch::runtime::Span<const executorch::runtime::Kernel> own_kernels() {
  using executorch::runtime::Kernel;
  static const std::vector<Kernel> kKernels = [] {
    std::vector<Kernel> all = {
        Kernel("llama::custom_sdpa.out", custom_sdpa_kernel),
        Kernel("llama::update_cache.out", update_cache_kernel),
    };
    all.insert(all.end(), embedding_kernels().begin(), embedding_kernels().end());
    return all;
  }();
  return {kKernels.data(), kKernels.size()};
}

}  // namespace fastserve
