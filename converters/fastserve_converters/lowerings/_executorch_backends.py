"""Programs for backends other than XNNPACK: what their lowerings share.

Such a backend is an NPU's compiler or a GPU's. It takes graphs of fixed shapes as a whole, and quantizes by a quantizer
of its own, which knows what its operators compute in integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_converters.formats import ExportJob
from fastserve_converters.formats.executorch import ENGINE, METHOD, MODEL, count_calls
from fastserve_converters.layer_map import write_layer_map
from fastserve_converters.lowerings import Lowered
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, Requirement
from fastserve_runtime.errors import EnvironmentFailure, one_line
from fastserve_runtime.sessions.lengths import MASK

if TYPE_CHECKING:
    import torch
    from executorch.exir import EdgeProgramManager
    from executorch.exir.backend.partitioner import Partitioner

    from fastserve_converters.models.model import TracedPart
    from fastserve_converters.models.outputs import Outputs

TRUSTED_FLOATS = "the same program in PyTorch, in floats of 32 bits"
TRUSTED_QUANTIZED = "the same quantized program in PyTorch"

Trusted = Callable[[Mapping[str, NDArray[np.generic]]], "Outputs"]


def positional(job: ExportJob[TracedPart]) -> torch.export.ExportedProgram:
    """Return the job's program with inputs by position and a tuple of outputs, which quantizers and compilers want."""
    import torch

    return torch.export.export(_unlifted(job.part.program), tuple(job.part.example.values()))


def calibrated(
    program: torch.export.ExportedProgram, quantizer: Any, job: ExportJob[TracedPart]
) -> torch.export.ExportedProgram:
    """Quantize a program by a backend's quantizer, with ranges of the job's calibration inputs.

    Args:
        program: as `positional` returns it.
        quantizer: a `torchao` quantizer of exported programs.
        job: its calibration inputs are run one by one, and one of them with padding: where all texts fill the length,
            what keeps padding out of attention would be taken for a constant.
    """
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared: Any = prepare_pt2e(program.module(check_guards=False), quantizer)
    with torch.no_grad():
        for sample in _observed(job.calibration):
            prepared(*(torch.from_numpy(np.ascontiguousarray(sample[name])) for name in job.part.example))
    return torch.export.export(convert_pt2e(prepared), tuple(job.part.example.values()))


def lowered_by(program: torch.export.ExportedProgram, partitioner: Partitioner) -> EdgeProgramManager:
    """Lower a program to a backend.

    Raises:
        EnvironmentFailure: the backend's compiler ends with an error.
    """
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    # It would check the program after each of some hundred passes; what comes out is run and compared.
    unchecked = EdgeCompileConfig(_check_ir_validity=False)
    with compiling():
        return to_edge_transform_and_lower(program, partitioner=[partitioner], compile_config=unchecked)


@contextmanager
def compiling() -> Iterator[None]:
    """Make one sentence of whatever a backend's compiler raises inside the block."""
    from fastserve_converters.formats.executorch.delegation import provenance_shared

    try:
        with provenance_shared():
            yield
    except OSError:  # such as a full disk
        raise
    except Exception as error:  # compilers raise whatever they like
        raise EnvironmentFailure(
            f"The backend's compiler refuses the model: {one_line(error)}.", "Use another target or precision."
        ) from error


def written(
    job: ExportJob[TracedPart],
    edge: EdgeProgramManager,
    processor: str,
    backend: str,
    program: torch.export.ExportedProgram,
    report: Mapping[str, Any],
) -> Lowered:
    """Write `model.pte` and describe it.

    Args:
        job: what was lowered, and the folder for the files.
        edge: the program, lowered to the backend.
        processor: `gpu` or `npu`.
        backend: its id in programs.
        program: what was lowered, with inputs by position: PyTorch runs it as what the artifact should compute.
        report: what else its compiler tells.

    Raises:
        EnvironmentFailure: the backend took no operator.
    """
    from fastserve_converters.formats.executorch.delegation import placed_nodes

    delegated, _ = placed_nodes(edge.exported_program().graph_module)
    if not delegated:
        raise EnvironmentFailure(f"{backend} takes no operator of the model.", "Use another target or precision.")
    lowered = edge.to_executorch()
    with (job.out / MODEL).open("wb") as file:
        lowered.write_to_file(file)
    # What is inside a delegate has no names in the file.
    write_layer_map(job.out, {})
    counts: Counter[tuple[str, str, int]] = Counter()
    for (domain, name, version), count in count_calls(lowered.exported_program().graph).items():
        counts[domain, backend if domain == "delegate" else name, version] += count
    elsewhere = {name: count for (domain, name, _), count in sorted(counts.items()) if domain != "delegate"}
    is_quantized = job.precision_spec.has_static_ranges
    return Lowered(
        artifact=Artifact(
            files=(MODEL,),
            graphs={"main": Graph(MODEL, METHOD, job.part.signature)},
            operators=count_operators(counts),
            expected_placement=ExpectedPlacement(processor, backend, delegated, delegated + sum(elsewhere.values())),
            requires=Requirement(ENGINE, executorch_version(), (backend,), ()),
        ),
        trusted=in_pytorch(program, job.part),
        trusted_executor=TRUSTED_QUANTIZED if is_quantized else TRUSTED_FLOATS,
        report={
            "operators": {processor: delegated, "cpu": elsewhere},
            "delegates": sum(count for (domain, _, _), count in counts.items() if domain == "delegate"),
            "bytes": (job.out / MODEL).stat().st_size,
            **report,
        },
    )


def in_pytorch(program: torch.export.ExportedProgram, part: TracedPart) -> Trusted:
    """Return what runs a program of a part in PyTorch: inputs of one sample by name → outputs by name."""
    from fastserve_converters.formats.executorch.evidence import as_tensors, program_outputs

    graph_module: Any = program.module(check_guards=False)

    def run(sample: Mapping[str, NDArray[np.generic]]) -> Outputs:
        return program_outputs(graph_module, as_tensors(sample), part)

    return run


def executorch_version() -> str:
    """Return the installed version of ExecuTorch, which must open the program."""
    from importlib.metadata import version

    return version("executorch")


def _observed(samples: Mapping[str, NDArray[np.generic]]) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Give the samples one by one, and the first one again with its second half masked, if it has a mask."""
    for row in range(len(next(iter(samples.values())))):
        yield {name: value[row : row + 1] for name, value in samples.items()}
    if MASK in samples:
        mask = samples[MASK][:1].copy()
        mask[:, (mask.shape[1] + 1) // 2 :] = 0
        yield {**{name: value[:1] for name, value in samples.items()}, MASK: mask}


def _unlifted(program: torch.export.ExportedProgram) -> torch.fx.GraphModule:
    import torch

    named = program.module(check_guards=False)
    assert isinstance(named, torch.fx.GraphModule)
    named.graph.set_codegen(torch.fx.graph.CodeGen())
    # A new module, since the old one has hooks that want inputs by name.
    return torch.fx.GraphModule(named, named.graph)
