"""Which of a checkpoint's files hold the weights that Transformers reads, and which are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastserve_converters.checkpoints.sentence_transformers import read_json
from fastserve_converters.checkpoints.stored_tensors import SAFETENSORS
from fastserve_runtime.errors import UsageError

WHOLE = f"model{SAFETENSORS}"
INDEX = f"{WHOLE}.index.json"
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
"""What PEFT calls the weights of an adapter."""
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
_HEADS_OF_OTHERS = ("model_head.pkl", "model_head.joblib", "config_setfit.json")
"""SetFit keeps a classifier of scikit-learn beside its sentence encoder."""


def weight_files(path: Path, *, allow_pickle: bool) -> tuple[str, ...]:
    """Return the names of the files that a checkpoint's folder is loaded from, as Transformers chooses them.

    Raises:
        UsageError: there are none, a part is missing, or they are pickles, which were not allowed.
    """
    if (path / WHOLE).is_file():
        return (WHOLE,)
    if (path / INDEX).is_file():
        return _indexed(path)
    safe = sorted(f.name for f in path.glob(f"model*{SAFETENSORS}"))
    if safe:
        raise UsageError(
            f"The checkpoint has weights in '{safe[0]}', and neither '{WHOLE}' nor '{INDEX}', by which Transformers "
            "finds them.",
            f"Copy or download the whole checkpoint, or give the only file the name '{WHOLE}'.",
        )
    pickles = sorted({f.name for pattern in _PICKLES for f in path.glob(pattern)})
    if not pickles:
        raise UsageError(f"The checkpoint '{path.name}' has no weights.", "A file model.safetensors is wanted.")
    if not allow_pickle:
        raise UsageError(
            f"The checkpoint's weights '{pickles[0]}' are a pickle, which can run code when it is read.",
            "Save it as safetensors, or accept it with --allow-pickle.",
        )
    return tuple(pickles)


def has_weights(path: Path) -> bool:
    """Whether a folder has files of weights of a model, of any kind."""
    names = (WHOLE, INDEX, f"model*{SAFETENSORS}", *_PICKLES)
    return any(f.name not in ADAPTERS for name in names for f in path.glob(name))


def unread_weights(path: Path, read: tuple[str, ...], *, adapter: str | None) -> Iterator[str]:
    """Return the names of weight files of the same kind that are not among those that are read.

    Copies for other frameworks, and what training left, are not among them.
    """
    if not all(name.endswith(SAFETENSORS) for name in read):
        return
    for file in sorted(path.glob(f"*{SAFETENSORS}")):
        if file.name not in read and file.name != adapter:
            yield file.name


def refuse_head_of_another_library(path: Path) -> None:
    """Refuse a folder with a head that is kept apart from the model, in files that are not read.

    Raises:
        UsageError: naming the file.
    """
    found = [name for name in _HEADS_OF_OTHERS if (path / name).is_file()]
    if found:
        raise UsageError(
            f"The checkpoint has a head of SetFit ('{found[0]}') behind its sentence encoder, which is not read.",
            "Its encoder alone is exported with --task feature-extraction.",
        )


def _indexed(path: Path) -> tuple[str, ...]:
    index = read_json(path / INDEX)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise UsageError(f"The checkpoint's '{INDEX}' does not say which file each weight is in.")
    names = tuple(sorted(set(places.values())))
    for name in names:
        if Path(name).name != name:
            raise UsageError(f"The checkpoint's '{INDEX}' names the file '{name}', which is not beside it.")
        if not (path / name).is_file():
            raise UsageError(
                f"The checkpoint lacks '{name}', which its '{INDEX}' names.", "Copy or download the whole checkpoint."
            )
    return names
