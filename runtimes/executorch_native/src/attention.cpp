#include "attention.h"

#include "attention_kernel.h"

// The same code for several instruction sets of one processor family, one of which is chosen when the first problem
// comes. Other families have all that is used here in every processor.
#if defined(__x86_64__) && defined(__GNUC__)
#define FASTSERVE_X86 1
#define FASTSERVE_AVX2 __attribute__((target("avx2,fma")))
#define FASTSERVE_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")))
#endif

namespace fastserve::attention {
namespace {

// By how many rows there are to compute at least. Where rows are few, short vectors with many sums at a time keep up
// with memory; long ones would be empty for the most part.
struct Kernels {
  Kernel up_to_4;
  Kernel up_to_8;
  Kernel more;
};

#ifdef FASTSERVE_X86

FASTSERVE_AVX512 void four_avx512(const Problem& problem, const Part& part, float* scratch) {
  attend<Shape<4, 1, 8>>(problem, part, scratch);
}

FASTSERVE_AVX512 void eight_avx512(const Problem& problem, const Part& part, float* scratch) {
  attend<Shape<8, 1, 8>>(problem, part, scratch);
}

FASTSERVE_AVX512 void many_avx512(const Problem& problem, const Part& part, float* scratch) {
  attend<Shape<16, 4, 4>>(problem, part, scratch);
}

FASTSERVE_AVX2 void four_avx2(const Problem& problem, const Part& part, float* scratch) {
  attend<Shape<4, 1, 8>>(problem, part, scratch);
}

FASTSERVE_AVX2 void eight_avx2(const Problem& problem, const Part& part, float* scratch) {
  attend<Shape<8, 1, 8>>(problem, part, scratch);
}

FASTSERVE_AVX2 void many_avx2(const Problem& problem, const Part& part, float* scratch) {
  attend<Shape<8, 2, 4>>(problem, part, scratch);
}

using Many = Shape<4, 2, 4>;  // 16 registers

#else

using Many = Shape<4, 4, 4>;  // 32 registers

#endif

void four(const Problem& problem, const Part& part, float* scratch) { attend<Shape<4, 1, 8>>(problem, part, scratch); }

void many(const Problem& problem, const Part& part, float* scratch) { attend<Many>(problem, part, scratch); }

Kernels choose() {
#ifdef FASTSERVE_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw")) {
    return {four_avx512, eight_avx512, many_avx512};
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {four_avx2, eight_avx2, many_avx2};
  }
#endif
  return {four, many, many};
}

}  // namespace

size_t scratch_floats(size_t dim) {
  constexpr size_t kStep = kAlignment / sizeof(float);
  return (most_scratch_floats(dim) + kStep - 1) / kStep * kStep;
}

Kernel kernel_for(size_t rows) {
  static const Kernels chosen = choose();
  return rows <= 4 ? chosen.up_to_4 : rows <= 8 ? chosen.up_to_8 : chosen.more;
}

}  // namespace fastserve::attention
