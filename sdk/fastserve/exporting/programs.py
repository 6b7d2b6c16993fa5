"""What an export of a program takes, and what of it is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fastserve.exporting.request import ExportRequest
from fastserve.makers import Maker
from fastserve_converters.inputs import DataFiles, GivenData, tensors
from fastserve_converters.programs.torch_program import TASK, TorchProgram, read_program
from fastserve_runtime.bundle.axes import batch_place
from fastserve_runtime.errors import UsageError


def judged_precisions(
    program: TorchProgram, makers: Sequence[Maker], wanted: Mapping[str, tuple[str, ...]], named: Sequence[str] | None
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Leave out precisions that cannot be judged: those that round, of a program whose batch is not first everywhere.

    Args:
        program: what is exported.
        makers: what makes artifacts of it.
        wanted: by maker, what it is to make.
        named: precisions that the user named; None where the usual ones are taken.

    Returns:
        What is left, and notes on it.

    Raises:
        UsageError: a precision that was named is one of them, or a target was named.
    """
    specs = (*program.signature.inputs, *program.signature.outputs)
    elsewhere = next((spec for spec in specs if batch_place(spec) != 0), None)
    if elsewhere is None:
        return dict(wanted), []
    why = (
        f"is compared sample by sample, and the axes of '{elsewhere.name}' are "
        f"{', '.join(elsewhere.axes) or 'none'}, without a batch in front"
    )
    remedy = "Let the module take and give its batch first, such as by batch_first=True, or name it with axes."
    targets = [maker.name for maker in makers if maker.target is not None]
    if targets:
        raise UsageError(f"What is made for {', '.join(targets)} {why}.", f"{remedy} Or leave --target out.")
    precisions = {maker.name: maker.precisions for maker in makers}
    left = {
        name: tuple(p for p in chosen if not precisions[name][p].looks_at_samples) for name, chosen in wanted.items()
    }
    out = sorted({p for name, chosen in wanted.items() for p in chosen if p not in left[name]})
    if not out:
        return left, []
    reason = f"{', '.join(out)} cannot be judged: what rounding costs {why}"
    if named is not None:
        raise UsageError(f"{reason}.", f"{remedy} Or export fp32 alone.")
    return left, [f"{reason}. They were left out. {remedy}"]


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
    }
    for flag, is_given in given.items():
        if is_given:
            raise UsageError(f"{flag} was given, and a program takes tensors.", "Leave it out.")
    if request.task not in {"auto", TASK}:
        raise UsageError(f"A program is of the task {TASK}; {request.task} was asked for.", "Leave --task out.")
    program = read_program(Path(request.model).expanduser())
    tensors.read(GivenData(DataFiles(request.data)), tensors.Tensors(program.signature))
    return program
