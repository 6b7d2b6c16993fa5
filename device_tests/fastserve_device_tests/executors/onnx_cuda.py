"""ONNX Runtime with its CUDA execution provider, as an engine (`fastserve_runtime.sessions.session.Engine`).

It comes as `onnxruntime-gpu`, which takes the place of `onnxruntime`, so it lives in an environment of its own, made by
`scripts/setup_cuda.sh`; a process of that environment imports this module.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastserve_device_tests.executors.onnx_plugin_provider import ProfiledSession, opened_with_profile
from fastserve_device_tests.processes.native_words import native_words
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.distributions import installed_version
from fastserve_runtime.engines import onnxruntime as cpu
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError, one_line
from fastserve_runtime.sessions.session import ModelSource

NAME = "ONNX Runtime on CUDA"
FORMAT = cpu.FORMAT
FAMILY = cpu.FAMILY
INSTALL = "bash scripts/setup_cuda.sh"
PROVIDER = "CUDAExecutionProvider"

_DISTRIBUTION = "onnxruntime-gpu"
# TF32 has 10 bits of mantissa where fp32 has 23: it misses the policies of fp32, and would hide a wrong kernel.
_OPTIONS = {"device_id": "0", "use_tf32": "0"}
_ERROR_LEVEL = 3
_FAILURE = re.compile(r"(?P<failure>CUDA failure \d+: [^;]*?)\s*(?:;|$)")

_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the installed version of ONNX Runtime for CUDA."""
    return installed_version(_DISTRIBUTION, "onnxruntime")


def import_library() -> Any:
    """Import ONNX Runtime, load CUDA's libraries and return it; see `Engine.import_library`."""
    with native_words(_logger) as words:
        try:
            onnxruntime = importlib.import_module("onnxruntime")
            if PROVIDER in onnxruntime.get_available_providers():
                onnxruntime.preload_dlls()
        except (ImportError, AttributeError) as error:
            problem = f"{NAME} cannot be imported: {one_line(error)}."
            raise EnvironmentFailure(problem, f"Make its environment afresh: {INSTALL}.") from error
    if PROVIDER not in onnxruntime.get_available_providers():
        raise EnvironmentFailure(f"This ONNX Runtime has no CUDA{_reason(words)}.", f"Install it: {INSTALL}.")
    return onnxruntime


def lacking(variant: Variant) -> list[str]:
    """Return none: what CUDA lacks runs on the CPU, and the placement tells."""
    return cpu.lacking(variant)


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> ProfiledSession:
    """Load an ONNX model; see `Engine.open_session`. The graphs must be given."""
    if graphs is None:
        raise UsageError(f"{NAME} does not open bare files.", "Open a bundle instead.")
    onnxruntime = import_library()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR_LEVEL
    settings = {"providers": [(PROVIDER, _OPTIONS), "CPUExecutionProvider"], "enable_fallback": 0}
    try:
        with native_words(_logger) as words:
            session, profiles = opened_with_profile(onnxruntime, model, options, threads, **settings)
    except Exception as error:  # the binding's exception classes share no base but Exception
        if "CUDA failure" in str(error):
            raise _without_device(one_line(error)) from error
        raise BundleError(f"{NAME} {version()} cannot load the model: {one_line(error)}.") from error
    if PROVIDER not in session.get_providers():  # else it would run on the CPU without a word
        session.end_profiling()
        profiles.cleanup()
        raise _without_device(_reason(words).removeprefix(": ") or "it does not say why")
    return ProfiledSession(session, {n: g.signature for n, g in graphs.items()}, threads, NAME, profiles)


def _without_device(reason: str) -> EnvironmentFailure:
    failure = _FAILURE.search(reason)
    why = reason if failure is None else failure["failure"]
    return EnvironmentFailure(
        f"{NAME} cannot use CUDA: {why.rstrip('.')}.", "Look with nvidia-smi whether the driver works."
    )


def _reason(words: Sequence[str]) -> str:
    said = [" ".join(line.split()) for line in words if line.strip()]
    return f": {said[-1].rstrip('.')}" if said else ""
