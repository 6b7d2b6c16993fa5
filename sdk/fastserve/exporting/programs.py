"""What an export of a program takes, and what of it is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from fastserve.exporting.request import ExportRequest
from fastserve_converters.inputs import DataFiles, GivenData, tensors
from fastserve_converters.programs.archive import SUFFIX
from fastserve_converters.programs.torch_program import TASK, TorchProgram, read_program
from fastserve_runtime.errors import UsageError


def is_program(model: str) -> bool:
    """Whether what the user named is a program of `torch.export`, by its ending."""
    return Path(model).suffix == SUFFIX


def checked_program(request: ExportRequest) -> TorchProgram:
    """Read the program that a request names, and hold its settings and samples against it.

    Raises:
        UsageError: the program cannot be read, a setting is for models of texts, or the samples do not fit.
    """
    given = {
        "--seq-len": request.sequence_length is not None,
        "--context": request.context is not None,
        "--truncate-dim": request.truncate_dim is not None,
        "--pairs": request.wants_pairs,
        "--target": request.targets is not None,
    }
    for flag, is_given in given.items():
        if is_given:
            raise UsageError(f"{flag} was given, and a program takes tensors.", "Leave it out.")
    if request.task not in {"auto", TASK}:
        raise UsageError(f"A program is of the task {TASK}; {request.task} was asked for.", "Leave --task out.")
    program = read_program(Path(request.model).expanduser())
    tensors.read(GivenData(DataFiles(request.data)), tensors.Tensors(program.signature))
    return program
