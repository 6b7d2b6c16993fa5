"""NNCF without its telemetry, progress bars and log lines."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
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
