"""Lowers the cases of `executorch_models` and tells their operators; run as a script, in a child process.

ExecuTorch's own libraries, which this loads, must not be in a process with our runtime.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import executorch.exir.passes._quant_patterns_and_replacements
import executorch.extension.llm.custom_ops.custom_ops
import executorch.kernels.quantized  # noqa: F401
import torch

from device_tests.operators.executorch_models import DECODER, HALF, LOWERINGS, MAX, Case, cases_of
from device_tests.operators.exports import exported as exported_model
from device_tests.operators.signatures import executorch_signatures
from fastserve_converters.formats.executorch.decoder_lowering import lowered_decoder
from fastserve_converters.formats.executorch.delegation import (
    half_weights_written,
    provenance_shared,
    xnnpack_partitioner,
)

SIGNATURES = "signatures.json"


class Together(torch.nn.Module):
    """Cases beside each other, each with inputs and one output of its own."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        self.cases = torch.nn.ModuleList(case.module() for case in cases)
        self.counts = [len(case.inputs) for case in cases]

    def forward(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        rest = list(inputs)
        results = []
        for case, count in zip(self.cases, self.counts, strict=True):
            results.append(case(*rest[:count]))
            rest = rest[count:]
        return results


def exported(lowering: str) -> torch.export.ExportedProgram:
    """Export all cases of a kind of lowering, with an open dimension."""
    cases = cases_of(lowering)
    open_size = torch.export.Dim("n", min=1 if lowering == DECODER else 2, max=MAX)
    all_dims = [dims for case in cases for dims in case.dims]
    dtypes = [dtype for case in cases for dtype, _ in case.inputs]
    shapes = tuple({i: open_size for i, d in enumerate(dims) if d == "n"} for dims in all_dims)
    example = tuple(
        torch.zeros([3 if d == "n" else int(d) for d in dims], dtype=getattr(torch, dtype))
        for dims, dtype in zip(all_dims, dtypes, strict=True)
    )
    with torch.no_grad():
        return torch.export.export(Together(cases).eval(), example, dynamic_shapes=(shapes,), strict=False)


def lowered(lowering: str) -> bytes:
    """Lower as the exporter does a model of this kind."""
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    program = exported(lowering)
    if lowering == DECODER:
        return lowered_decoder(program, {}).content
    unchecked = EdgeCompileConfig(_check_ir_validity=False)
    with provenance_shared(), half_weights_written() if lowering == HALF else nullcontext():
        edge = to_edge_transform_and_lower(program, partitioner=[xnnpack_partitioner()], compile_config=unchecked)
        return bytes(edge.to_executorch().buffer)


def main(folder: Path, exports: list[str]) -> None:
    """Write a program for each kind of lowering, and the operators of each.

    Args:
        folder: where.
        exports: further programs whose operators are told: kind, name and precision, with a `/` between.
    """
    found = {}
    for lowering in LOWERINGS:
        file = folder / f"{lowering}.pte"
        file.write_bytes(lowered(lowering))
        found[lowering] = sorted(executorch_signatures(file))
    for export in exports:
        kind, name, precision = export.split("/")
        found[export] = sorted(executorch_signatures(exported_model("executorch", kind, name, precision, folder)))
    (folder / SIGNATURES).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
