"""Choosing quantized weights, and a scheme for every layer: done once in PyTorch and numpy, for all formats."""
