"""ONNX Runtime Web with WebGPU, in Chromium on SwiftShader: a Vulkan driver that computes on the CPU.

That is how web pages run models on phones. The numbers are those of the provider's shaders, compiled by the browser;
its speed means nothing. SwiftShader has no floats of 16 bits, so `fp16` fails there.
"""

from __future__ import annotations

from fastserve_device_tests.executors.onnxruntime_web import OnnxRuntimeWeb
from fastserve_device_tests.needs import Needs
from fastserve_runtime.bundle.manifest import Variant

NAME = "onnx:web-webgpu"
PROCESSOR = "gpu"
EXECUTED_BY = "software driver"
FORMAT = "onnx"
BACKEND = "WebGpuExecutionProvider"
PRECISIONS = None

_SECONDS = 1800
"""A model of the size of MiniLM takes several seconds for each sample."""

_ENGINE = OnnxRuntimeWeb(
    "ONNX Runtime Web on WebGPU",
    "webgpu",
    "ort.webgpu.min.mjs",
    ("ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
    (
        "--enable-unsafe-webgpu",
        "--use-webgpu-adapter=swiftshader",
        "--enable-features=Vulkan",
        "--use-vulkan=swiftshader",
        "--disable-vulkan-surface",
        "--ignore-gpu-blocklist",
    ),
)


def needs() -> Needs:
    """Return Chromium, which brings the driver, and the library."""
    return Needs(files=_ENGINE.needed_files(), seconds=_SECONDS)


def engine(variant: Variant) -> OnnxRuntimeWeb:
    """Return ONNX Runtime Web with this provider.

    Raises:
        EnvironmentFailure: its version is too old for the variant.
    """
    return _ENGINE.for_variant(variant)
