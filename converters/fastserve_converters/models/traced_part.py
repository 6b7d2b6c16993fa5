"""A part that `torch.export` takes: an encoder, a vision model, any module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.models.dynamic_shapes import dynamic_shapes
from fastserve_converters.models.outputs import Outputs, joined_outputs
from fastserve_converters.models.samples import Samples, batch_order, batches
from fastserve_converters.models.stages import run
from fastserve_runtime.bundle.axes import BATCH, TOKENS, batch_place
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.sessions.lengths import MASK
from fastserve_runtime.sessions.sample_axes import as_call, as_samples

if TYPE_CHECKING:
    import torch

    from fastserve_converters.precisions import Activations

Weight = TypeVar("Weight")
_COMPARED_SAMPLES = 64


@dataclass(frozen=True)
class TracedPart:
    """A part that `torch.export` takes.

    Attributes:
        module: in eval mode; takes its inputs by name and gives a dictionary of outputs by name.
        example: inputs by name, in the order of the signature. What is fixed has its sizes.
        signature: names, dtypes and dims of inputs and outputs; an axis that a precision may leave open is a
            `SymbolicDim` here. Of an output with an axis of tokens, the values of padding say nothing; the part has an
            input `attention_mask` then.
        batch: how many samples PyTorch may run at once, along the first axis.
        keeps_axes: whether the open axes are the user's own, so that every precision leaves them open.
        name: of the part, and so of its graph in an artifact.
    """

    form: ClassVar[Literal["traced"]] = "traced"
    max_scored: ClassVar[int] = 64
    """As many calibration samples are run when layers are scored."""
    also_compared: ClassVar[tuple[Activations, ...]] = ()
    """What an artifact's layers may multiply with instead of what its precision says."""

    module: torch.nn.Module
    example: Mapping[str, torch.Tensor]
    signature: Signature
    batch: int = 1
    keeps_axes: bool = False
    name: str = "main"

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The module as `torch.export` traces it, with the signature's axes open."""
        import torch

        shapes = dynamic_shapes(self.signature)
        return torch.export.export(self.module, (), dict(self.example), dynamic_shapes=shapes)

    @cached_property
    def fixed(self) -> TracedPart:
        """The same part with no axis open: all tensors have the sizes of the example."""
        import torch

        with torch.no_grad():
            outputs = self.module(**self.example)
        signature = Signature(
            _with_shapes(self.signature.inputs, self.example), _with_shapes(self.signature.outputs, outputs)
        )
        return replace(self, signature=signature)

    def with_axes(self, *, is_open: bool) -> TracedPart:
        """Return the part as a precision wants it: its axes open, or fixed at the example's sizes."""
        return self if is_open or self.keeps_axes else self.fixed

    @property
    def is_batch_first(self) -> bool:
        """Whether all inputs and outputs have their samples along the first axis."""
        return all(batch_place(spec) == 0 for spec in (*self.signature.inputs, *self.signature.outputs))

    @cached_property
    def layers(self) -> dict[str, str]:
        """Names of the layers that can be quantized → `linear` or `embedding`, whose scheme they have."""
        from fastserve_converters.models.layer_groups import quantizable_layers

        return quantizable_layers(self.module)

    def multiplies(self, layer: str) -> str | None:
        """Return the linear layer that multiplies with a stored weight; None where it is only looked up."""
        from fastserve_converters.models.layer_groups import LINEAR

        return layer if self.layers[layer] == LINEAR else None

    def expanded(self, weights: Mapping[str, Weight]) -> Mapping[str, Weight]:
        """Return weights with those of layers that have none of their own."""
        return weights

    @cached_property
    def stages(self) -> tuple[Callable[[Any], Any], ...]:
        """What the part does one after another, from a state to the next: the whole module at once."""
        return (lambda batch: self.module(**batch),)

    def first_states(self, samples: Samples) -> list[dict[str, torch.Tensor]]:
        """Return what the first stage takes, a batch each: texts of like length, without the padding beyond them."""
        import torch

        calls = (as_call(batch, self.signature) for batch in batches(samples, self.batch))
        return [{name: torch.from_numpy(value) for name, value in call.items()} for call in calls]

    def results(self, states: Iterable[Any], samples: Samples) -> dict[str, NDArray[np.float32]]:
        """Return outputs as `by_sample` gives them, in the order of the samples.

        Args:
            states: what the last stage gave for each batch.
            samples: all inputs.
        """
        given = batches(samples, self.batch)
        parts = [
            self.by_sample(as_samples({n: v.numpy() for n, v in outputs.items()}, self.signature), batch)
            for outputs, batch in zip(states, given, strict=True)
        ]
        order = batch_order(samples)
        joined = joined_outputs(parts)
        ordered = {name: np.empty_like(values) for name, values in joined.items()}
        for name, values in joined.items():
            ordered[name][order] = values
        return ordered

    def compared(self, evaluation: int) -> slice:  # noqa: ARG002 -- a cached part needs it
        """Return which inputs of a reference an artifact is compared on with its fake-quant reference.

        Args:
            evaluation: how many of them are evaluation samples; the golden ones follow.
        """
        return slice(_COMPARED_SAMPLES)

    def evaluate(self, inputs: Samples) -> dict[str, NDArray[np.float32]]:
        """Return the outputs for inputs of a reference, as `by_sample` gives them."""
        return run(self, inputs)

    def by_sample(self, outputs: Mapping[str, NDArray[Any]], inputs: Samples) -> dict[str, NDArray[np.float32]]:
        """Return outputs in one shape for samples of any length, so that they can be compared.

        Args:
            outputs: of the part, or of an artifact of it, shape [n, ...]; further ones are left out.
            inputs: of the same samples.

        Returns:
            By name. Of vectors by token their mean over a sample's tokens; values by token with zeros in the place of
            padding, up to the example's length; others as they are.
        """
        return {
            spec.name: self._by_sample(spec, np.asarray(outputs[spec.name], np.float32), inputs)
            for spec in self.signature.outputs
        }

    def loss(self, truth: Outputs, found: Outputs) -> float:
        """Return how much outputs lost: their squared error relative to their own energy, the sum over outputs.

        Args:
            truth: as `results` gives them.
            found: likewise, with layers quantized.
        """
        losses = []
        for name, values in truth.items():
            exact = np.asarray(values, np.float64)
            energy = float(np.square(exact).sum()) or 1.0
            losses.append(float(np.square(found[name] - exact).sum()) / energy)
        return sum(losses)

    def _by_sample(self, spec: TensorSpec, values: NDArray[np.float32], inputs: Samples) -> NDArray[np.float32]:
        if TOKENS not in spec.axes:
            return values
        mask = np.asarray(inputs[MASK], np.float32)
        if spec.axes == (BATCH, TOKENS):
            width = self.example[MASK].shape[1]
            return np.pad(values * mask, ((0, 0), (0, width - values.shape[1])))
        averaged: NDArray[np.float32] = (values * mask[..., None]).sum(1) / mask.sum(1)[..., None]
        return averaged


def _with_shapes(specs: Iterable[TensorSpec], tensors: Mapping[str, torch.Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, dims=tuple(tensors[spec.name].shape)) for spec in specs)
