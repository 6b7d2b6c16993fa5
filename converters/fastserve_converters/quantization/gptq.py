"""GPTQ: rounding a layer column by column, each column's error made good by those not yet rounded.

After Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
(arXiv 2210.17323). The columns that matter most are rounded first; groups are neighbouring columns all the same, as the
kernels want them, so every group's quantization parameters are set beforehand, and refitted behind (`descent`). Layers
are rounded in the order in which they run, and see the inputs that those before them, already rounded, give. What a
part computes before a stage is kept, so that a decoder runs a few times and not once for every layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.models.layer_groups import (
    by_input,
    layer_calls,
    quantizable_layers,
    watched_inputs,
    weight_of,
)
from fastserve_converters.models.model import Part
from fastserve_converters.models.samples import Samples
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.descent import improved
from fastserve_converters.quantization.weights import quantization_parameters, quantized_limits
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.sessions.lengths import MASK

_DAMPING = 0.01
"""Share of the mean that is added to the Hessian's diagonal, as in the paper."""
_BLOCK = 64
"""Columns after which the errors are spread to all later ones at once."""
_GROUPS_A_PASS = 4
"""So many inputs are looked at in one pass of a part that is one stage: those of one layer of an encoder. A stage among
others is cheap to run again, and looks at one."""
_KEPT = 2
"""So many precisions' stages before the last one stay in memory."""


@dataclass(frozen=True)
class _Group:
    """Layers that run on one input.

    Attributes:
        stored: names of their weights.
        layers: names of the linear layers that multiply with these.
        runs_once: whether none of them is called a second time.
    """

    stored: tuple[str, ...]
    layers: tuple[str, ...]
    runs_once: bool


@dataclass(frozen=True)
class _Rounded:
    """What was found for all stages but the last, and what that one is then given, a batch each."""

    weights: Mapping[str, QuantizedWeight]
    states: Sequence[Any]


class Rounder:
    """Rounds a part's layers. What it found before the last stage serves every precision that is the same there."""

    def __init__(self, part: Part, samples: Samples) -> None:
        """Take a part and calibration inputs."""
        self._part, self._samples = part, samples
        self._calls = layer_calls(part, samples)
        self._known = lru_cache(maxsize=_KEPT)(self._before_last)

    def round(self, schemes: Mapping[str, WeightScheme]) -> dict[str, QuantizedWeight]:
        """Round the weights of linear layers; the part's own are put back at the end.

        Layers that run on the same input, such as query, key and value, are rounded together.

        Args:
            schemes: name of a stored weight → scheme. An embedding that a head multiplies with is rounded by what the
                head is given, since that is where errors cost most; a look-up has no such moments.

        Raises:
            EnvironmentFailure: a layer's input is not finite, with its name.
        """
        last = len(self._part.stages) - 1
        in_last = {name for group in self._groups(schemes).get(last, ()) for name in group.stored}
        before = self._known(tuple((name, scheme) for name, scheme in schemes.items() if name not in in_last))
        found = dict(before.weights)
        with _kept_weights(self._part.module):
            self._round_stage(last, {name: schemes[name] for name in in_last}, before.states, found)
        return found

    def _before_last(self, schemes: tuple[tuple[str, WeightScheme], ...]) -> _Rounded:
        part, found = self._part, dict[str, QuantizedWeight]()
        with _kept_weights(part.module), torch.no_grad():
            states: Sequence[Any] = part.first_states(self._samples)
            for number, stage in enumerate(part.stages[:-1]):
                self._round_stage(number, dict(schemes), states, found)
                states = [stage(state) for state in states]
        return _Rounded(found, states)

    def _round_stage(
        self, number: int, schemes: Mapping[str, WeightScheme], states: Sequence[Any], found: dict[str, QuantizedWeight]
    ) -> None:
        """Round a stage's layers, and leave their rounded weights in the module."""
        part = self._part
        size = _GROUPS_A_PASS if len(part.stages) == 1 else 1
        for groups in _in_runs(self._groups(schemes).get(number, []), size):
            names = [name for group in groups for name in group.layers]
            stops_behind = all(group.runs_once for group in groups)
            moments = second_moments(part, number, names, states, stops_behind=stops_behind)
            for group in groups:
                for stored, layer in zip(group.stored, group.layers, strict=True):
                    weight = weight_of(part.module, layer).numpy()
                    found[stored] = round_layer(weight, moments[layer], schemes[stored])
                    rounded = torch.from_numpy(found[stored].dequantized())
                    part.module.get_submodule(layer).weight = torch.nn.Parameter(rounded, requires_grad=False)

    def _groups(self, schemes: Mapping[str, WeightScheme]) -> dict[int, list[_Group]]:
        """Return the groups of each stage in the order in which they run."""
        stored = {self._part.multiplies(name): name for name in schemes}
        calls = [call for call in self._calls if call.layer in stored]
        groups: dict[int, list[_Group]] = {}
        for group in by_input(calls):
            layers = tuple(call.layer for call in group)
            runs_once = all(sum(name == call.layer for call in calls) == 1 for name in layers)
            groups.setdefault(group[0].stage, []).append(
                _Group(tuple(stored[name] for name in layers), layers, runs_once)
            )
        return groups


def round_layer(weight: NDArray[np.floating], hessian: NDArray[np.float64], scheme: WeightScheme) -> QuantizedWeight:
    """Round one matrix.

    Args:
        weight: shape [rows, columns].
        hessian: second moments of the layer's inputs, shape [columns, columns].
        scheme: how it is quantized.
    """
    rows, columns = weight.shape
    group = scheme.group or columns
    hessian = hessian.copy()
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1.0
    hessian[np.diag_indices(columns)] += _DAMPING * np.diag(hessian).mean()
    importance = np.diag(hessian).astype(np.float32)
    grouped = np.asarray(weight, np.float32).reshape(rows, -1, group)
    scale, zero = quantization_parameters(grouped, scheme, importance.reshape(1, -1, group))
    order = np.argsort(-importance, kind="stable")
    # The upper Cholesky factor of the inverse: row i holds what column i's error asks of the later ones.
    factor = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T.astype(np.float32)
    minimum, maximum = quantized_limits(scheme)
    # A column of the matrix is a row here: what is looked at together lies together.
    work = np.ascontiguousarray(np.asarray(weight, np.float32).T[order])
    steps_of, shift_of = np.ascontiguousarray(scale.T), np.ascontiguousarray(zero.T)
    found = np.empty((columns, rows), np.int8)
    for start in range(0, columns, _BLOCK):
        end = min(start + _BLOCK, columns)
        errors = np.empty((end - start, rows), np.float32)
        for place in range(start, end):
            steps, shift = steps_of[order[place] // group], shift_of[order[place] // group]
            wanted = work[place] - factor[start:place, place] @ errors[: place - start]
            quantized = np.clip(np.rint(wanted / steps) + shift, minimum, maximum)
            found[order[place]] = quantized
            errors[place - start] = (wanted - (quantized - shift) * steps) / factor[place, place]
        work[end:] -= factor[start:end, end:].T @ errors
    values = np.ascontiguousarray(found.T)
    return improved(weight, hessian, QuantizedWeight(values, scale, zero.astype(np.int8), scheme))


class _AllSeen(Exception):
    """Ends a stage's run early."""


def second_moments(
    part: Part, number: int, names: Sequence[str], states: Sequence[Any], *, stops_behind: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Return the second moments of the inputs of layers, over all tokens that are no padding, [columns, columns].

    Args:
        part: of the model.
        number: of the stage that they are in.
        names: linear layers.
        states: what the stage is given, a batch each.
        stops_behind: whether the rest of the stage need not run once all these layers have.

    Raises:
        EnvironmentFailure: an input is not finite, with the layer's name.
    """
    sums: dict[str, torch.Tensor] = {}
    rows: dict[str, int] = {}
    seen: set[str] = set()
    mask = torch.empty(0)

    def collect(name: str, value: torch.Tensor) -> None:
        real = value[mask] if value.shape[:-1] == mask.shape else value.reshape(-1, value.shape[-1])
        if not bool(torch.isfinite(real).all()):
            raise EnvironmentFailure(
                f"The input of the layer '{name}' has values that are not finite on calibration data.",
                "Such a model cannot be quantized; look for the first layer that gives them.",
            )
        # In single precision, how the samples are cut into batches would tip numbers over.
        wide = real.double()
        product = wide.T @ wide
        sums[name] = sums[name] + product if name in sums else product
        if name not in seen:  # a layer that is called again sees the same tokens
            rows[name] = rows.get(name, 0) + len(real)
        seen.add(name)
        if stops_behind and len(seen) == len(names):
            raise _AllSeen

    with watched_inputs(part.module, list(names), collect), torch.no_grad():
        for state in states:
            mask = state[MASK] > 0 if isinstance(state, Mapping) and MASK in state else torch.empty(0)
            seen.clear()
            with suppress(_AllSeen):
                part.stages[number](state)
    return {name: (total / max(1, rows[name])).numpy() for name, total in sums.items()}


@contextmanager
def _kept_weights(module: torch.nn.Module) -> Iterator[None]:
    """Put the weights of a module's layers back at the end of the block."""
    originals = {name: module.get_submodule(name).weight for name in quantizable_layers(module)}
    try:
        yield
    finally:
        for name, weight in originals.items():
            module.get_submodule(name).weight = weight


def _in_runs(groups: Sequence[_Group], count: int) -> Iterator[Sequence[_Group]]:
    for start in range(0, len(groups), count):
        yield groups[start : start + count]
