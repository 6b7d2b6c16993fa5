"""Adapters of PEFT (LoRA and its kin): what a folder says of one, without PEFT, and merging it into its base model.

An adapter is `adapter_config.json` beside `adapter_model.safetensors`
(https://huggingface.co/docs/peft/developer_guides/checkpoint).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.sentence_transformers import read_json
from fastserve_converters.checkpoints.stored_tensors import Shape, stored_tensors
from fastserve_converters.checkpoints.weight_files import ADAPTERS
from fastserve_runtime.errors import UsageError, one_line

if TYPE_CHECKING:
    import torch

CONFIG = "adapter_config.json"
WEIGHTS = ADAPTERS
_STAY_APART = frozenset(
    {
        "ADAPTION_PROMPT",
        "CPT",
        "MULTITASK_PROMPT_TUNING",
        "POLY",
        "PREFIX_TUNING",
        "PROMPT_TUNING",
        "P_TUNING",
        "XLORA",
    }
)
"""They add tokens, or choose by the input: no weights of the base model are as good."""
_PREFIX = "base_model.model."
_MERGE = "Merge it into its base model (PeftModel's merge_and_unload(), then save_pretrained()) and export that"


@dataclass(frozen=True)
class Adapter:
    """An adapter in a folder.

    Attributes:
        folder: where its files are.
        kind: PEFT's name of its method, such as `LORA`.
        base: the model that it was trained on, as its config names it; None where it does not.
        weights: its file of weights.
        classifies: whether it was trained for classes, and may bring the head for them.
    """

    folder: Path
    kind: str
    base: str | None
    weights: str
    classifies: bool = False

    def tensors(self) -> Mapping[str, Shape]:
        """Return the shapes of its weights, under the names of the model's own where it replaces those."""
        stored = stored_tensors([self.folder / self.weights])
        return {name.removeprefix(_PREFIX): shape for name, shape in stored.items()}


def find_adapter(folder: Path) -> Adapter | None:
    """Return the adapter in a folder; None where it has none.

    Raises:
        UsageError: its files cannot be read, or it is no adapter of PEFT.
    """
    if not (folder / CONFIG).is_file():
        alone = [name for name in WEIGHTS if (folder / name).is_file()]
        if alone:
            raise UsageError(
                f"The checkpoint has an adapter's weights '{alone[0]}' without '{CONFIG}', so they would not be used.",
                "Copy the whole adapter, or remove that file if the adapter is merged already.",
            )
        return None
    config = read_json(folder / CONFIG)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise UsageError(
            f"The checkpoint's '{CONFIG}' names no 'peft_type': it is no adapter of PEFT, and its weights would not be "
            "used.",
            "Merge it with the library that made it, and export the result.",
        )
    found = [name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        raise UsageError(
            f"The checkpoint has an adapter's '{CONFIG}' without '{WEIGHTS[0]}'.",
            "Copy the whole adapter, or remove that file if the adapter is merged already.",
        )
    base = config.get("base_model_name_or_path")
    return Adapter(folder, kind, str(base) if base else None, found[0], config.get("task_type") == "SEQ_CLS")


def adapters_below(folder: Path) -> list[str]:
    """Return the names of folders in a folder that hold adapters, as PEFT saves several; nobody reads them unasked."""
    return sorted(file.parent.name for file in folder.glob(f"*/{CONFIG}"))


def refuse_adapter_alone(folder: Path) -> None:
    """Refuse a folder that holds an adapter without its base model; others pass.

    Raises:
        UsageError: naming the base model.
    """
    adapter = find_adapter(folder)
    if adapter is not None:
        base = f"'{adapter.base}'" if adapter.base else "a model that it does not name"
        raise UsageError(
            f"'{folder}' is an adapter alone ({adapter.kind}, trained on {base}), not a model.",
            f"{_MERGE}; or copy its files beside the base model's.",
        )


def check_can_merge(adapter: Adapter, *, allow_pickle: bool) -> None:
    """Refuse an adapter that cannot be merged here.

    Raises:
        UsageError: its method changes more than weights, its weights are a pickle that was not allowed, or PEFT is not
            installed.
    """
    if adapter.kind in _STAY_APART:
        raise UsageError(
            f"The checkpoint's adapter is of the kind {adapter.kind}, which cannot be merged into the model.",
            "Fine-tune the model itself, or with LoRA; or remove the adapter to export its base model.",
        )
    if not adapter.weights.endswith(".safetensors") and not allow_pickle:
        raise UsageError(
            f"The adapter's weights '{adapter.weights}' are a pickle, which can run code when it is read.",
            "Save it as safetensors, or accept it with --allow-pickle.",
        )
    if find_spec("peft") is None:
        raise UsageError(
            f"The checkpoint has an adapter ({adapter.kind}, '{adapter.weights}') beside its weights, and the package "
            "peft, which would merge it, is not installed.",
            f"{_MERGE}; or install peft: pip install peft.",
        )


def merge_adapter(model: Any, adapter: Adapter) -> torch.nn.Module:
    """Return a model with an adapter's changes in its own weights.

    Raises:
        UsageError: the adapter does not fit the model, or some of its weights are missing or have no place in it.
    """
    import peft

    folder = str(adapter.folder)
    try:
        wrapped = peft.PeftModel.from_pretrained(model, folder, is_trainable=False, autocast_adapter_dtype=False)
        weights: Mapping[str, Any] = peft.load_peft_weights(folder, device="cpu")
        # Loading says nothing of weights that found no place; setting them again does.
        _check_all_placed(weights, peft.set_peft_model_state_dict(wrapped, dict(weights)).unexpected_keys)
        _check_all_given(weights, peft.get_peft_model_state_dict(wrapped))
        merge: Callable[..., torch.nn.Module] = wrapped.merge_and_unload
        return merge(safe_merge=True)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError, NotImplementedError) as error:
        raise UsageError(
            f"The checkpoint's adapter ({adapter.kind}) cannot be merged: {one_line(error):.300}.",
            f"{_MERGE}.",
        ) from error


def _check_all_placed(weights: Mapping[str, Any], unplaced: list[str]) -> None:
    if unplaced:
        raise UsageError(
            f"{len(unplaced)} of the adapter's {len(weights)} weights have no place in the model, such as "
            f"'{min(unplaced)}'.",
            "Name the base model and the task that it was trained on (--task), or merge it where it was trained.",
        )


def _check_all_given(weights: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    missing = sorted(set(wanted) - set(weights))
    if missing:
        raise UsageError(
            f"The adapter lacks {len(missing)} weights that its config speaks of, such as '{missing[0]}'.",
            "Copy the whole adapter.",
        )
