"""A module of the caller's as a program file: traced where it lives, so that nothing of it is pickled."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.programs.archive import DESCRIPTION
from fastserve_runtime.errors import UsageError, one_line

if TYPE_CHECKING:
    import torch

_PLACE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s+([^\n]+)')


def save_program(
    module: torch.nn.Module,
    example: Any,
    path: Path,
    *,
    dynamic_shapes: Any = None,
    axes: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Trace a module by `torch.export` in eval mode, and write it.

    Args:
        module: on the CPU.
        example: its inputs: one tensor, a tuple of them by position, or a mapping by name.
        path: of the `.pt2` file.
        dynamic_shapes: axes that stay open, as `torch.export.export` takes them.
        axes: names of the axes of inputs and outputs.

    Raises:
        UsageError: the module or the example is none, or the module cannot be traced; the message has the line.
    """
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        _save(module, path, axes)
        return
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"A model was given as {type(module).__name__}.",
            "Give a torch module, or a path or name.",
        )
    args, kwargs = _arguments(example)
    elsewhere = {str(t.device) for t in (*module.parameters(), *module.buffers()) if t.device.type != "cpu"}
    if elsewhere:
        raise UsageError(f"The module is on {', '.join(sorted(elsewhere))}.", "Move it: module.cpu().")
    was_training = module.training
    module.eval()
    try:
        program = torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes)
    except Exception as error:
        raise _untraceable(error) from error
    finally:
        module.train(was_training)
    _save(program, path, axes)


def _save(program: torch.export.ExportedProgram, path: Path, axes: Mapping[str, Sequence[str]] | None) -> None:
    import torch

    description = {"axes": {name: list(names) for name, names in (axes or {}).items()}}
    torch.export.save(program, path, extra_files={DESCRIPTION: json.dumps(description)})


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    if isinstance(example, torch.Tensor):
        return (example,), {}
    if isinstance(example, Mapping) and example:
        return (), dict(example)
    if isinstance(example, (tuple, list)) and example:
        return tuple(example), {}
    raise UsageError(
        f"The example input of the module is {type(example).__name__ if example is not None else 'missing'}.",
        "Give example=: a tensor, a tuple of them by position, or a dictionary by name, of one sample.",
    )


def _untraceable(error: Exception) -> UsageError:
    """Return what a failed trace means for the user: the line of their code, and what to do there."""
    text = str(error)
    own = [p for p in _PLACE.findall(text) if "/torch/" not in p[0].replace("\\", "/")]
    place = f" at {Path(own[-1][0]).name}:{own[-1][1]} in {own[-1][2]}: {own[-1][3].strip()}" if own else ""
    if "data-dependent" in text or "DataDependent" in type(error).__name__:
        return UsageError(
            f"The module decides by the values of its inputs{place}.",
            "Compute both ways and choose with torch.where, or use torch.cond.",
        )
    reason = one_line(error)[:300]
    return UsageError(f"torch.export cannot trace the module{place}: {reason}", "See torch.export's documentation.")
