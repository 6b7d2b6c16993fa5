"""Any torch module, as a program of `torch.export`: one traced part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastserve_converters.models.model import Form
    from fastserve_converters.models.program_source import ProgramSource

PARTS: Mapping[str, Form] = {"main": "traced"}


def open_source(source: Mapping[str, Any]) -> ProgramSource:
    """Return the program that a job's `source` names; see `ModelKind`."""
    from fastserve_converters.models.program_source import ProgramSource

    return ProgramSource(Path(source["path"]))
