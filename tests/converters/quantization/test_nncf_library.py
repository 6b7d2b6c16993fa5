"""NNCF is used without its telemetry, and asked for ranges by the method that is wanted."""

from __future__ import annotations

import subprocess
import sys

from fastserve_converters.precisions import FP32, INT8, RANGE_METHODS, Precision
from fastserve_converters.quantization.nncf_library import range_estimator

SCRIPT = """
import sys
from fastserve_converters.quantization.nncf_library import import_nncf
import_nncf()
import nncf.telemetry.wrapper as wrapper
print(type(wrapper.telemetry).__name__, wrapper.NNCFTelemetryStub.__name__)
"""


def test_nothing_is_reported_to_its_makers() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    used, stub = done.stdout.split()[-2:]
    assert used == stub == "MagicMock"


def test_every_method_asks_for_other_ranges() -> None:
    found = [range_estimator(method) for method in RANGE_METHODS]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])


def test_a_format_without_a_method_falls_back_on_its_first() -> None:
    assert FP32.range_method("mse") == "min-max"
    assert Precision(INT8, INT8, "int8", range_methods=RANGE_METHODS).range_method("mse") == "mse"
