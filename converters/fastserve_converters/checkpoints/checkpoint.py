"""What a checkpoint directory holds; `reading` fills it in without loading the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.adapters import Adapter
from fastserve_converters.checkpoints.checkpoint_files import PICKLES, readable_files
from fastserve_converters.checkpoints.families import Family
from fastserve_converters.checkpoints.generation_config import OF_MODELS
from fastserve_converters.checkpoints.gguf.finding import parts_of
from fastserve_converters.checkpoints.licences import licence_files
from fastserve_converters.checkpoints.longrope import short_tokens
from fastserve_converters.checkpoints.quantized.description import Quantization
from fastserve_converters.checkpoints.sentence_transformers import (
    SentenceHead,
    TextSettings,
    read_json,
)
from fastserve_converters.checkpoints.sentence_transformers.module_kinds import (
    PICKLED_WEIGHTS,
    SAFE_WEIGHTS,
    weights_of,
)
from fastserve_runtime.bundle.raw_inputs import POOLING_MASK, TOKEN_TYPES
from fastserve_runtime.errors import UsageError


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as its files describe it.

    Attributes:
        path: the directory of the Transformers model.
        root: the directory that was named; differs where sentence-transformers keeps the model in a folder of it.
        task: named as on the Hub.
        config: the content of `config.json`.
        labels: class names in the order of their ids; empty for other tasks.
        max_tokens: the longest sequence that the position embedding allows.
        sentence_head: how sentences are embedded, or None.
        weights: weight files, relative to `path`.
        licence: as the model card names it, or None.
        gguf: the GGUF file that all of it is in, or the first of its parts; or None.
        gguf_generation: how that file advises to generate, as a `generation_config.json` would say it.
        adapter: what is merged into its weights, or None.
        quantization: how another library has quantized its weights, or None where they are floats.
        notes: what the user should know of it, in sentences.
        texts: what becomes of a text before the model.
        takes_pairs: whether it is exported for pairs of texts rather than for single ones.
        reads_contexts: whether the second text of a pair is a question's context, which is read in windows.
        has_token_types: whether the texts of a pair are told apart by `token_type_ids`.
        activation: what makes its logits scores, where its files say so: `sigmoid`, `identity` or `softmax`.
    """

    path: Path
    root: Path
    family: Family
    task: str
    config: Mapping[str, Any]
    labels: tuple[str, ...]
    max_tokens: int
    sentence_head: SentenceHead | None
    weights: tuple[str, ...]
    licence: str | None
    gguf: Path | None = None
    gguf_generation: Mapping[str, Any] = field(default_factory=dict)
    adapter: Adapter | None = None
    quantization: Quantization | None = None
    notes: tuple[str, ...] = ()
    texts: TextSettings = field(default_factory=TextSettings)
    takes_pairs: bool = False
    reads_contexts: bool = False
    has_token_types: bool = False
    activation: str | None = None

    def files(self) -> tuple[Path, ...]:
        """Return the files that steps may read, and so those that the result depends on, in a fixed order."""
        if self.gguf is not None:
            return tuple(parts_of(self.gguf))
        return readable_files(self.root, pickles=self._has_pickles())

    def _has_pickles(self) -> bool:
        weights = (*self.weights, *(() if self.adapter is None else (self.adapter.weights,)))
        folders = () if self.sentence_head is None else self.sentence_head.weight_folders
        return any(Path(w).suffix in PICKLES for w in weights) or any(_is_pickled(self.root / f) for f in folders)

    @property
    def more_inputs(self) -> tuple[str, ...]:
        """What the model takes beside ids and mask; see `encoder_inputs`."""
        leaves_prompt_out = not self.texts.includes_prompt and any(self.texts.prompts.values())
        wanted = {TOKEN_TYPES: self.has_token_types, POOLING_MASK: leaves_prompt_out}
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)

    @property
    def truncate_dim(self) -> int | None:
        """So many numbers are kept of a sentence embedding; None: all of them."""
        return None if self.sentence_head is None else self.sentence_head.truncate_dim

    def licence_files(self) -> tuple[Path, ...]:
        """Return the licence and model card files that there are."""
        return licence_files(self.root)

    @property
    def usual_tokens(self) -> int:
        """How many tokens the model takes before something about it changes, as with longrope."""
        return min(self.max_tokens, short_tokens(self.config) or self.max_tokens)

    @property
    def location(self) -> Path:
        """What an export was told: the folder, or the GGUF file."""
        return self.gguf or self.root

    def check_length(self, length: int) -> None:
        """Refuse a sequence that is longer than the model's positions.

        Raises:
            UsageError: naming the most that it takes.
        """
        if length > self.max_tokens:
            raise UsageError(
                f"A sequence length of {length} was asked for; the model has positions for {self.max_tokens}.",
                f"Ask for {'--context' if self.family.generates else '--seq-len'} {self.max_tokens} or less.",
            )

    def generation(self) -> Mapping[str, Any]:
        """Return how the checkpoint advises to generate: its `generation_config.json`, or what its config says."""
        if self.gguf is not None:
            return self.gguf_generation
        if (self.path / "generation_config.json").is_file():
            found = read_json(self.path / "generation_config.json")
            if not isinstance(found, dict):
                raise UsageError(
                    "The checkpoint's 'generation_config.json' is not a JSON object.", "Correct it, or remove it."
                )
            return found
        return {name: self.config[name] for name in sorted(OF_MODELS) if self.config.get(name) is not None}

    def weights_sha256(self) -> str:
        """Return one digest over all weight files, and those of an adapter and of a sentence encoder's own modules."""
        digest = hashlib.sha256()
        for name in (*self.weights, *(() if self.adapter is None else (self.adapter.weights,))):
            digest.update(file_sha256(self.path / name).encode())
        for folder in () if self.sentence_head is None else self.sentence_head.weight_folders:
            digest.update(file_sha256(weights_of(self.root, folder, allow_pickle=True)).encode())
        return digest.hexdigest()


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_pickled(folder: Path) -> bool:
    return (folder / PICKLED_WEIGHTS).is_file() and not (folder / SAFE_WEIGHTS).is_file()
