"""Loading a checkpoint's tokenizer as Transformers makes it, and only where its files agree on what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.lower_case import with_lower_case
from fastserve_converters.checkpoints.sentence_transformers import read_json
from fastserve_runtime.errors import UsageError

TOKENIZER_FILE = "tokenizer.json"
_VOCABULARIES = (TOKENIZER_FILE, "vocab.txt", "vocab.json", "*.model")
TOKENIZER_CONFIG = "tokenizer_config.json"
_SAVE = "Save it beside the model with tokenizer.save_pretrained()."


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """Load the checkpoint's tokenizer in its fast form, which the `tokenizers` library runs on devices.

    Raises:
        UsageError: there is none, it has no fast form, or its files do not belong together.
    """
    if checkpoint.gguf is not None:
        from fastserve_converters.checkpoints.gguf.tokenizer import load_gguf_tokenizer

        return load_gguf_tokenizer(checkpoint.gguf)
    from transformers import AutoTokenizer

    # Without a vocabulary Transformers makes a tokenizer that knows its special tokens alone, and says nothing.
    if not any(any(checkpoint.path.glob(pattern)) for pattern in _VOCABULARIES):
        raise UsageError("The checkpoint has no tokenizer.", _SAVE)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(checkpoint.path), local_files_only=True, use_fast=True)
    except Exception as error:  # what is wrong with its files shows in any class, of the binding's own too
        said = str(error).strip().splitlines()
        raise UsageError(
            f"The checkpoint's tokenizer cannot be loaded{_class_named(checkpoint.path)}: "
            f"{said[0] if said else type(error).__name__}",
            f"{_SAVE} Check that '{TOKENIZER_CONFIG}' belongs to it.",
        ) from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise UsageError(
            "The checkpoint's tokenizer has no fast form, which a device needs.",
            "Convert it with Transformers and save its tokenizer.json beside the model.",
        )
    _check_kind(checkpoint.path, tokenizer)
    if not isinstance(tokenizer.model_max_length, int | float):
        raise UsageError(
            f"The tokenizer's 'model_max_length' is {tokenizer.model_max_length!r:.40}, which is no number.",
            f"Correct it in '{TOKENIZER_CONFIG}'.",
        )
    return with_lower_case(tokenizer) if checkpoint.texts.lower_case else tokenizer


def _check_kind(path: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that Transformers made anew, of another kind than the file says.

    Since version 5, the class that `tokenizer_config.json` names builds its own from the file's vocabulary.
    """
    stored = _stored_kind(path)
    made = type(tokenizer.backend_tokenizer.model).__name__
    if stored is not None and stored != made:
        raise UsageError(
            f"The checkpoint's '{TOKENIZER_FILE}' is a tokenizer of the kind {stored}, and Transformers makes one of "
            f"the kind {made} of it{_class_named(path)}.",
            f"Correct 'tokenizer_class' in '{TOKENIZER_CONFIG}', or save the tokenizer again where it was trained.",
        )


def _stored_kind(path: Path) -> str | None:
    if not (path / TOKENIZER_FILE).is_file():
        return None
    document = read_json(path / TOKENIZER_FILE)
    model = document.get("model") if isinstance(document, dict) else None
    kind = model.get("type") if isinstance(model, dict) else None
    return str(kind) if kind else None


def _class_named(path: Path) -> str:
    if not (path / TOKENIZER_CONFIG).is_file():
        return ""
    config = read_json(path / TOKENIZER_CONFIG)
    name = config.get("tokenizer_class") if isinstance(config, dict) else None
    return f" (class {name})" if name else ""
