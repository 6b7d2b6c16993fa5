"""`config_sentence_transformers.json`: what holds for the whole model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.sentence_transformers.config_file import ConfigFile, read_config
from fastserve_runtime.errors import UsageError

FILE = "config_sentence_transformers.json"
EMBEDDER = "SentenceTransformer"
CROSS_ENCODER = "CrossEncoder"
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# sentence-transformers has these two names for every embedding model, with an empty text unless the file gives one.
_USUAL_PROMPTS = ("query", "document")
_KNOWN = ("__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim")
# Which activation it is, is read with the marks of cross-encoders; everything is computed in float32.
_OF_CROSS_ENCODERS = ("activation_fn", "keep_in_fp32_modules")


@dataclass(frozen=True)
class SentenceSettings:
    """What holds for the whole model.

    Attributes:
        model_type: `SentenceTransformer`, `CrossEncoder` or another kind, which its file names.
        prompts: texts that are put before what is embedded, by name.
        default_prompt: the name of the prompt that is put before a text if nothing else is said, or None.
        truncate_dim: so many numbers are kept of an embedding, or None.
        similarity: how embeddings are compared.
        others: keys that mean nothing to a model of that kind, with their values.
    """

    model_type: str = EMBEDDER
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    truncate_dim: int | None = None
    similarity: str = "cosine"
    others: Mapping[str, Any] = field(default_factory=dict)

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of keys that are not carried."""
        if not self.others:
            return ()
        names = ", ".join(f"'{name}'" for name in self.others)
        return (f"{FILE} has {names}, which changes no result and is not carried.",)


def read_sentence_settings(checkpoint: Path) -> SentenceSettings:
    """Read the settings of a checkpoint; the usual ones where it has no such file.

    Raises:
        UsageError: a value is of a wrong kind, or the default prompt is none of the prompts.
    """
    file = read_config(checkpoint, FILE, optional=True)
    kind = file.optional("model_type", str) or EMBEDDER
    known = (*_KNOWN, *(_OF_CROSS_ENCODERS if kind == CROSS_ENCODER else ()))
    prompts = _prompts(file)
    default = file.optional("default_prompt_name", str)
    if default is not None and default not in prompts:
        if default not in _USUAL_PROMPTS:
            raise UsageError(
                f"The checkpoint's '{FILE}' names the default prompt '{default}', which is none of its prompts.",
                f"Its prompts are: {', '.join(prompts) or 'none'}.",
            )
        default = None
    similarity = file.optional("similarity_fn_name", str) or "cosine"
    if similarity not in SIMILARITIES:
        raise file.wrong("similarity_fn_name", f"Known are: {', '.join(SIMILARITIES)}.")
    return SentenceSettings(
        kind,
        prompts,
        default,
        file.optional_count("truncate_dim"),
        similarity,
        {key: file.content[key] for key in file.unknown_keys(known)},
    )


def _prompts(file: ConfigFile) -> dict[str, str]:
    given = file.optional("prompts", dict) or {}
    for name, text in given.items():
        if not (text is None or isinstance(text, str)) or (text and not name):
            raise file.wrong("prompts", "Give every prompt a name, and a text.")
    return {str(name): text or "" for name, text in given.items()}
