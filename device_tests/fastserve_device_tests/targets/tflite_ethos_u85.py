"""Arm's Ethos-U85, an NPU of microcontrollers, by Arm's compiler Vela: 256 multipliers, 1 GHz, weights in DRAM.

Nothing here executes it. Its own artifact is the TFLite file with the integer layers compiled for the NPU, for TFLite
Micro on the device; what computes in floats is left to the device's CPU, and the compiler's figures leave it out.
"""

from __future__ import annotations

from fastserve_device_tests.compilers import vela
from fastserve_device_tests.compilers.vela import EthosU
from fastserve_device_tests.executors.not_opened import nothing_executes

NAME = "tflite:ethos-u85"
PROCESSOR = "npu"
EXECUTED_BY = "compile-only"
FORMAT = "tflite"
BACKEND = vela.BACKEND
PRECISIONS = vela.PRECISIONS
COMPILED_BY = vela.COMPILED_BY

needs = vela.needs
engine = nothing_executes(NAME)
compile_model = EthosU("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB").compile_model
