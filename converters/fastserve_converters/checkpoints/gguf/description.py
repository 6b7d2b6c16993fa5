"""What a GGUF file says of its model, read from its header alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.gguf.configs import noted_config
from fastserve_converters.checkpoints.gguf.header import GgufHeader, read_header
from fastserve_converters.checkpoints.gguf.sampling import advised_generation
from fastserve_converters.checkpoints.gguf.vocabulary import ARRAYS, BYTE_LEVEL

QUANTIZED_TYPES = frozenset({"Q4_0", "Q4_1", "Q8_0"})
"""ggml's types whose quantized weights and scales ONNX Runtime can multiply with as they are."""


@dataclass(frozen=True)
class GgufDescription:
    """What a file describes.

    Attributes:
        config: as the model's `config.json` would have it.
        name: what the model calls itself, or None.
        licence: as its author names it, or None.
        chat_template: in Jinja, or None.
        types: ggml's names of the tensors' types, by bytes, most first.
        generation: how its author advises to generate, as a `generation_config.json` would have it.
        notes: what the user should know of it, in sentences.
    """

    config: Mapping[str, Any]
    name: str | None
    licence: str | None
    chat_template: str | None
    types: tuple[str, ...]
    generation: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def has_quantized_weights(self) -> bool:
        """Whether some tensors are quantized weights that can be kept."""
        return bool(QUANTIZED_TYPES.intersection(self.types))


def read_gguf_description(file: Path) -> GgufDescription:
    """Describe a file.

    Raises:
        UsageError: it is damaged, or its model is not supported.
        EnvironmentFailure: it cannot be read, or the gguf package is missing.
    """
    header = read_header(file, arrays=ARRAYS)
    sizes: Counter[str] = Counter()
    for tensor in header.tensors.values():
        sizes[tensor.kind] += tensor.size
    config, unread = noted_config(header)
    advice, notes = advised_generation(header.metadata)
    return GgufDescription(
        config=config,
        name=_text(header, "general.name"),
        licence=_text(header, "general.license"),
        chat_template=_text(header, "tokenizer.chat_template"),
        types=tuple(kind for kind, _ in sizes.most_common()),
        generation={**_ends(config), **advice},
        notes=(*notes, *unread, *_split_notes(header)),
    )


def _ends(config: Mapping[str, Any]) -> dict[str, Any]:
    ends = config.get("eos_token_id")
    return {} if ends is None else {"eos_token_id": ends}


def _split_notes(header: GgufHeader) -> Iterator[str]:
    kind, split = (header.metadata.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kind == BYTE_LEVEL and not split:
        yield (
            f"'{header.path.name}' does not say how its tokenizer splits texts (tokenizer.ggml.pre); it is split as "
            "llama.cpp splits by default, which is hardly as the model was trained."
        )


def _text(header: GgufHeader, key: str) -> str | None:
    value = header.metadata.get(key)
    return value if isinstance(value, str) and value else None
