"""What the jobs of every kind of model have in common: their requests, and the files that they write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastserve_converters.models.reference import CALIBRATION

Handler = Callable[[Mapping[str, Any], Path], Any]
"""Does one job: the request, an empty folder for files, and the stage's result, JSON."""

ARTIFACT = "artifact.json"
SIGNATURE = "signature.json"
SENSITIVITY = "sensitivity.json"
TWIN = "twin.json"
KEPT_WEIGHTS = 4
"""So many precisions' integers stay in memory, a quarter of the model's size each: formats share them, and so does the
artifact's check."""


def calibration_place(request: Mapping[str, Any]) -> str:
    """Return where the calibration data of a request really is: folders of links to it are many."""
    return str((Path(request["reference"]) / CALIBRATION).resolve())
