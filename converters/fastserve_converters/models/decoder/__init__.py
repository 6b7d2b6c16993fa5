"""Decoders of text in one form for all exporters: GPT-, Llama-, Qwen- and Gemma-class models with a cache."""
