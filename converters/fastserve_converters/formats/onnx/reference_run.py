"""The fake-quant reference of a static artifact: every operator computed as ONNX's standard says.

ONNX Runtime fuses the operators between DequantizeLinear and QuantizeLinear into kernels of its own, some of them of
integers. ONNX's reference evaluator shares no code with it: it rounds where the file says so, and computes all between
in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats import ExportJob
from fastserve_converters.formats.onnx.files import MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from fastserve_converters.models.model import TracedPart

EXECUTOR = "the same file in ONNX's reference evaluator"
_SAMPLES = 8
"""The evaluator takes 0.2 s for each with all-MiniLM-L6-v2 at 64 tokens."""


def record_fake_quant_reference(job: ExportJob[TracedPart]) -> None:
    """Write beside an artifact of static ranges what the evaluator gives for the job's first samples."""
    from fastserve_converters.formats import min_tokens
    from fastserve_converters.quantization.fake_quant_reference import record_outputs

    few = {name: value[:_SAMPLES] for name, value in job.samples.items()}
    run = Evaluated(job.out / MODEL)
    record_outputs(job.out, job.part, few, run, min_tokens=min_tokens(job), executor=EXECUTOR)


class Evaluated:
    """A model in ONNX's reference evaluator, called with inputs by name."""

    def __init__(self, file: Path) -> None:
        """Read a model of ai.onnx operators."""
        from onnx.reference import ReferenceEvaluator

        self._evaluator = ReferenceEvaluator(str(file))

    def __call__(self, sample: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.floating]]:
        """Return the model's outputs by name."""
        values = self._evaluator.run(None, dict(sample))
        return {name: np.asarray(value) for name, value in zip(self._evaluator.output_names, values, strict=True)}
