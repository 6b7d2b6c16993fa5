"""Writing a checkpoint that was changed: an ordinary folder, which Transformers loads like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints import adapters
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.quantized.description import KEYS
from fastserve_converters.checkpoints.stored_tensors import stored_tensors
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.checkpoints.weight_files import INDEX

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_SENTENCE_PIECE = ".model"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_NUMBERS = ("dtype", "torch_dtype")


def write_checkpoint(
    out: Path,
    checkpoint: Checkpoint,
    model: torch.nn.Module,
    config: Mapping[str, Any],
    tokenizer: Mapping[str, str] | None = None,
) -> None:
    """Write a model, with everything else that the checkpoint has.

    Its weights are safetensors of float32. Parts that its task never uses are written only where the checkpoint has
    weights for them.

    Args:
        out: an empty folder.
        checkpoint: what the model was made of.
        model: of Transformers.
        config: what is new in `config.json`, by Transformers' general names, such as `num_hidden_layers`.
        tokenizer: the files of another tokenizer, by name; None: it has the checkpoint's.
    """
    inner = out / checkpoint.path.relative_to(checkpoint.root)
    inner.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.files():
        if file.parent == checkpoint.path and _is_written_anew(file.name, with_tokenizer=tokenizer is not None):
            continue
        place = out / file.relative_to(checkpoint.root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    saved: Any = model
    saved.save_pretrained(inner, state_dict=_state(checkpoint, model))
    (inner / CONFIG).write_text(json.dumps(_config(checkpoint, saved, config), indent=2) + "\n", encoding="utf-8")
    for name, content in (tokenizer or {}).items():
        (inner / name).write_text(content, encoding="utf-8")


def _is_written_anew(name: str, *, with_tokenizer: bool) -> bool:
    if name in (CONFIG, INDEX, adapters.CONFIG) or name.endswith(_WEIGHTS):
        return True
    return with_tokenizer and (name in _TOKENIZER_FILES or name.endswith(_SENTENCE_PIECE))


def _state(checkpoint: Checkpoint, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights, without those that were made up in loading: they would differ from run to run."""
    task: Task = TASKS.load(checkpoint.task)
    stored = stored_tensors([checkpoint.path / name for name in checkpoint.weights])
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not any(part in name for part in task.UNUSED) or any(known.endswith(name) for known in stored)
    }


def _config(checkpoint: Checkpoint, model: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checkpoint's config with what is new: Transformers would leave out keys, or write them in its way."""
    config = {name: value for name, value in checkpoint.config.items() if name not in KEYS}
    own_names = type(model.config).attribute_map
    for name, value in changes.items():
        written = next((n for n in (own_names.get(name, name), name) if n in config), name)
        config[written] = value
    config |= {name: "float32" for name in _NUMBERS if name in config}
    return {**config, "architectures": [type(model).__name__]}
