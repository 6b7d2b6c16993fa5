"""Turns a trained model into artifacts: load, compress, quantize, export.

Modules here import PyTorch and the converters only inside the functions that need them, so that what a checkpoint,
a task or a format is can be asked without them.
"""
