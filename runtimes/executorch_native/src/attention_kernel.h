// Attention for some rows: one row a lane. Scores and results are kept transposed, so that keys and values are read
// as they lie in the cache, one number for all lanes, whatever the size of a head; and no sum goes across lanes.
// Softmax is computed as the keys stream by (FlashAttention, arXiv 2205.14135).
#pragma once

#include "attention.h"
#include "attention_lanes.h"

namespace fastserve::attention {

constexpr size_t kBlock = 64;  // keys at a time
constexpr size_t kLine = 16;   // floats that memory is read in

// How rows are computed: Vectors vectors of Width rows, with Together keys, or elements of values, at the same time.
// As many sums are held in registers as the product of the last two.
template <size_t WidthOf, size_t VectorsOf, size_t TogetherOf>
struct Shape {
  static constexpr size_t kWidth = WidthOf;
  static constexpr size_t kVectors = VectorsOf;
  static constexpr size_t kTogether = TogetherOf;
  using Floats = typename Lanes<WidthOf>::Floats;
  using Ints = typename Lanes<WidthOf>::Ints;
};

// What a part works in. Everything transposed has `lanes` numbers a line.
struct Scratch {
  size_t lanes;      // the part's rows, and what fills the last vector
  float* query;      // [dim][lanes], scaled
  float* result;     // [dim][lanes], not yet divided by the sums
  float* scores;     // [kBlock][lanes], then weights
  float* largest;    // [lanes]
  float* sums;       // [lanes]
  float* shrink;     // [lanes]: what the last block made of earlier results
  int32_t* visible;  // [lanes]: how many keys each row sees
};

FASTSERVE_INLINE Scratch divide_scratch(float* floats, size_t dim, size_t lanes) {
  Scratch scratch{};
  scratch.lanes = lanes;
  scratch.query = floats;
  scratch.result = scratch.query + dim * lanes;
  scratch.scores = scratch.result + dim * lanes;
  scratch.largest = scratch.scores + kBlock * lanes;
  scratch.sums = scratch.largest + lanes;
  scratch.shrink = scratch.sums + lanes;
  scratch.visible = reinterpret_cast<int32_t*>(scratch.shrink + lanes);
  return scratch;
}

constexpr size_t most_scratch_floats(size_t dim) { return (2 * dim + kBlock + 4) * kMostRows; }

// Keys or values of one head, some tokens one after another.
struct Tokens {
  const float* first;
  size_t stride;
  size_t count;
};

// Into the second-level cache: the first has no room for rows that lie a power of two apart.
FASTSERVE_INLINE void fetch(const Tokens& tokens, size_t dim) {
  for (size_t t = 0; t < tokens.count; ++t) {
    for (size_t d = 0; d < dim; d += kLine) {
      __builtin_prefetch(tokens.first + t * tokens.stride + d, 0, 2);
    }
  }
}

// Scores of `Keys` keys from the `t`-th, for Vectors vectors of rows from `row`.
template <typename Shape, size_t Vectors, size_t Keys>
FASTSERVE_INLINE void score(const Scratch& scratch, const Tokens& keys, size_t t, size_t dim, size_t row) {
  typename Shape::Floats sums[Keys][Vectors] = {};
  const float* key = keys.first + t * keys.stride;
  for (size_t d = 0; d < dim; ++d) {
    typename Shape::Floats rows[Vectors];
    for (size_t v = 0; v < Vectors; ++v) {
      load(rows[v], scratch.query + d * scratch.lanes + row + v * Shape::kWidth);
    }
    for (size_t k = 0; k < Keys; ++k) {
      const float element = key[k * keys.stride + d];
      for (size_t v = 0; v < Vectors; ++v) {
        sums[k][v] += rows[v] * element;
      }
    }
  }
  for (size_t k = 0; k < Keys; ++k) {
    for (size_t v = 0; v < Vectors; ++v) {
      store(scratch.scores + (t + k) * scratch.lanes + row + v * Shape::kWidth, sums[k][v]);
    }
  }
}

// Adds the block's weighted values to `Elements` elements of the results from the `d`-th, for Vectors vectors of rows.
template <typename Shape, size_t Vectors, size_t Elements>
FASTSERVE_INLINE void weigh(const Scratch& scratch, const Tokens& values, size_t d, size_t row) {
  typename Shape::Floats sums[Elements][Vectors];
  for (size_t v = 0; v < Vectors; ++v) {
    typename Shape::Floats factor;
    load(factor, scratch.shrink + row + v * Shape::kWidth);
    for (size_t e = 0; e < Elements; ++e) {
      load(sums[e][v], scratch.result + (d + e) * scratch.lanes + row + v * Shape::kWidth);
      sums[e][v] *= factor;
    }
  }
  for (size_t t = 0; t < values.count; ++t) {
    typename Shape::Floats rows[Vectors];
    for (size_t v = 0; v < Vectors; ++v) {
      load(rows[v], scratch.scores + t * scratch.lanes + row + v * Shape::kWidth);
    }
    for (size_t e = 0; e < Elements; ++e) {
      const float element = values.first[t * values.stride + d + e];
      for (size_t v = 0; v < Vectors; ++v) {
        sums[e][v] += rows[v] * element;
      }
    }
  }
  for (size_t e = 0; e < Elements; ++e) {
    for (size_t v = 0; v < Vectors; ++v) {
      store(scratch.result + (d + e) * scratch.lanes + row + v * Shape::kWidth, sums[e][v]);
    }
  }
}

template <typename Shape, size_t Vectors>
FASTSERVE_INLINE void score_rows(const Scratch& scratch, const Tokens& keys, size_t dim, size_t row) {
  size_t t = 0;
  for (; t + Shape::kTogether <= keys.count; t += Shape::kTogether) {
    score<Shape, Vectors, Shape::kTogether>(scratch, keys, t, dim, row);
  }
  for (; t < keys.count; ++t) {
    score<Shape, Vectors, 1>(scratch, keys, t, dim, row);
  }
}

template <typename Shape, size_t Vectors>
FASTSERVE_INLINE void weigh_rows(const Scratch& scratch, const Tokens& values, size_t dim, size_t row) {
  size_t d = 0;
  for (; d + Shape::kTogether <= dim; d += Shape::kTogether) {
    weigh<Shape, Vectors, Shape::kTogether>(scratch, values, d, row);
  }
  for (; d < dim; ++d) {
    weigh<Shape, Vectors, 1>(scratch, values, d, row);
  }
}

// Turns the scores of one vector of rows into weights, and follows up the largest score and the sum of each.
template <typename Shape>
FASTSERVE_INLINE void soften(const Scratch& scratch, size_t keys, size_t row) {
  typename Shape::Floats before, sum, largest, scores;
  load(before, scratch.largest + row);
  largest = before;
  for (size_t t = 0; t < keys; ++t) {
    load(scores, scratch.scores + t * scratch.lanes + row);
    raise_to(largest, scores);
  }
  store(scratch.largest + row, largest);
  const typename Shape::Floats zero{};
  const typename Shape::Floats base = largest == zero - kInfinity ? zero : largest;  // where all keys are hidden so far
  typename Shape::Floats shrink = before - base;
  exponential<Shape::kWidth>(shrink);
  store(scratch.shrink + row, shrink);
  load(sum, scratch.sums + row);
  sum *= shrink;
  for (size_t t = 0; t < keys; ++t) {
    load(scores, scratch.scores + t * scratch.lanes + row);
    scores -= base;
    exponential<Shape::kWidth>(scores);
    sum += scores;
    store(scratch.scores + t * scratch.lanes + row, scores);
  }
  store(scratch.sums + row, sum);
}

// Hides the keys that one vector of rows may not see, in a block that begins with the `first`-th.
template <typename Shape>
FASTSERVE_INLINE void hide(const Scratch& scratch, size_t first, size_t keys, size_t row) {
  const typename Shape::Floats zero{};
  typename Shape::Ints visible;
  load(visible, scratch.visible + row);
  visible -= static_cast<int32_t>(first);
  for (size_t t = 0; t < keys; ++t) {
    typename Shape::Floats scores;
    load(scores, scratch.scores + t * scratch.lanes + row);
    scores = visible > static_cast<int32_t>(t) ? scores : zero - kInfinity;
    store(scratch.scores + t * scratch.lanes + row, scores);
  }
}

// Where a row's query and output lie. A part's rows go on from its first.
FASTSERVE_INLINE size_t row_offset(const Problem& problem, const Part& part, size_t row) {
  const size_t place = part.first_row + row;
  const size_t token = part.batch * problem.tokens + place / problem.group;
  return (token * problem.heads + part.key_head * problem.group + place % problem.group) * problem.dim;
}

// Lanes beyond the part's rows compute along with a query of zeros, and are never written out.
FASTSERVE_INLINE void prepare(const Problem& problem, const Part& part, const Scratch& scratch) {
  for (size_t row = 0; row < scratch.lanes; ++row) {
    const bool real = row < part.rows;
    const size_t like = real ? row : part.rows - 1;
    const float* query = problem.query + row_offset(problem, part, like);
    for (size_t d = 0; d < problem.dim; ++d) {
      scratch.query[d * scratch.lanes + row] = real ? query[d] * problem.scale : 0.0F;
      scratch.result[d * scratch.lanes + row] = 0.0F;
    }
    scratch.largest[row] = -kInfinity;
    scratch.sums[row] = 0.0F;
    const size_t hidden = problem.tokens - 1 - (part.first_row + like) / problem.group;
    scratch.visible[row] = static_cast<int32_t>(problem.valid - (problem.causal ? hidden : 0));
  }
}

FASTSERVE_INLINE void add_mask(const Problem& problem, const Part& part, const Scratch& scratch, size_t first,
                               size_t keys) {
  for (size_t row = 0; row < part.rows; ++row) {
    const float* mask = problem.mask + (part.first_row + row) / problem.group * problem.mask_width + first;
    for (size_t t = 0; t < keys; ++t) {
      scratch.scores[t * scratch.lanes + row] += mask[t];
    }
  }
}

FASTSERVE_INLINE void write(const Problem& problem, const Part& part, const Scratch& scratch) {
  for (size_t row = 0; row < part.rows; ++row) {
    float* output = problem.output + row_offset(problem, part, row);
    const float sum = scratch.sums[row];
    const float factor = sum == 0.0F ? 0.0F : 1.0F / sum;  // a row that the mask hides every key from is zero
    for (size_t d = 0; d < problem.dim; ++d) {
      output[d] = scratch.result[d * scratch.lanes + row] * factor;
    }
  }
}

template <typename Shape>
FASTSERVE_INLINE void attend(const Problem& problem, const Part& part, float* floats) {
  constexpr size_t kWidth = Shape::kWidth;
  constexpr size_t kStep = kWidth * Shape::kVectors;
  const size_t dim = problem.dim;
  const Scratch scratch = divide_scratch(floats, dim, (part.rows + kWidth - 1) / kWidth * kWidth);
  prepare(problem, part, scratch);
  const size_t stride = problem.key_heads() * dim;
  const size_t first_key = part.batch * problem.capacity * stride + part.key_head * dim;
  const auto seen_by_all = static_cast<size_t>(scratch.visible[0]);
  const auto end = static_cast<size_t>(scratch.visible[scratch.lanes - 1]);
  for (size_t first = 0; first < end; first += kBlock) {
    const size_t count = end - first < kBlock ? end - first : kBlock;
    const size_t offset = first_key + first * stride;
    const Tokens keys{problem.key + offset, stride, count};
    const Tokens values{problem.value + offset, stride, count};
    fetch(values, dim);
    size_t row = 0;
    for (; row + kStep <= scratch.lanes; row += kStep) {
      score_rows<Shape, Shape::kVectors>(scratch, keys, dim, row);
    }
    for (; Shape::kVectors > 1 && row < scratch.lanes; row += kWidth) {
      score_rows<Shape, 1>(scratch, keys, dim, row);
    }
    if (problem.mask != nullptr) {
      add_mask(problem, part, scratch, first, count);
    }
    for (row = 0; row < scratch.lanes; row += kWidth) {
      if (first + count > seen_by_all) {
        hide<Shape>(scratch, first, count, row);
      }
      soften<Shape>(scratch, count, row);
    }
    const size_t left = end - first - count;
    fetch({keys.first + count * stride, stride, left < kBlock ? left : kBlock}, dim);
    for (row = 0; row + kStep <= scratch.lanes; row += kStep) {
      weigh_rows<Shape, Shape::kVectors>(scratch, values, dim, row);
    }
    for (; Shape::kVectors > 1 && row < scratch.lanes; row += kWidth) {
      weigh_rows<Shape, 1>(scratch, values, dim, row);
    }
  }
  write(problem, part, scratch);
}

}  // namespace fastserve::attention
