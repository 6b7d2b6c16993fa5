"""How much every layer of an artifact lost: the signal-to-quantization-noise ratio of its output, against fp32."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.artifact import LAYER_SQNR
from fastserve_converters.models.samples import Samples, first, single_samples

SAMPLES = 8

LayerOutputs = Mapping[str, Sequence[NDArray[np.floating]]]
"""Torch module name → its output for every sample, each of shape [..., tokens, channels]."""


def reference_layer_outputs(
    module: torch.nn.Module, layers: Sequence[str], samples: Samples, *, min_tokens: int | None
) -> dict[str, list[NDArray[np.floating]]]:
    """Return what layers of the model give in fp32, sample by sample.

    Args:
        module: the exportable model.
        layers: their names.
        samples: inputs; the first `SAMPLES` are run.
        min_tokens: cut samples to their own tokens, at least so many; None leaves the padding.
    """
    outputs: dict[str, list[NDArray[np.floating]]] = {name: [] for name in layers}
    with ExitStack() as hooks, torch.no_grad():
        for name in layers:
            keep = outputs[name]
            handle = module.get_submodule(name).register_forward_hook(
                lambda _, __, out, keep=keep: keep.append(out.numpy().copy())
            )
            hooks.callback(handle.remove)
        for sample in single_samples(first(samples, SAMPLES), min_tokens=min_tokens):
            module(**{name: torch.from_numpy(value) for name, value in sample.items()})
    return outputs


def record_layer_sqnr(
    folder: Path,
    module: torch.nn.Module,
    layers: Collection[str],
    samples: Samples,
    run: Callable[[Mapping[str, NDArray[np.generic]]], Mapping[str, NDArray[np.floating]]],
    *,
    min_tokens: int | None,
    source: str,
) -> None:
    """Write beside an artifact how much each of its layers lost.

    Args:
        folder: the artifact's.
        module: the exportable model, which gives the truth.
        layers: torch module names of those that are looked at.
        samples: inputs; the first `SAMPLES` are run.
        run: gives the outputs of the artifact's layers, by torch module name, for one sample.
        min_tokens: cut samples to their own tokens, at least so many; None leaves the padding.
        source: where `run` reads them, for people.
    """
    expected = reference_layer_outputs(module, list(layers), samples, min_tokens=min_tokens)
    actual: dict[str, list[NDArray[np.floating]]] = defaultdict(list)
    for sample in single_samples(first(samples, SAMPLES), min_tokens=min_tokens):
        for name, value in run(sample).items():
            actual[name].append(value)
    write_layer_sqnr(folder, sqnr_by_layer(expected, actual), source)


def sqnr_by_layer(expected: LayerOutputs, actual: LayerOutputs) -> dict[str, float]:
    """Return the SQNR in dB of every layer that both have, over all samples; infinity where they are equal.

    Shapes may differ by axes of 1 and by batch axes folded into others; a layer whose sizes differ is left out.
    """
    found = {}
    for name in expected:
        if name not in actual or len(expected[name]) != len(actual[name]):
            continue
        left = [np.asarray(v, np.float64).ravel() for v in expected[name]]
        right = [np.asarray(v, np.float64).ravel() for v in actual[name]]
        if any(a.shape != b.shape for a, b in zip(left, right, strict=True)):
            continue
        signal = sum(float(np.square(a).sum()) for a in left)
        noise = sum(float(np.square(a - b).sum()) for a, b in zip(left, right, strict=True))
        found[name] = (
            float(10 * np.log10(signal / noise)) if noise and signal else float("inf" if not noise else "-inf")
        )
    return found


def write_layer_sqnr(folder: Path, by_layer: Mapping[str, float], source: str) -> None:
    """Write the figures beside an artifact, with where they come from; infinite ones as null."""
    document = {
        "source": source,
        "samples": SAMPLES,
        "sqnr_db": {name: value if np.isfinite(value) else None for name, value in by_layer.items()},
    }
    (folder / LAYER_SQNR).write_text(json.dumps(document, indent=1))
