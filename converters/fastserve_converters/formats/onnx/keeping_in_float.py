"""Leaving in float what 8-bit activations cost most, until the model is near enough to its float original.

An operator is kept in float by taking QuantizeLinear and DequantizeLinear off its inputs, so that it multiplies the
weights that SmoothQuant made. What is worth most is found by keeping each operator in float alone. NNCF's own accuracy
control is of no use here: NNCF 3.4.0 puts back the weights from before SmoothQuant and leaves its factors on the input.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.artifact import KEPT_IN_FLOAT
from fastserve_converters.formats.onnx.quantizers import QuantizedGroup, quantized_groups
from fastserve_converters.models.model import TracedPart
from fastserve_converters.models.outputs import Outputs, joined_outputs
from fastserve_converters.models.samples import Samples, first, single_samples

if TYPE_CHECKING:
    import onnx_ir as ir

MIN_ACCURACY = 0.99
"""Of the outputs; see `accuracy`. all-MiniLM-L6-v2 has 0.996 with nothing kept in float."""
_MAX_KEPT_IN_FLOAT = 8
_RANKING_SAMPLES = 16


@dataclass(frozen=True)
class KeptInFloat:
    """What was left in float, and what for.

    Attributes:
        min_accuracy: the bar that decides whether anything is kept in float.
        quantized_accuracy: with all operators quantized.
        accuracy: of what ships.
        samples: so many held-out samples both rest on.
        kept_in_float: torch modules whose operators were left in float, those that gain most first.
    """

    min_accuracy: float
    quantized_accuracy: float
    accuracy: float
    samples: int
    kept_in_float: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write it beside an artifact."""
        (folder / KEPT_IN_FLOAT).write_text(json.dumps(asdict(self), indent=1))


def keep_in_float(
    model: ir.Model,
    original: ir.Model,
    part: TracedPart,
    samples: Samples,
    modules: Mapping[str, str],
    min_accuracy: float = MIN_ACCURACY,
) -> KeptInFloat:
    """Keep the costliest operators in float, in place, until the accuracy is reached; at most eight groups of them.

    Args:
        model: quantized, with weights in float in front of their QuantizeLinear.
        original: the float model that it was made from.
        part: what that was exported from.
        samples: held-out inputs by name, shape [samples, ...], texts padded.
        modules: tensor → torch module, for the names of operators that no layer has.
        min_accuracy: what the model must have on the samples; see `accuracy`.

    Returns:
        What was kept in float. The bar may be missed still: then this brought it nearest.
    """
    expected = outputs(original, part, samples)

    def score(count: int) -> float:
        return accuracy(first(expected, count), outputs(model, part, first(samples, count)))

    count = len(next(iter(expected.values())))
    before = best = score(count)
    kept: list[QuantizedGroup] = []
    if before < min_accuracy:
        ranked = _ranked(quantized_groups(model, original, modules), lambda: score(_RANKING_SAMPLES))
        for group in ranked[:_MAX_KEPT_IN_FLOAT]:
            group.keep_in_float()
            found = score(count)
            if not found > best:
                group.quantize()
                continue
            best = found
            kept.append(group)
            if best >= min_accuracy:
                break
    names = tuple(dict.fromkeys(name for group in kept for name in group.modules))
    return KeptInFloat(min_accuracy, before, best, count, names)


def accuracy(expected: Outputs, actual: Outputs) -> float:
    """Return 1 less half the noise's power over the signal's: the mean cosine where outputs are unit vectors.

    Of several outputs that of the worst.
    """
    return min(_accuracy(values, actual[name]) for name, values in expected.items())


def _accuracy(expected: NDArray[np.floating], actual: NDArray[np.floating]) -> float:
    noise, signal = (float(np.square(values, dtype=np.float64).sum()) for values in (actual - expected, expected))
    return 1 - noise / 2 / max(signal, 1e-12)


def outputs(model: ir.Model, part: TracedPart, samples: Samples) -> dict[str, NDArray[np.float32]]:
    """Run a model of a part; its outputs are as the part's `by_sample` gives them."""
    import onnx_ir as ir
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Constants are folded, which are rounded in every call else; further ones bring kernels that processors differ in.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = ((dict(zip(names, session.run(None, s), strict=True)), s) for s in single_samples(samples))
    return joined_outputs(part.by_sample(found, s) for found, s in results)


def _ranked(groups: Iterable[QuantizedGroup], score: Callable[[], float]) -> list[QuantizedGroup]:
    """Return groups in the order of what each gains alone in float, the most first."""
    gained: list[tuple[float, QuantizedGroup]] = []
    for group in groups:
        group.keep_in_float()
        gained.append((score(), group))
        group.quantize()
    return [group for _, group in sorted(gained, key=lambda pair: -pair[0])]
