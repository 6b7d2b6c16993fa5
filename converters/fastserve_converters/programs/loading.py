"""A checked archive as a program of `torch.export`."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

from fastserve_converters.programs.archive import ProgramArchive
from fastserve_runtime.errors import UsageError, one_line

if TYPE_CHECKING:
    import torch

_PICKLES = ("data/sample_inputs/", "data/weights/weight_", "data/constants/tensor_")
_ZIP = b"PK\x03\x04"
"""What files of `torch.save` begin with; tensors of plain bytes are not pickled."""


def load_program(archive: ProgramArchive) -> torch.export.ExportedProgram:
    """Load a program on the CPU.

    Raises:
        UsageError: it holds a pickle of something else than tensors, or this release of PyTorch cannot read it.
    """
    import torch

    for name, content in archive.members.items():
        if name.startswith(_PICKLES) and content.startswith(_ZIP):
            try:
                torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
            except Exception as error:  # damaged files raise whatever they like
                raise UsageError(
                    f"The program's '{name}' holds more than tensors, which unpickling it would run: "
                    f"{one_line(error)[:200]}",
                    "Export it from its module here, where its source is known.",
                ) from error
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    try:
        return torch.export.load(archive.stream())
    except Exception as error:  # it raises whatever it likes
        raise UsageError(
            f"PyTorch {torch.__version__} cannot read the program, which PyTorch {archive.torch_version} wrote: "
            f"{one_line(error)[:300]}",
            "Write it again with the release of PyTorch that is installed here.",
        ) from error
