"""ONNX Runtime Web in WebAssembly, in Chromium on this machine's own processor.

That is how web pages run models on phones without WebGPU. It is not among the targets that are checked unless named:
a browser must be started for each variant.
"""

from __future__ import annotations

from fastserve_device_tests.executors.onnxruntime_web import OnnxRuntimeWeb
from fastserve_device_tests.needs import Needs
from fastserve_runtime.bundle.manifest import Variant

NAME = "onnx:web-wasm"
PROCESSOR = "cpu"
EXECUTED_BY = "browser"
FORMAT = "onnx"
BACKEND = None
PRECISIONS = None

_ENGINE = OnnxRuntimeWeb(
    "ONNX Runtime Web in WebAssembly",
    "wasm",
    "ort.wasm.min.mjs",
    ("ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    ("--disable-gpu",),
)


def needs() -> Needs:
    """Return Chromium and the library."""
    return Needs(files=_ENGINE.needed_files())


def engine(variant: Variant) -> OnnxRuntimeWeb:
    """Return ONNX Runtime Web with this provider.

    Raises:
        EnvironmentFailure: its version is too old for the variant.
    """
    return _ENGINE.for_variant(variant)
