"""NNCF without its telemetry, progress bars and log lines, and with the same sums on every processor."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import SimpleNamespace
from typing import Any

from fastserve_converters.precisions import RangeMethod


def import_nncf() -> Any:
    """Import NNCF, which reports its use to its makers unless it is told not to before it is imported."""
    # Its own switch for automated runs; a user's own setting stays.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf


@contextmanager
def quiet() -> Iterator[None]:
    """Keep NNCF's progress bars off the standard output, which it has no setting for."""
    with redirect_stdout(io.StringIO()):
        yield


@contextmanager
def exact_sessions() -> Iterator[None]:
    """Let NNCF's runs in ONNX Runtime compute in float what stands between QuantizeLinear and DequantizeLinear.

    It corrects biases by what a quantized layer gives, and has no setting for how its sessions optimize graphs: they
    take kernels of integers, which lose sums on some processors (see `formats.onnx.products`).
    """
    import onnxruntime
    from nncf.onnx import engine

    def options() -> onnxruntime.SessionOptions:
        made = onnxruntime.SessionOptions()
        made.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        return made

    library = engine.rt
    engine.rt = SimpleNamespace(SessionOptions=options, InferenceSession=library.InferenceSession)
    try:
        yield
    finally:
        engine.rt = library


def range_estimator(method: RangeMethod) -> Any:
    """Return NNCF's settings for finding the ranges of activations by a method."""
    import_nncf()
    from nncf.quantization.range_estimator import RangeEstimatorParameters, RangeEstimatorParametersSet

    estimators = {
        "min-max": RangeEstimatorParameters(),  # NNCF's own choice for each kind of tensor
        "percentile": RangeEstimatorParametersSet.MEAN_QUANTILE,
        "mse": RangeEstimatorParametersSet.HISTOGRAM,
    }
    return estimators[method]
