"""ExecuTorch: delegates keep what is inside them, so a file that gives it has been exported with further outputs.

Such a file's outputs stand behind those of the model, in the order of the tensors that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastserve_device_tests.intermediates import Instrumented, Output
from fastserve_runtime.sessions.session import ModelSource


def instrumented(model: ModelSource, entry: str, tensors: Sequence[str]) -> Instrumented:  # noqa: ARG001 -- in the file
    """Return the model as it is, with names for its further outputs; see `Intermediates`."""
    return Instrumented(model, {name: Output(name, "float32") for name in tensors})
