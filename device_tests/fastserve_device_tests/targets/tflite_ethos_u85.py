"""Arm's Ethos-U85, an NPU of microcontrollers, by Arm's compiler Vela: 256 multipliers, 1 GHz, weights in DRAM.

Nothing here executes it. Its own artifact is the TFLite file with the integer layers compiled for the NPU, for TFLite
Micro on the device; what computes in floats is left to the device's CPU, and the compiler's figures leave it out.
"""

from __future__ import annotations

from fastserve_device_tests.executors import vela
from fastserve_device_tests.executors.vela import EthosU
from fastserve_device_tests.needs import Needs
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.manifest import Variant
from fastserve_runtime.session import Engine

NAME = "tflite:ethos-u85"
PROCESSOR = "npu"
EXECUTED_BY = "compile-only"
FORMAT = "tflite"
BACKEND = vela.BACKEND
PRECISIONS = {"int8-static": "int8-static", "a16w8": "a16w8"}
COMPILED_BY = (vela.DISTRIBUTION, "ai-edge-litert")

compile_model = EthosU("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB").compile_model


def needs() -> Needs:
    """Return the compiler, and LiteRT, which tells the shapes."""
    return Needs(modules={vela.MODULE: vela.INSTALL, "ai_edge_litert": "pip install ai-edge-litert==2.3.0"})


def engine(variant: Variant) -> Engine:
    """Refuse: nothing here executes it."""
    raise EnvironmentFailure(f"Nothing here executes variant '{variant.id}' on {NAME}.", "Run it on the device.")
