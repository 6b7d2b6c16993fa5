"""Checkpoints in GGUF files (llama.cpp's format): what they describe, their model and tokenizer, and their grids."""
