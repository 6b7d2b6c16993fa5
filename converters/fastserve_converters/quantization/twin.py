"""Whether an artifact computes what its integers say: its outputs beside those of the same quantized model elsewhere.

Apart from what quantization itself loses, which the comparison with the reference shows. Where ranges are found at run
time, the twin is the model in PyTorch (`fake_quant`). Where they are set beforehand, only the artifact knows them: its
exporter runs the same graph on an executor that is trusted, and leaves the outputs beside the artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.artifact import TWIN_OUTPUTS
from fastserve_converters.quantization.calibration import Samples, single_samples

SAMPLES = 16
"""As many are run on a trusted executor: some take a second for each."""


def record_outputs(
    folder: Path,
    samples: Samples,
    run: Callable[[Mapping[str, NDArray[np.generic]]], NDArray[np.floating]],
    *,
    least_tokens: int | None,
    executor: str,
) -> None:
    """Write what a trusted executor gives beside an artifact.

    Args:
        folder: the artifact's.
        samples: inputs, padded; the first `SAMPLES` are run.
        run: gives the model's one output for one sample, shape [1, ...].
        least_tokens: cut samples to their own tokens, at least so many; None leaves the padding.
        executor: what it is, for people.
    """
    few = {name: value[:SAMPLES] for name, value in samples.items()}
    cut = single_samples(few, least_tokens=least_tokens)
    outputs = np.concatenate([by_sample(run(sample), sample) for sample in cut])
    np.savez(folder / TWIN_OUTPUTS, outputs=outputs, executor=np.array(executor))


def read_outputs(folder: Path) -> tuple[NDArray[np.float32], str] | None:
    """Return what `record_outputs` wrote: outputs, shape [samples, ...], and the executor; None where it did not."""
    if not (folder / TWIN_OUTPUTS).is_file():
        return None
    with np.load(folder / TWIN_OUTPUTS, allow_pickle=False) as arrays:
        return arrays["outputs"], str(arrays["executor"])


def comparison(
    expected: NDArray[np.generic], actual: NDArray[np.generic], samples: Samples, executor: str
) -> dict[str, Any]:
    """Return how near an artifact's outputs come to its twin's.

    Args:
        expected: the twin's, by sample.
        actual: the artifact's, shape [samples, ...].
        samples: the inputs of both, padded.
        executor: what ran the twin.

    Returns:
        `sqnr_db` (None where they are equal), `least_cosine`, the number of `samples`, and the `executor`.
    """
    from fastserve_runtime.conformance.metrics import row_cosines, sqnr_db

    values = by_sample(np.asarray(actual, np.float32), samples)
    wanted = np.asarray(expected, np.float32)
    found = sqnr_db(wanted, values)
    return {
        "sqnr_db": float(found) if np.isfinite(found) else None,
        "least_cosine": float(row_cosines(wanted, values).min()),
        "samples": len(values),
        "executor": executor,
    }


def by_sample(output: NDArray[np.floating], samples: Samples) -> NDArray[np.float32]:
    """Return outputs of one shape for samples of any length: those by token are averaged over the sample's tokens."""
    values = np.asarray(output, np.float32)
    if values.ndim != 3:
        return values
    mask = np.asarray(samples["attention_mask"], np.float32)[..., None]
    averaged: NDArray[np.float32] = (values * mask).sum(1) / mask.sum(1)
    return averaged
