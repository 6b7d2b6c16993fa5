"""What `benchmarks/quantization.py` compares, and how: models, our variants, peers, timing, tables."""
