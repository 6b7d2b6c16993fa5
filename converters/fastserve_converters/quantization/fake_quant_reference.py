"""Whether an artifact computes what its weights say: its outputs beside those of the same quantized model elsewhere.

Apart from what quantization itself loses, which the comparison with the reference shows. Where ranges are found at run
time, the fake-quant reference is the model in PyTorch (`fake_quant`). Where they are set beforehand, only the artifact
knows them: its exporter runs the same graph on an executor that is trusted, and leaves the outputs beside the artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.artifact import FAKE_QUANT_OUTPUTS, NOT_FINITE_DB
from fastserve_converters.models.model import TracedPart
from fastserve_converters.models.outputs import Outputs, joined_outputs
from fastserve_converters.models.samples import Samples, first, single_samples

_OUTPUT = "output:"
SAMPLES = 16
"""As many are run on a trusted executor: some take a second for each."""


def record_outputs(
    folder: Path,
    part: TracedPart,
    samples: Samples,
    run: Callable[[Mapping[str, NDArray[np.generic]]], Outputs],
    *,
    min_tokens: int | None,
    executor: str,
) -> None:
    """Write what a trusted executor gives beside an artifact.

    Args:
        folder: the artifact's.
        part: what was exported.
        samples: inputs, padded; the first `SAMPLES` are run.
        run: gives the model's outputs for one sample, shape [1, ...].
        min_tokens: cut samples to their own tokens, at least so many; None leaves the padding.
        executor: what it is, for people.
    """
    cut = single_samples(first(samples, SAMPLES), min_tokens=min_tokens)
    outputs = joined_outputs(part.by_sample(run(sample), sample) for sample in cut)
    arrays: dict[str, Any] = {f"{_OUTPUT}{name}": values for name, values in outputs.items()}
    np.savez(folder / FAKE_QUANT_OUTPUTS, **arrays, executor=np.array(executor))


def read_outputs(folder: Path) -> tuple[dict[str, NDArray[np.float32]], str] | None:
    """Return what `record_outputs` wrote: outputs by name, shape [samples, ...], and the executor, or None."""
    if not (folder / FAKE_QUANT_OUTPUTS).is_file():
        return None
    with np.load(folder / FAKE_QUANT_OUTPUTS, allow_pickle=False) as arrays:
        found = {n.removeprefix(_OUTPUT): arrays[n] for n in arrays.files if n.startswith(_OUTPUT)}
        return found, str(arrays["executor"])


def comparison(expected: Outputs, actual: Outputs, executor: str) -> dict[str, Any]:
    """Return how near an artifact's outputs come to its fake-quant reference's; of several outputs, the farthest.

    Args:
        expected: the fake-quant reference's, as its part's `by_sample` gives them.
        actual: the artifact's, likewise.
        executor: what ran the fake-quant reference.

    Returns:
        `sqnr_db` (None where they are equal, `NOT_FINITE_DB` where they cannot be compared, since values are not
        finite), `min_cosine`, the number of `samples`, and the `executor`.
    """
    from fastserve_runtime.conformance.metrics import row_cosines, sqnr_db

    pairs = [(np.asarray(v, np.float32), np.asarray(actual[name], np.float32)) for name, v in expected.items()]
    found = min(sqnr_db(wanted, given) for wanted, given in pairs)
    return {
        "sqnr_db": None if found == np.inf else max(float(found), NOT_FINITE_DB),
        "min_cosine": min(float(row_cosines(wanted, given).min()) for wanted, given in pairs),
        "samples": len(pairs[0][0]),
        "executor": executor,
    }
