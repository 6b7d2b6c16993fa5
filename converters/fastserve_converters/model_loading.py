"""Loading a checkpoint into PyTorch, with nothing missing, nothing invented and nothing executed."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoint import Checkpoint
from fastserve_converters.tasks import TASKS, Task
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    import torch


def load_model(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> torch.nn.Module:
    """Load the model in fp32 and eval mode.

    Raises:
        UsageError: weights are missing, of another shape, not finite, or unreadable.
    """
    if checkpoint.gguf is not None:
        from fastserve_converters.gguf_files.model import load_gguf_model

        return load_gguf_model(checkpoint.gguf)  # type: ignore[no-any-return]
    import transformers
    from safetensors import SafetensorError

    task: Task = TASKS.load(checkpoint.task)
    auto = getattr(transformers, task.AUTO_CLASS)
    try:
        model, report = auto.from_pretrained(
            str(checkpoint.path),
            dtype="float32",
            attn_implementation="eager",
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            use_safetensors=all(w.endswith(".safetensors") for w in checkpoint.weights),
            weights_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        raise UsageError(f"The checkpoint cannot be loaded: {_first_line(error)}") from error
    _check_complete(task, report)
    model.eval()
    _check_finite(model)
    return model  # type: ignore[no-any-return]


def _check_complete(task: Task, report: dict[str, Any]) -> None:
    missing = sorted(k for k in report["missing_keys"] if not any(part in k for part in task.UNUSED))
    if missing:
        raise UsageError(
            f"The checkpoint lacks {len(missing)} weights, such as '{missing[0]}'.",
            "It would run with random numbers in their place; save the whole model.",
        )
    mismatched = sorted(str(k) for k in report.get("mismatched_keys", ()))
    if mismatched:
        raise UsageError(f"The checkpoint's weight {mismatched[0]} has another shape than its config says.")


def _check_finite(model: torch.nn.Module) -> None:
    import torch

    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise UsageError(f"The checkpoint's weight '{name}' has values that are not finite.")


def _first_line(error: BaseException) -> str:
    # PyTorch colours some of its messages.
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
