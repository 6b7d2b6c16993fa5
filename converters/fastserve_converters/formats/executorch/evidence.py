"""What the lowered program gives in PyTorch: its layers' losses, and the fake-quant reference's outputs.

PyTorch runs the quantizing operators one by one as they are defined. Delegates, which compute the same in integers,
hide what is inside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.formats import ExportJob, min_tokens
from fastserve_converters.formats.executorch.layers import layer_outputs
from fastserve_converters.models.model import TracedPart
from fastserve_converters.quantization.evidence import record_layer_sqnr
from fastserve_converters.quantization.fake_quant_reference import record_outputs


def record_evidence(job: ExportJob[TracedPart], program: torch.export.ExportedProgram) -> None:
    """Write beside the artifact what each layer lost and, with static ranges, what its fake-quant reference gives.

    Args:
        job: what is exported; only quantized ones have such evidence.
        program: as `rewritten` returns it.
    """
    if not job.weights:
        return
    graph_module = program.module(check_guards=False)
    assert isinstance(graph_module, torch.fx.GraphModule)
    record_layer_sqnr(
        job.out,
        job.part.module,
        job.weights,
        job.samples,
        lambda sample: layer_outputs(graph_module, job.weights, as_tensors(sample)),
        min_tokens=min_tokens(job),
        source="the program that was lowered, in PyTorch; delegates hide what is inside them",
    )
    if job.precision_spec.has_static_ranges:
        record_outputs(
            job.out,
            job.part,
            job.samples,
            lambda sample: program_outputs(graph_module, as_tensors(sample), job.part),
            min_tokens=min_tokens(job),
            executor="the quantized program in PyTorch, before it was lowered",
        )


def program_outputs(
    graph_module: torch.fx.GraphModule, inputs: Mapping[str, torch.Tensor], part: TracedPart
) -> dict[str, NDArray[np.floating]]:
    """Run a program that is unlifted and return its outputs by name.

    Args:
        graph_module: the program, with inputs by name or by position.
        inputs: of one sample, by name.
        part: what the program was made from, whose signature tells the order of inputs and outputs.
    """
    ordered = [inputs[spec.name] for spec in part.signature.inputs]
    with torch.no_grad():
        results = torch.fx.Interpreter(graph_module).run(*ordered, enable_io_processing=False)
    values = torch.utils._pytree.tree_leaves(results)
    return {spec.name: value.numpy() for spec, value in zip(part.signature.outputs, values, strict=True)}


def as_tensors(sample: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Return a sample's arrays as tensors that share their memory."""
    return {name: torch.from_numpy(value) for name, value in sample.items()}
