"""What `run` does with a model that takes tensors: an `.npz` file in, its outputs shown or in another such file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.cli.view import View
from fastserve_runtime.errors import EXIT_OK, InputError, UsageError, one_line
from fastserve_runtime.results import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]

_SUFFIX = ".npz"
_FIRST = 4


def add_run_flags(parser: ArgumentParser) -> None:
    """Add the flags that `run` has for a model that takes tensors."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="Write a model's output tensors to this .npz file.")


def run(arguments: Namespace, view: View) -> int:
    """Run a bundle on the samples of a file; see `run_tensors`."""
    return run_tensors(
        arguments.bundle,
        arguments.texts,
        arguments.output,
        view,
        as_json=arguments.as_json,
        variant=arguments.variant,
        engine=arguments.engine,
        threads=arguments.threads,
    )


def run_tensors(
    bundle: Path,
    words: Sequence[str],
    output: Path | None,
    view: View,
    *,
    as_json: bool,
    **opening: Any,
) -> int:
    """Run a bundle on the samples of a file.

    Args:
        bundle: the model's.
        words: the path of the file, alone.
        output: where outputs are written; None shows them.
        view: shows them.
        as_json: whether they are shown as JSON.
        opening: of `fastserve_runtime.load`.

    Raises:
        UsageError: there is not one file, it cannot be read, or the output cannot be written there.
        InputError: its arrays do not fit the model.
    """
    from fastserve_runtime.loading import load

    if len(words) != 1 or not words[0].endswith(_SUFFIX):
        raise UsageError(
            f"The bundle's model takes tensors, and {len(words)} texts were given.",
            f"Give one {_SUFFIX} file with an array for every input, samples along the first axis.",
        )
    if output is not None and output.suffix != _SUFFIX:
        raise UsageError(f"Outputs cannot be written to '{output}'.", f"Name a {_SUFFIX} file.")
    inputs = _read(Path(words[0]))
    pipeline: Any
    with load(bundle, **opening) as pipeline:
        outputs: Arrays = pipeline(inputs)
    if output is not None:
        _write(output, outputs)
    if as_json:
        show_document({name: _document(value) for name, value in outputs.items()})
    else:
        rows = tuple((name, str(value.dtype), str(list(value.shape)), _first(value)) for name, value in outputs.items())
        view.table(Table(("output", "type", "shape", "first values"), rows))
    return EXIT_OK


def _read(file: Path) -> Arrays:
    import numpy as np

    if not file.is_file():
        raise UsageError(f"There is no file at '{file}'.", "Check the path.")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        raise InputError(f"'{file}' cannot be read: {one_line(error)}.", "Write it with numpy.savez.") from error


def _write(file: Path, outputs: Arrays) -> None:
    import numpy as np

    arrays: dict[str, Any] = dict(outputs)
    try:
        np.savez(file, **arrays)
    except OSError as error:
        raise UsageError(f"The outputs cannot be written to '{file}': {one_line(error)}.", "Name another.") from error


def _document(value: NDArray[np.generic]) -> dict[str, Any]:
    from fastserve_runtime.pipelines.tensor_to_tensor import json_values

    return {"dtype": str(value.dtype), "shape": list(value.shape), "values": json_values(value.tolist())}


def _first(value: NDArray[np.generic]) -> str:
    few = value.ravel()[:_FIRST].tolist()
    return " ".join(f"{number:+.3g}" if isinstance(number, float) else str(number) for number in few)
