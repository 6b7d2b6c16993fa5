// Vectors of floats of any width, in the compiler's own notation, which every processor has some instructions for.
// Everything is forced inline, so that it takes on the instruction set of the function that it ends up in; and vectors
// are passed by reference, as how to pass them by value depends on that set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#define FASTSERVE_INLINE inline __attribute__((always_inline))

namespace fastserve::attention {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <size_t Width>
struct Lanes;

#define FASTSERVE_LANES(width)                                       \
  template <>                                                        \
  struct Lanes<width> {                                              \
    typedef float Floats __attribute__((vector_size(4 * width)));    \
    typedef int32_t Ints __attribute__((vector_size(4 * width)));    \
    typedef uint32_t Bits __attribute__((vector_size(4 * width)));   \
  };
FASTSERVE_LANES(4)
FASTSERVE_LANES(8)
FASTSERVE_LANES(16)
#undef FASTSERVE_LANES

template <typename Vector, typename Element>
FASTSERVE_INLINE void load(Vector& to, const Element* from) {
  __builtin_memcpy(&to, from, sizeof(to));
}

template <typename Vector, typename Element>
FASTSERVE_INLINE void store(Element* to, const Vector& from) {
  __builtin_memcpy(to, &from, sizeof(from));
}

template <typename Vector>
FASTSERVE_INLINE void raise_to(Vector& largest, const Vector& other) {
  largest = other > largest ? other : largest;
}

// e to the power of x, for x <= 0, within 2 units in the last place; 0 below -87, where float32 has hardly a number.
template <size_t Width>
FASTSERVE_INLINE void exponential(typename Lanes<Width>::Floats& x) {
  using Floats = typename Lanes<Width>::Floats;
  using Bits = typename Lanes<Width>::Bits;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: what is added to it is rounded to an integer, in its low bits
  constexpr uint32_t kRoundBits = 0x4b400000;
  const Floats zero{};
  const Floats least = zero - 87.0F;
  const Floats clamped = x < least ? least : x;
  const Floats shifted = clamped * 1.44269504F + kRound;
  const Floats power = shifted - kRound;
  // ln 2 in two parts, the first exact in few bits.
  const Floats rest = (clamped - power * 0.693359375F) + power * 2.12194440e-4F;
  Floats sum = zero + 1.9875691500e-4F;
  sum = sum * rest + 1.3981999507e-3F;
  sum = sum * rest + 8.3334519073e-3F;
  sum = sum * rest + 4.1665795894e-2F;
  sum = sum * rest + 1.6666665459e-1F;
  sum = sum * rest + 5.0000001201e-1F;
  sum = sum * rest * rest + rest + 1.0F;
  const Bits exponent = (reinterpret_cast<Bits>(shifted) - kRoundBits) << 23;
  const Bits bits = reinterpret_cast<Bits>(sum) + exponent;
  const Floats result = x < least ? zero : reinterpret_cast<Floats>(bits);
  x = x == x ? result : x;  // not a number stays so
}

}  // namespace fastserve::attention
