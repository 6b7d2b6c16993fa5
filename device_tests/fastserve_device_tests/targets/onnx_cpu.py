"""ONNX Runtime's CPU execution provider."""

NAME = "onnx:cpu"
PROCESSOR = "cpu"
EXECUTED_BY = "hardware"
FORMAT = "onnx"
BACKEND = None
