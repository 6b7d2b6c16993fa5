"""Runs FastServe bundles on a device: one light API over ONNX Runtime, LiteRT and ExecuTorch.

    import fastserve_runtime
    pipeline = fastserve_runtime.load("my-model.fsb")
    embeddings = pipeline(["a sentence", "another"])

Importing this package imports nothing but the standard library, and little of that: every name below comes with its
module when it is first used (PEP 562), numpy and one engine with the first model.
"""

from __future__ import annotations

import os

from fastserve_runtime._version import __version__
from fastserve_runtime.faces import face

TYPE_CHECKING = False  # typing itself takes long to import; see `processes.leaving`
if TYPE_CHECKING:
    from fastserve_runtime.bundle.manifest import Manifest, Variant
    from fastserve_runtime.bundle.reader import Bundle, open_bundle
    from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
    from fastserve_runtime.conformance.verdict import Outcome, Verdict
    from fastserve_runtime.conformance.verification import Verification, verify
    from fastserve_runtime.errors import (
        BundleError,
        EnvironmentFailure,
        FastServeError,
        InputError,
        UsageError,
    )
    from fastserve_runtime.loading import load, open_model
    from fastserve_runtime.processes.limits import Limits
    from fastserve_runtime.sessions.session import Binding, Placement, Session

# From 1.29 on, ONNX Runtime reports its use to its makers, over the network, unless it is told not to before anything
# imports it. A user's own setting stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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

__getattr__, __dir__ = face(
    __name__,
    "fastserve_runtime",
    {
        "bundle.reader": "Bundle open_bundle",
        "errors": "BundleError EnvironmentFailure FastServeError InputError UsageError",
        "processes.limits": "Limits",
        "loading": "load open_model",
        "bundle.manifest": "Manifest Variant",
        "bundle.tensor_specs": "Signature SymbolicDim TensorSpec",
        "sessions.session": "Binding Placement Session",
        "conformance.verdict": "Outcome Verdict",
        "conformance.verification": "Verification verify",
    },
)
