"""Whether a model that was loaded has what its checkpoint holds: every weight, under its name, and finite."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.stored_tensors import is_real
from fastserve_converters.checkpoints.task import Task
from fastserve_converters.checkpoints.weight_coverage import plays_no_part
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    import torch


def check_complete(task: Task, report: dict[str, Any], brought: Collection[str]) -> None:
    """Refuse a model that lacks weights which it uses; an adapter may bring some.

    Args:
        task: what the model is for.
        report: what Transformers says of loading it.
        brought: names of weights that an adapter brings.

    Raises:
        UsageError: naming one of them.
    """
    missing = sorted(k for k in report["missing_keys"] if k not in brought and not any(p in k for p in task.UNUSED))
    if missing:
        _refuse_other_names(missing, report["unexpected_keys"])
        raise UsageError(
            f"The checkpoint lacks {len(missing)} weight{'' if len(missing) == 1 else 's'}, such as '{missing[0]}'.",
            "It would run with random numbers in their place; save the whole model.",
        )
    mismatched = sorted(report.get("mismatched_keys", ()))
    if mismatched:
        name, stored, wanted = mismatched[0]
        raise UsageError(
            f"The checkpoint's weight '{name}' has the shape {list(stored)}; its config says {list(wanted)}.",
            "Check that config.json belongs to these weights.",
        )
    errors = report.get("error_msgs", ())
    if errors:
        raise UsageError(f"The checkpoint cannot be loaded: {str(errors[0]).splitlines()[0]}")


def _refuse_other_names(missing: Collection[str], unexpected: Collection[str]) -> None:
    """Refuse weights that are all there under longer names, as what wraps a model gives them.

    Raises:
        UsageError: naming what stands before or in them.
    """
    for name in sorted(unexpected):
        if ".base_layer." in name and name.replace(".base_layer.", ".") in missing:
            raise UsageError(
                f"The checkpoint's weights are those of a model with an adapter around its layers ('{name}').",
                "Merge it (PeftModel's merge_and_unload()) and save the whole model.",
            )
        short = next((m for m in missing if name.endswith(f".{m}")), None)
        if short is not None:
            raise UsageError(
                f"The checkpoint's weights have '{name.removesuffix(short)}' before their names: '{name}' is to be "
                f"'{short}'.",
                "Save the model itself, not what wraps it (such as DistributedDataParallel or torch.compile).",
            )


def check_number_types(types: Mapping[str, str], unexpected: Collection[str]) -> None:
    """Refuse weights that are stored as integers by a checkpoint that does not say how these are meant.

    Args:
        types: of every stored tensor, as safetensors names them.
        unexpected: tensors that the model has no place for.

    Raises:
        UsageError: naming one.
    """
    for name, kind in sorted(types.items()):
        if not is_real(kind) and name not in unexpected and not plays_no_part(name):
            raise UsageError(
                f"The checkpoint's weight '{name}' is stored as {kind}, and its config has no 'quantization_config' "
                "that says what such numbers mean.",
                "Save the model's weights as floats.",
            )


def check_finite(model: torch.nn.Module, unused: Collection[str]) -> None:
    """Refuse weights that are no numbers.

    Args:
        model: with the weights.
        unused: parts of names that the task never uses.

    Raises:
        UsageError: naming one of them.
    """
    import torch

    for name, parameter in model.named_parameters():
        if not any(part in name for part in unused) and not bool(torch.isfinite(parameter).all()):
            raise UsageError(f"The checkpoint's weight '{name}' has values that are not finite.")
