"""Checkpoints in GGUF files (llama.cpp's format).

What they describe, their model and tokenizer, and their quantized weights.
"""
