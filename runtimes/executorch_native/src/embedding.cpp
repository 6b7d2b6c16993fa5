// quantized_decomposed::embedding_byte, embedding_4bit and embedding_2bit, as ExecuTorch's package has them, with what
// its kernels do not look at: they take any index, and read whatever lies so many rows behind the table.
//
//   embedding_X.out(weight [rows, bytes], scales [rows] or [rows, groups], zero_points, quant_min, quant_max, indices,
//                   out); embedding_X.dtype_out has a dtype before out.
#include <array>
#include <utility>

#include "operands.h"

namespace fastserve {
namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using executorch::runtime::KernelRuntimeContext;

enum Place : size_t { kWeight, kScales, kZeroPoints, kLowest, kHighest, kIndices, kCount };

struct Lookup {
  const char* name;
  int64_t numbers_in_a_byte;
};

constexpr Lookup kLookups[] = {
    {"quantized_decomposed::embedding_byte.out", 1}, {"quantized_decomposed::embedding_byte.dtype_out", 1},
    {"quantized_decomposed::embedding_4bit.out", 2}, {"quantized_decomposed::embedding_4bit.dtype_out", 2},
    {"quantized_decomposed::embedding_2bit.out", 4}, {"quantized_decomposed::embedding_2bit.dtype_out", 4},
};
constexpr size_t kLookupCount = sizeof(kLookups) / sizeof(kLookups[0]);

void require_same_shape(Operands& operands, const Tensor& zero_points, const Tensor& scales) {
  bool same = zero_points.dim() == scales.dim();
  for (ssize_t dim = 0; same && dim < scales.dim(); ++dim) {
    same = zero_points.size(dim) == scales.size(dim);
  }
  operands.require(same, "got zero points and scales of different shapes: give both the same.");
}

template <typename Index>
void require_rows(Operands& operands, const Tensor& indices, int64_t rows) {
  const Index* found = indices.const_data_ptr<Index>();
  for (ssize_t i = 0; operands.ok() && i < indices.numel(); ++i) {
    const auto index = static_cast<int64_t>(found[i]);
    operands.require(index >= 0 && index < rows, "got the index %lld for a table of %lld rows: give it rows of the table.",
                     static_cast<long long>(index), static_cast<long long>(rows));
  }
}

void require_sound(Operands& operands, const Lookup& lookup) {
  const Tensor* weight = operands.dense(kWeight, "weight", 2);
  const Tensor* scales = operands.any_tensor(kScales, "scales");
  const Tensor* indices = operands.any_tensor(kIndices, "indices");
  if (!operands.ok()) {
    return;
  }
  const int64_t rows = weight->size(0);
  const int64_t columns = weight->size(1) * lookup.numbers_in_a_byte;
  const bool by_group = scales->dim() == 2;
  operands.require(by_group || scales->dim() == 1, "got scales of %d dimensions: give them 1 or 2.",
                   static_cast<int>(scales->dim()));
  if (!operands.ok()) {
    return;
  }
  const int64_t groups = by_group ? scales->size(1) : 1;
  operands.require(scales->size(0) == rows, "got scales of %d rows for a table of %lld: give each row its own.",
                   static_cast<int>(scales->size(0)), static_cast<long long>(rows));
  operands.require(groups > 0 && columns % groups == 0, "got %lld groups for %lld columns: give it groups of a size.",
                   static_cast<long long>(groups), static_cast<long long>(columns));
  if (!operands.is_none(kZeroPoints)) {
    const Tensor* zero_points = operands.any_tensor(kZeroPoints, "zero points");
    if (operands.ok()) {
      require_same_shape(operands, *zero_points, *scales);
    }
  }
  const bool is_long = indices->scalar_type() == ScalarType::Long;
  operands.require(is_long || indices->scalar_type() == ScalarType::Int,
                   "got indices that are neither int64 nor int32: give them one of these.");
  operands.require(indices->numel() == 0 || indices->const_data_ptr() != nullptr,
                   "got indices without memory: export the model anew.");
  if (!operands.ok()) {
    return;
  }
  if (is_long) {
    require_rows<int64_t>(operands, *indices, rows);
  } else {
    require_rows<int32_t>(operands, *indices, rows);
  }
}

template <size_t kIndex>
void checked_lookup(KernelRuntimeContext& context, Arguments arguments) {
  constexpr Lookup kLookup = kLookups[kIndex];
  Operands operands(context, arguments, kLookup.name, kCount);
  require_sound(operands, kLookup);
  if (!operands.ok()) {
    return;
  }
  const auto kernel = executorch::runtime::get_op_function_from_registry(kLookup.name);
  operands.require(kernel.ok(), "has no kernel: install the package again.");
  if (operands.ok()) {
    (*kernel)(context, arguments);
  }
}

template <size_t... kIndices>
constexpr std::array<executorch::runtime::Kernel, kLookupCount> made(std::index_sequence<kIndices...>) {
  return {executorch::runtime::Kernel(kLookups[kIndices].name, checked_lookup<kIndices>)...};
}

}  // namespace

executorch::runtime::Span<const executorch::runtime::Kernel> embedding_kernels() {
  static constexpr auto kKernels = made(std::make_index_sequence<kLookupCount>{});
  return {kKernels.data(), kKernels.size()};
}

}  // namespace fastserve
