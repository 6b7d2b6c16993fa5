"""Which models passes change, refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.models.sources import form_of_task
from fastserve_converters.pass_words import AskedPass
from fastserve_converters.programs.torch_program import TorchProgram
from fastserve_runtime.errors import UsageError


def check_passes(passes: Sequence[AskedPass], model: Checkpoint | TorchProgram) -> None:
    """Refuse passes on what they do not take.

    Raises:
        UsageError: the model is no checkpoint, brings code of its own, or generates text; or a pass does not take it.
    """
    if not passes:
        return
    words = ", ".join(asked.words for asked in passes)
    if isinstance(model, TorchProgram):
        raise UsageError(
            f"Passes change checkpoints ({words}), and the model is a torch program.",
            "Change the module before it is traced, and leave --pass out.",
        )
    if model.config.get("auto_map"):
        raise UsageError(
            f"Passes were asked for ({words}), and the checkpoint needs code of its own, which they do not carry over.",
            "Leave --pass out.",
        )
    if form_of_task(model.task) == "cached":
        raise UsageError(
            f"Passes were asked for ({words}), and the model generates text. They change encoders only: what a changed "
            "decoder gives could not be judged by the original's likeliest tokens.",
            "Leave --pass out.",
        )
    for asked in passes:
        asked.settings.check(model)
