"""A module of the caller's as a program file: traced where it lives, so that nothing of it is pickled."""

from __future__ import annotations

import json
import re
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.programs.archive import DESCRIPTION
from fastserve_runtime.errors import UsageError, one_line

if TYPE_CHECKING:
    import torch

_FIXED = re.compile(r"You marked (\S+) as dynamic but your code specialized it to be a constant \((\d+)\)")
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
        with warnings.catch_warnings():
            # Of what tracing does inside, such as setting a recurrent layer's weights; what is wrong raises.
            warnings.simplefilter("ignore")
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
    fixed = _FIXED.search(text)
    if fixed is not None:
        return UsageError(
            f"The axis '{fixed[1]}' was to stay open, and tracing fixed it at {fixed[2]}.",
            "Give an example of another size there, such as 2; if the module itself fixes it, leave it out of "
            "dynamic_shapes.",
        )
    place = _place(error)
    if "data-dependent" in text or "DataDependent" in type(error).__name__:
        return UsageError(
            f"The module decides by the values of its inputs{place}.",
            "Compute both ways and choose with torch.where, or use torch.cond.",
        )
    reason = one_line(error)[:300]
    return UsageError(f"torch.export cannot trace the module{place}: {reason}", "See torch.export's documentation.")


def _place(error: Exception) -> str:
    """Return the line of the user's code that was being traced, for a sentence; nothing where none was."""
    told = [(file, int(line), name, code) for file, line, name, code in _PLACE.findall(str(error))]
    passed = [(f.filename, f.lineno, f.name, f.line or "") for f in traceback.extract_tb(error.__traceback__)]
    for frames in (told, passed):  # what PyTorch tells is nearer than where it gave up
        own = [frame for frame in frames if _is_of_user(frame[0])]
        if own:
            file, line, name, code = own[-1]
            return f" at {Path(file).name}:{line} in {name}: {code.strip()}"
    return ""


def _is_of_user(file: str) -> bool:
    path = file.replace("\\", "/")
    return "/torch/" not in path and path != __file__.replace("\\", "/") and not path.startswith("<")
