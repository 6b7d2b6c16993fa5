"""Checkpoints whose weights other libraries have quantized: what they say, their quantized weights, and their reals.

Each library's layout is one module, which is found by what `quant_method` of the config's `quantization_config` says.
"""
