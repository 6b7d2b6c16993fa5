"""Runs FastServe bundles on a device: one light API over ONNX Runtime, LiteRT and ExecuTorch.

    import fastserve_runtime
    pipeline = fastserve_runtime.load("my-model.fsb")
    embeddings = pipeline(["a sentence", "another"])

Importing this package imports nothing but the standard library; numpy and one engine come with the first model.
"""

from fastserve_runtime._version import __version__
from fastserve_runtime.bundle import Bundle, open_bundle
from fastserve_runtime.errors import (
    BundleError,
    EnvironmentFailure,
    FastServeError,
    InputError,
    UsageError,
)
from fastserve_runtime.limits import Limits
from fastserve_runtime.loading import load, open_model
from fastserve_runtime.manifest import Manifest, Signature, SymbolicDim, TensorSpec, Variant
from fastserve_runtime.session import Binding, Placement, Session
from fastserve_runtime.verdict import Outcome, Verdict
from fastserve_runtime.verification import Verification, verify

__all__ = [
    "Binding",
    "Bundle",
    "BundleError",
    "EnvironmentFailure",
    "FastServeError",
    "InputError",
    "Limits",
    "Manifest",
    "Outcome",
    "Placement",
    "Session",
    "Signature",
    "SymbolicDim",
    "TensorSpec",
    "UsageError",
    "Variant",
    "Verdict",
    "Verification",
    "__version__",
    "load",
    "open_bundle",
    "open_model",
    "verify",
]
