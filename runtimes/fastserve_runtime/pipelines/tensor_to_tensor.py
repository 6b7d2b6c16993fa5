"""Task `tensor-to-tensor`: any model, by its named tensors.

The name follows the Hub's, which call a task by what goes in and what comes out (`image-to-text`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.raw_inputs import TENSORS
from fastserve_runtime.bundle.task_checks import not_of_task
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.errors import InputError, UsageError, one_line
from fastserve_runtime.preprocessors.kinds.tensors import Tensors
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.conformance.comparison import Comparison
    from fastserve_runtime.sessions.session import Tensor

    Arrays = Mapping[str, Tensor]

TASK = "tensor-to-tensor"
OUTPUT_KINDS: Mapping[str, str] = {}
DEFAULT_OUTPUT_KIND = "tensor"
"""By which policies outputs of any name are judged."""
QUALITY_NAME = "worst output's kept energy"
ROUTE = "/v1/tensors"
RUN_MODULE = "fastserve_runtime.cli.tensor_run"
_INPUT = "input"
_GIVE = 'give {"input": {name: nested lists, samples along the first axis}}.'
SQNR = "SQNR in dB"
RELATIVE_ERROR = "relative error"


class TensorToTensor(ClosedAtEnd):
    """Called with named arrays, returns named arrays; samples lie along the first axis of each."""

    task = TASK

    def __init__(self, session: Session) -> None:
        self.session = session

    def __call__(self, inputs: Arrays) -> dict[str, Tensor]:
        """Run the model on one sample or several.

        Args:
            inputs: an array for every input of the model, shape [samples, ...]. Where an input has a batch axis, the
                samples are in its place; where it has none, the rest of the shape is the input's.

        Returns:
            An array for every output, samples along the first axis too.

        Raises:
            InputError: an input is missing or unknown, has no samples or others have another number of them, or is of
                a shape or type that the model does not take.
        """
        import numpy as np

        from fastserve_runtime.sessions.batching import run_samples

        given = {name: np.asarray(value) for name, value in inputs.items()}
        self._check(given)
        return run_samples(self.session, given)

    def close(self) -> None:
        """Let go of the model."""
        self.session.close()

    def _check(self, given: Arrays) -> None:
        wanted = [spec.name for spec in next(iter(self.session.graphs.values())).inputs]
        if set(given) != set(wanted):
            missing, unknown = (sorted(a - b) for a, b in ((set(wanted), set(given)), (set(given), set(wanted))))
            raise InputError(
                f"The inputs given are {', '.join(sorted(given)) or 'none'}; the model takes {', '.join(wanted)}.",
                f"{'Add' if missing else 'Leave out'}: {', '.join(missing or unknown)}.",
            )
        counts = {name: len(value) if value.ndim else 0 for name, value in given.items()}
        if 0 in counts.values() or len(set(counts.values())) != 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise InputError(
                f"The inputs have other numbers of samples along their first axis: {told}.",
                "Give each the same, at least 1; a single sample too has a first axis, of 1.",
            )


def open_pipeline(
    session: Session,
    preprocessor: Tensors,  # noqa: ARG001 -- the same for every task
    settings: Mapping[str, Any],  # noqa: ARG001
) -> TensorToTensor:
    """Make the pipeline of this task."""
    return TensorToTensor(session)


def served(pipeline: TensorToTensor, document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Run a request's samples: `input` has nested lists by the input's name, samples along their first axis.

    Raises:
        UsageError: a field is unknown, or `input` is no such object.
        InputError: its lists do not fit the model.
    """
    import numpy as np

    unknown = sorted(document.keys() - {_INPUT})
    if unknown:
        raise UsageError(f"'{unknown[0]:.60}' is not a field of a request for tensors.", f"Leave it out; {_GIVE}")
    given = document.get(_INPUT)
    if not isinstance(given, Mapping) or not given:
        raise UsageError(f"'{_INPUT}' is {given!r:.60}.", f"{_GIVE[:1].upper()}{_GIVE[1:]}")
    arrays = {}
    for name, value in given.items():
        try:
            arrays[str(name)] = np.asarray(value)
        except ValueError as error:  # lists of other lengths
            raise InputError(
                f"The input '{name:.60}' is no array: {one_line(error)}.", "Give one shape to all."
            ) from error
    outputs = pipeline(arrays)
    for row in range(len(next(iter(outputs.values())))):
        yield {"outputs": {name: json_values(value[row].tolist()) for name, value in outputs.items()}}


def json_values(value: Any) -> Any:
    """Return nested lists with null for numbers that JSON does not have."""
    if isinstance(value, list):
        return [json_values(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model takes something else than tensors, or whose variants differ in what they take.

    Raises:
        BundleError: naming what it takes.
    """
    if manifest.preprocessing.kind != TENSORS:
        raise not_of_task(manifest, f"its model takes what '{manifest.preprocessing.kind:.60}' makes")
    names = {tuple(t.name for graph in v.graphs.values() for t in graph.signature.inputs) for v in manifest.variants}
    if len(names) > 1:
        raise not_of_task(manifest, "its variants take inputs of different names")


def quality(compared: Comparison) -> Quality:
    """Return how much of its signal the worst output keeps: 1 less the energy of its error by its own energy.

    That is the signal-to-quantization-noise ratio on a scale that ends at 1: 10 dB are 0.9, 20 dB 0.99, 30 dB 0.999. Of
    integers and truth values it is the share of those that are equal. The interval is a bootstrap over samples.
    """
    import numpy as np

    worst: Quality | None = None
    for name, values in compared.reference.items():
        found = _kept(name, np.asarray(values), np.asarray(compared.actual[name]), compared.seed)
        if worst is None or found.value < worst.value:
            worst = found
    assert worst is not None
    return worst


task_metric = quality
"""What `conform` judges."""


def _kept(name: str, reference: Tensor, actual: Tensor, seed: int) -> Quality:
    import numpy as np

    from fastserve_runtime.conformance.metrics import bootstrap

    count = len(reference)
    if reference.dtype.kind in "iub":
        lost = (reference != actual).reshape(count, -1).mean(1)
        signal = np.ones(count)
    else:
        left, right = np.asarray(reference, np.float64), np.asarray(actual, np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            lost = np.square(left - right).reshape(count, -1).sum(1)
        signal = np.square(left).reshape(count, -1).sum(1)
        # A value that is not finite is worth less than none at all.
        lost = np.where(np.isfinite(lost), lost, np.inf)

    def kept(rows: NDArray[np.int64]) -> float:
        noise, energy = float(lost[rows].sum()), float(signal[rows].sum())
        if noise == 0:
            return 1.0
        return max(0.0, 1 - noise / energy) if energy else 0.0

    value = kept(np.arange(count))
    interval = bootstrap(value, count, kept, seed=seed, resamples=1000, confidence=0.95)
    ratio = 1 - value
    beside = {RELATIVE_ERROR: float(np.sqrt(ratio))}
    if ratio > 0:
        beside[SQNR] = float(-10 * np.log10(ratio))
    return Quality(f"{QUALITY_NAME} ({name})", interval.value, interval.low, interval.high, count, beside)
