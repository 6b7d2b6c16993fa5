"""LiteRT with its XNNPACK delegate."""

NAME = "tflite:xnnpack"
PROCESSOR = "cpu"
EXECUTED_BY = "hardware"
FORMAT = "tflite"
BACKEND = "XNNPACK"
