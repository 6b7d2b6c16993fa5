"""TFLite Micro, the interpreter for microcontrollers, with the reference kernels that its Python package is built with.

It is for small models of fixed shapes. Models with weights of other types than their activations (`int8-dynamic`) and
with floats of 16 bits are not for it.
"""

from __future__ import annotations

from fastserve_device_tests.executors import tflite_micro
from fastserve_device_tests.executors.not_opened import check_one_graph
from fastserve_device_tests.needs import Needs
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.sessions.session import Engine

NAME = "tflite:micro"
PROCESSOR = "cpu"
EXECUTED_BY = "reference model"
FORMAT = "tflite"
BACKEND = None
PRECISIONS = {name: name for name in ("fp32", "int8-static", "a16w8")}


def needs() -> Needs:
    """Return its package."""
    return Needs(modules={"tflite_micro": tflite_micro.INSTALL})


def engine(variant: Variant) -> Engine:
    """Return TFLite Micro.

    Raises:
        UsageError: the model has several graphs.
    """
    check_one_graph(NAME, variant)
    return tflite_micro
