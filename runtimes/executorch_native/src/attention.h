// Attention over a cache of keys and values: what to compute, and the kernels for parts of it.
#pragma once

#include <cstddef>

namespace fastserve::attention {

// What one call computes. All arrays are dense: queries and output [batch, tokens, heads, dim], keys and values
// [batch, capacity, heads / group, dim], of which the first `valid` tokens count; mask [tokens, mask_width] or nothing.
struct Problem {
  const float* query;
  const float* key;
  const float* value;
  const float* mask;
  float* output;
  size_t batch;
  size_t tokens;
  size_t heads;
  size_t group;  // heads that share one head of keys and values
  size_t dim;
  size_t capacity;
  size_t valid;
  size_t mask_width;
  bool causal;  // the i-th of the new tokens sees the first valid - tokens + i + 1
  float scale;

  size_t key_heads() const { return heads / group; }
  // Queries that share one head of keys, in the order of tokens: row r is head r % group of token r / group.
  size_t rows() const { return tokens * group; }
};

// Some rows of one head of keys: what one thread does at a time.
struct Part {
  size_t batch;
  size_t key_head;
  size_t first_row;
  size_t rows;  // at most kMostRows
};

constexpr size_t kMostRows = 64;

// The floats that a kernel needs to work in, aligned to kAlignment bytes.
constexpr size_t kAlignment = 64;
size_t scratch_floats(size_t dim);

// A row's result is the same to the bit, whatever part it is in.
using Kernel = void (*)(const Problem& problem, const Part& part, float* scratch);

// The fastest for this processor, where so many rows share a head of keys.
Kernel kernel_for(size_t rows);

}  // namespace fastserve::attention
