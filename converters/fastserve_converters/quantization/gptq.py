"""GPTQ: rounding a layer column by column, each column's error made good by those not yet rounded.

After Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
(arXiv 2210.17323). The columns that matter most are rounded first; groups are neighbouring columns all the same, as the
kernels want them, so every group's grid is set beforehand, and refitted behind (`descent`). Layers are rounded in the
order in which they run, and see the inputs that those before them, already rounded, give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.models.samples import Samples, batches, first
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.descent import improved
from fastserve_converters.quantization.weights import QuantizedWeight, grid, grid_limits
from fastserve_runtime.errors import EnvironmentFailure

_DAMPING = 0.01
"""Share of the mean that is added to the Hessian's diagonal, as in the paper."""
_BATCH = 32
_BLOCK = 64
"""Columns after which the errors are spread to all later ones at once."""
_GROUPS_A_PASS = 4
"""So many inputs are looked at in one pass of the model: those of one layer of an encoder."""


def gptq(module: torch.nn.Module, schemes: Mapping[str, WeightScheme], samples: Samples) -> dict[str, QuantizedWeight]:
    """Round linear layers.

    Layers that run on the same input, such as query, key and value, are rounded together.

    Args:
        module: the model in edge form; its weights are put back at the end.
        schemes: layer → scheme.
        samples: calibration inputs.

    Raises:
        EnvironmentFailure: a layer's input is not finite, with its name.
    """
    found: dict[str, QuantizedWeight] = {}
    originals = {name: module.get_submodule(name).weight for name in schemes}
    try:
        calls = _calls(module, list(schemes), samples)
        for names in _joined(_by_input(calls), _GROUPS_A_PASS):
            runs_once = all(sum(name == called for called, _ in calls) == 1 for name in names)
            hessians = layer_hessians(module, names, samples, stops_behind=runs_once)
            for name in names:
                weight = originals[name].detach().numpy()  # type: ignore[operator]
                found[name] = round_layer(weight, hessians[name], schemes[name])
                layer = module.get_submodule(name)
                layer.weight = torch.nn.Parameter(torch.from_numpy(found[name].dequantized()), requires_grad=False)
    finally:
        for name, weight in originals.items():
            module.get_submodule(name).weight = weight
    return found


def round_layer(weight: NDArray[np.floating], hessian: NDArray[np.float64], scheme: WeightScheme) -> QuantizedWeight:
    """Round one matrix.

    Args:
        weight: shape [rows, columns].
        hessian: second moments of the layer's inputs, shape [columns, columns].
        scheme: the grid.
    """
    rows, columns = weight.shape
    group = scheme.group or columns
    hessian = hessian.copy()
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1.0
    hessian[np.diag_indices(columns)] += _DAMPING * np.diag(hessian).mean()
    importance = np.diag(hessian).astype(np.float32)
    grouped = np.asarray(weight, np.float32).reshape(rows, -1, group)
    scale, zero = grid(grouped, scheme, importance.reshape(1, -1, group))
    order = np.argsort(-importance, kind="stable")
    # The upper Cholesky factor of the inverse: row i holds what column i's error asks of the later ones.
    factor = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T.astype(np.float32)
    least, most = grid_limits(scheme)
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
            integers = np.clip(np.rint(wanted / steps) + shift, least, most)
            found[order[place]] = integers
            errors[place - start] = (wanted - (integers - shift) * steps) / factor[place, place]
        work[end:] -= factor[start:end, end:].T @ errors
    values = np.ascontiguousarray(found.T)
    return improved(weight, hessian, QuantizedWeight(values, scale, zero.astype(np.int8), scheme))


def layer_hessians(
    module: torch.nn.Module, names: list[str], samples: Samples, *, stops_behind: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Return the second moments of the inputs of layers, over all tokens that are no padding, [columns, columns].

    Args:
        module: the model in edge form.
        names: linear layers.
        samples: inputs.
        stops_behind: whether the rest of the model need not run once all these layers have.

    Raises:
        EnvironmentFailure: an input is not finite, with the layer's name.
    """
    sums: dict[str, torch.Tensor] = {}
    seen: set[str] = set()
    mask = torch.empty(0)

    def collect(name: str, value: torch.Tensor) -> None:
        real = value[mask] if value.shape[:-1] == mask.shape else value.reshape(-1, value.shape[-1])
        if not bool(torch.isfinite(real).all()):
            raise EnvironmentFailure(
                f"The input of the layer '{name}' has values that are not finite on calibration data.",
                "Such a model cannot be quantized; look for the first layer that gives them.",
            )
        product = (real.T @ real).double()
        sums[name] = sums[name] + product if name in sums else product
        seen.add(name)
        if stops_behind and len(seen) == len(names):
            raise _AllSeen

    with watched_inputs(module, names, collect), torch.no_grad():
        for batch in batches(samples, _BATCH):
            tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
            mask = tensors["attention_mask"] > 0
            seen.clear()
            with suppress(_AllSeen):
                module(**tensors)
    count = max(1, int(np.asarray(samples["attention_mask"]).sum()))
    return {name: (total / count).numpy() for name, total in sums.items()}


@contextmanager
def watched_inputs(
    module: torch.nn.Module, names: list[str], see: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Call `see(name, input)` whenever one of the layers runs inside the block."""
    hooks = [
        module.get_submodule(name).register_forward_pre_hook(lambda _, given, name=name: see(name, given[0]))
        for name in names
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def layers_by_input(module: torch.nn.Module, layers: list[str], samples: Samples) -> list[list[str]]:
    """Return layers in the order in which they run, those that take one input (query, key, value) together."""
    return _by_input(_calls(module, layers, samples))


class _AllSeen(Exception):
    """Ends a model's run early."""


def _calls(module: torch.nn.Module, layers: list[str], samples: Samples) -> list[tuple[str, torch.Tensor]]:
    """Return the calls of layers on the first sample, in order: name and input. A shared layer is called often."""
    calls: list[tuple[str, torch.Tensor]] = []
    with watched_inputs(module, layers, lambda name, value: calls.append((name, value))), torch.no_grad():
        sample = next(batches(first(samples, 1), 1))
        module(**{name: torch.from_numpy(value) for name, value in sample.items()})
    return calls


def _joined(groups: list[list[str]], count: int) -> Iterator[list[str]]:
    for start in range(0, len(groups), count):
        yield [name for group in groups[start : start + count] for name in group]


def _by_input(calls: list[tuple[str, torch.Tensor]]) -> list[list[str]]:
    groups: list[list[str]] = []
    last: torch.Tensor | None = None
    for name, value in calls:
        if any(name in group for group in groups):
            continue
        if value is last:
            groups[-1].append(name)
        else:
            groups.append([name])
        last = value
    return groups
