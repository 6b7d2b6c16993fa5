// llama::custom_sdpa.out(query [B, S, H, D], key and value [B, C, Hkv, D], start_pos, attn_mask, drpout_p, is_causal,
// scale, out): attention of S new tokens over the first start_pos + S of a cache that has them already. H is a multiple
// of Hkv; attn_mask [S, at least start_pos + S] is added to the scores. Dropout is for training, and left out.
#include <executorch/runtime/core/exec_aten/util/tensor_util.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "attention.h"
#include "operands.h"
#include "threads.h"

namespace fastserve {
namespace {

using attention::Part;
using attention::Problem;
using executorch::runtime::Error;
using executorch::runtime::KernelRuntimeContext;
using executorch::aten::ScalarType;
using executorch::aten::Tensor;

constexpr const char* kName = "llama::custom_sdpa";
enum Place : size_t { kQuery, kKey, kValue, kStart, kMask, kDropout, kCausal, kScale, kOut, kCount };

// Sharing less than this out among threads takes longer than doing it, in multiplications.
constexpr double kWorkOfThread = 250e3;
constexpr size_t kFewestRows = 16;  // smaller parts would have keys and values read too often

size_t size(const Tensor& tensor, int dim) { return static_cast<size_t>(tensor.size(dim)); }

void require_floats(Operands& operands, const Tensor* tensor, const char* what) {
  operands.require(!operands.ok() || tensor->scalar_type() == ScalarType::Float,
                   "got a %s that is not float32: export the model with float32 attention.", what);
}

// Reads and checks everything but the output.
Problem read(Operands& operands) {
  Problem problem{};
  const Tensor* query = operands.tensor(kQuery, "query");
  const Tensor* key = operands.tensor(kKey, "key");
  const Tensor* value = operands.tensor(kValue, "value");
  const int64_t start = operands.integer(kStart, "start_pos");
  problem.causal = operands.boolean(kCausal, "is_causal");
  const std::optional<double> scale = operands.optional_number(kScale, "scale");
  require_floats(operands, query, "query");
  require_floats(operands, key, "key");
  require_floats(operands, value, "value");
  if (!operands.ok()) {
    return problem;
  }
  for (const int dim : {0, 1, 2, 3}) {
    operands.require(key->size(dim) == value->size(dim),
                     "got keys and values that differ in dimension %d (%d and %d): give both the same shape.", dim,
                     static_cast<int>(key->size(dim)), static_cast<int>(value->size(dim)));
  }
  for (const int dim : {0, 3}) {
    operands.require(query->size(dim) == key->size(dim),
                     "got queries and keys that differ in dimension %d (%d and %d): make them agree.", dim,
                     static_cast<int>(query->size(dim)), static_cast<int>(key->size(dim)));
  }
  operands.require(query->size(2) % key->size(2) == 0,
                   "got %d heads of queries for %d of keys: give it a multiple of these.",
                   static_cast<int>(query->size(2)), static_cast<int>(key->size(2)));
  operands.require_room(start, query->size(1), key->size(1));
  if (!operands.ok()) {
    return problem;
  }
  problem.query = query->const_data_ptr<float>();
  problem.key = key->const_data_ptr<float>();
  problem.value = value->const_data_ptr<float>();
  problem.batch = size(*query, 0);
  problem.tokens = size(*query, 1);
  problem.heads = size(*query, 2);
  problem.group = problem.heads / size(*key, 2);
  problem.dim = size(*query, 3);
  problem.capacity = size(*key, 1);
  problem.valid = static_cast<size_t>(start) + problem.tokens;
  problem.scale = static_cast<float>(scale ? *scale : 1.0 / std::sqrt(static_cast<double>(problem.dim)));
  if (operands.is_none(kMask)) {
    return problem;
  }
  operands.require(!problem.causal, "got both attn_mask and is_causal: export the model with one of the two.");
  const Tensor* mask = operands.dense(kMask, "attn_mask", 2);
  require_floats(operands, mask, "attn_mask");
  if (operands.ok()) {
    operands.require(size(*mask, 0) == problem.tokens && size(*mask, 1) >= problem.valid,
                     "got an attn_mask of %zu by %zu: give it %zu by %zu or more.", size(*mask, 0), size(*mask, 1),
                     problem.tokens, problem.valid);
    problem.mask = mask->const_data_ptr<float>();
    problem.mask_width = size(*mask, 1);
  }
  return problem;
}

// How a problem is shared out: each head of keys is cut into so many parts of so many rows.
struct Cut {
  size_t lanes;  // parts that are computed at the same time
  size_t rows;
  size_t per_head;
  size_t parts;
};

Cut cut(const Problem& problem) {
  const size_t heads = problem.batch * problem.key_heads();
  const double work = 2.0 * static_cast<double>(problem.batch * problem.tokens * problem.heads) *
                      static_cast<double>(problem.valid) * static_cast<double>(problem.dim);
  const size_t worthwhile = work < 2 * kWorkOfThread ? 1 : static_cast<size_t>(std::min(work / kWorkOfThread, 1024.0));
  const size_t lanes = worthwhile == 1 ? 1 : std::min(worthwhile, threads::usable());
  size_t rows = std::min(problem.rows(), attention::kMostRows);
  const auto per_head = [&] { return (problem.rows() + rows - 1) / rows; };
  while (rows >= 2 * kFewestRows && heads * per_head() < 2 * lanes && lanes > 1) {
    rows = (rows + 1) / 2;
  }
  const size_t parts = heads * per_head();
  return {std::min(lanes, parts), rows, per_head(), parts};
}

void compute(KernelRuntimeContext& context, const Problem& problem) {
  const auto kernel = attention::kernel_for(problem.rows());
  const Cut shares = cut(problem);
  const size_t floats = attention::scratch_floats(problem.dim);
  const auto memory = context.allocate_temp(shares.lanes * floats * sizeof(float), attention::kAlignment);
  if (!memory.ok()) {
    context.fail(memory.error());
    return;
  }
  auto* scratch = static_cast<float*>(*memory);
  std::atomic<size_t> taken{0};
  const auto work = [&](size_t lane) {
    for (size_t i = taken++; i < shares.parts; i = taken++) {
      // Where attention is causal, the last rows take longest: they come first.
      const size_t place = shares.per_head - 1 - i / (shares.parts / shares.per_head);
      const size_t head = i % (shares.parts / shares.per_head);
      const size_t first = place * shares.rows;
      const Part part{head / problem.key_heads(), head % problem.key_heads(), first,
                      std::min(shares.rows, problem.rows() - first)};
      kernel(problem, part, scratch + lane * floats);
    }
  };
  threads::run(shares.lanes, work);
}

}  // namespace

void custom_sdpa_kernel(KernelRuntimeContext& context, Arguments arguments) {
  const executorch::runtime::internal::EventTracerProfileOpScope scope(context.internal_event_tracer(), kName);
  Operands operands(context, arguments, kName, kCount);
  Problem problem = read(operands);
  Tensor* output = operands.any_tensor(kOut, "output");
  if (!operands.ok()) {
    return;
  }
  require_floats(operands, output, "output");
  const auto& query = arguments[kQuery]->toTensor();
  operands.require(executorch::runtime::resize_tensor(*output, query.sizes()) == Error::Ok,
                   "has no room for its output: export the model for as many tokens at once.");
  output = operands.dense(kOut, "output", 4);
  if (!operands.ok()) {
    return;
  }
  problem.output = output->mutable_data_ptr<float>();
  if (problem.tokens > 0) {
    compute(context, problem);
  }
  operands.log_result(kOut);
}

}  // namespace fastserve
