"""Weights whose products with integers come out the same in every kernel that ONNX Runtime has.

It multiplies unsigned activations by signed weights. On x86-64 without VNNI (SSE 4.1, AVX2, AVX-512 alone) its kernels
add two such products, those of neighbouring inputs, in 16 bits, and what does not fit there becomes the largest number
that does (`vpmaddubsw`; see "Nuances of int8 Computations" in oneDNN's manual). So wrong sums come of large activations
before large weights of one sign, without a word. Where two neighbours add up to 128 at most, they cannot: 255 x 128 is
less than 2^15, and of two with different signs neither product alone comes that far.

Unsigned weights would be summed exactly too, and keep all eight bits. But the kernels that use VNNI or AMX take signed
ones only. Half the range for every weight (ONNX Runtime's `reduce_range`) quadruples the power of the rounding noise;
the limit on pairs, which most rows of weights come near only in one place, less than doubles it.
"""

from __future__ import annotations

from dataclasses import replace

from fastserve_converters.precisions import INT8

PAIR_LIMIT = 128
PRODUCTS = replace(INT8, pair_limit=PAIR_LIMIT)
"""The scheme of weights that ONNX Runtime multiplies with integers."""
