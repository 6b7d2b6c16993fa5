"""ExecuTorch with programs lowered to XNNPACK."""

NAME = "executorch:xnnpack"
PROCESSOR = "cpu"
EXECUTED_BY = "hardware"
FORMAT = "executorch"
BACKEND = "XnnpackBackend"
