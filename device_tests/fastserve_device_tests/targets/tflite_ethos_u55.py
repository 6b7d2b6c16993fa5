"""Arm's Ethos-U55, an NPU of microcontrollers, by Arm's compiler Vela: 256 multipliers, 500 MHz, weights in flash.

Nothing here executes it. Its own artifact is the TFLite file with the integer layers compiled for the NPU, for TFLite
Micro on the device; what computes in floats is left to the device's CPU, and the compiler's figures leave it out.
"""

from __future__ import annotations

from fastserve_device_tests.compilers import vela
from fastserve_device_tests.compilers.vela import EthosU
from fastserve_device_tests.executors.not_opened import nothing_executes

NAME = "tflite:ethos-u55"
PROCESSOR = "npu"
EXECUTED_BY = "compile-only"
FORMAT = "tflite"
BACKEND = vela.BACKEND
PRECISIONS = vela.PRECISIONS
COMPILED_BY = vela.COMPILED_BY

needs = vela.needs
engine = nothing_executes(NAME)
compile_model = EthosU("ethos-u55-256", "Ethos_U55_High_End_Embedded", "Shared_Sram").compile_model
