"""A torch module and arrays in the caller's memory, as the files that an export reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastserve_runtime.errors import UsageError, one_line


@contextmanager
def given_as_files(
    model: Any,
    data: Sequence[str | os.PathLike[str]],
    *,
    example: Any = None,
    samples: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    dynamic_shapes: Any = None,
    axes: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Give the model's path or name and the data's files, for as long as the block takes.

    Args:
        model: a path or a name, or a torch module, which is traced here and written as a program.
        data: files.
        example: inputs of a module.
        samples: arrays by input, which are written to a file, or such a file.
        dynamic_shapes: axes of a module that stay open.
        axes: names of the axes of a module.

    Raises:
        UsageError: see `save_program`; or what belongs to a module was given with something else.
    """
    files = tuple(Path(d) for d in data)
    with tempfile.TemporaryDirectory(prefix="fastserve-") as folder:
        if isinstance(samples, Mapping):
            files = (*files, _written(samples, Path(folder) / "samples.npz"))
        elif samples is not None:
            if not isinstance(samples, (str, os.PathLike)):
                raise UsageError(
                    f"The samples were given as {type(samples).__name__}.",
                    "Give a dictionary of arrays by the name of the input, or the path of an .npz file.",
                )
            files = (*files, Path(samples))
        if isinstance(model, (str, os.PathLike)):
            for name, value in (("example", example), ("dynamic_shapes", dynamic_shapes), ("axes", axes)):
                if value is not None:
                    raise UsageError(f"{name} was given for a model in a file.", "Give it with a torch module.")
            yield os.fspath(model), files
            return
        from fastserve_converters.programs.saving import save_program

        path = Path(folder) / f"{type(model).__name__}.pt2"
        save_program(model, example, path, dynamic_shapes=dynamic_shapes, axes=axes)
        yield str(path), files


def _written(samples: Mapping[str, Any], file: Path) -> Path:
    import numpy as np

    arrays = {str(name): _array(str(name), value) for name, value in samples.items()}
    np.savez(file, **arrays)
    return file


def _array(name: str, value: Any) -> Any:
    import numpy as np

    # Of torch tensors that need gradients numpy takes only a copy without.
    try:
        array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    except (ValueError, TypeError) as error:  # lists of other lengths, or a tensor on another device
        raise UsageError(
            f"The samples of '{name}' are no array: {one_line(error)}.", "Give all samples one shape, on the CPU."
        ) from error
    if array.dtype.kind not in "biuf":
        raise UsageError(f"The samples of '{name}' are {array.dtype}.", "Give numbers or truth values.")
    return array
