"""A model as all formats take it: named parts, each in one of two forms.

A *traced* part is a module that `torch.export` takes: an encoder, a vision model, any module. A *cached* part is
autoregressive: it sees one token after another, and the format decides how it attends and keeps its cache. A model of
texts alone has one part; one that reads an input once and then generates has a part of each form.

What is done with a part, such as scoring its layers, rounding them, or comparing an artifact, asks the part for what it
needs and not what kind of model it is of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.models.dynamic_shapes import dynamic_shapes
from fastserve_converters.models.samples import Samples, batch_order, batches
from fastserve_runtime.bundle.axes import BATCH, TOKENS
from fastserve_runtime.bundle.manifest import Signature, TensorSpec
from fastserve_runtime.sessions.lengths import MASK

if TYPE_CHECKING:
    import torch

Form = Literal["traced", "cached"]

Outputs = Mapping[str, NDArray[np.floating]]
"""What a part gives, by name."""


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
        name: of the part, and so of its graph in an artifact.
    """

    form: ClassVar[Form] = "traced"

    module: torch.nn.Module
    example: Mapping[str, torch.Tensor]
    signature: Signature
    batch: int = 1
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
        return self if is_open else self.fixed

    def run(self, samples: Samples) -> dict[str, NDArray[np.float32]]:
        """Return the outputs for all samples, in their order, as `by_sample` gives them.

        Texts of like length go together without the padding beyond them.
        """
        import torch

        results = []
        with torch.no_grad():
            for batch in batches(samples, self.batch):
                outputs = self.module(**{name: torch.from_numpy(value) for name, value in batch.items()})
                results.append(self.by_sample({name: value.numpy() for name, value in outputs.items()}, batch))
        order = batch_order(samples)
        joined = joined_outputs(results)
        ordered = {name: np.empty_like(values) for name, values in joined.items()}
        for name, values in joined.items():
            ordered[name][order] = values
        return ordered

    def by_sample(self, outputs: Outputs, inputs: Samples) -> dict[str, NDArray[np.float32]]:
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
            truth: as `run` gives them.
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


Part = TracedPart
"""A part in either form."""


@dataclass(frozen=True)
class Model:
    """What is exported.

    Attributes:
        parts: by name, in the order in which they run.
    """

    parts: Mapping[str, Part]

    @property
    def only_part(self) -> Part:
        """The part of a model that has one."""
        (part,) = self.parts.values()
        return part


def joined_outputs(parts: Iterable[Outputs]) -> dict[str, NDArray[np.float32]]:
    """Return outputs of several samples, one behind the other, shape [samples, ...] each."""
    listed = list(parts)
    return {name: np.concatenate([np.asarray(part[name], np.float32) for part in listed]) for name in listed[0]}


def _with_shapes(specs: Iterable[TensorSpec], tensors: Mapping[str, torch.Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, dims=tuple(tensors[spec.name].shape)) for spec in specs)
