"""The vocabulary of a GGUF file: its tokens, what kind each is, and which of them begin and end texts.

Conventions are llama.cpp's (`llama-vocab.cpp`). A file names one token that ends texts; those that end a turn or a
message are found by their texts, as llama.cpp finds them, since converters seldom name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from fastserve_converters.checkpoints.gguf.header import GgufHeader
from fastserve_runtime.errors import UsageError

TOKENS, TYPES, SCORES, MERGES = (f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "scores", "merges"))
ARRAYS = frozenset({TOKENS, TYPES})
"""What a header must be read with for `read_vocabulary`."""
SENTENCE_PIECE, BYTE_LEVEL = "llama", "gpt2"
KINDS = (SENTENCE_PIECE, BYTE_LEVEL)

_ENDS = frozenset(
    {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
    }
)  # fmt: skip
_KEYED_ENDS: Mapping[str, frozenset[str]] = {
    "eos": frozenset(),
    "eot": frozenset(),
    "eom": frozenset(),
    "fim_pad": frozenset({"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}),
    "fim_rep": frozenset({"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}),
    "fim_sep": frozenset({"<|file_sep|>"}),
}
"""Ends that have a key, and by which texts they are known where it is missing."""
_FILL_IN_THE_MIDDLE: Mapping[str, frozenset[str]] = {
    "fim_pre": frozenset({
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
        "<|prefix|>",
    }),
    "fim_suf": frozenset({
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>",
        "<|suffix|>",
    }),
    "fim_mid": frozenset({
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>",
        "<|middle|>",
    }),
}  # fmt: skip
"""Tokens that are special by their texts where the file names none."""
_IN_MESSAGES = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})
"""Of gpt-oss: control tokens that belong to the text."""
_HARMONY = (
    {"<|return|>", "<|call|>"},
    {"<|call|>", "<|flush|>"},
    {"<|calls|>", "<|return|>"},
    {"<|calls|>", "<|flush|>"},
)
"""Where a vocabulary has both of such a pair, its `<|end|>` ends a message and no text."""
_DEFAULTS: Mapping[str, Mapping[str, int]] = {SENTENCE_PIECE: {"bos": 1, "eos": 2, "unknown": 0}, BYTE_LEVEL: {}}
"""llama.cpp's own for byte-level tokenizers (token 11, which was Falcon's) are of no use for others."""


class TokenKind(IntEnum):
    """What a token is; values are those of `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_ROLES = ("bos", "eos", "padding", "unknown")
_NEEDED = frozenset({"bos", "eos"})
_APART = frozenset({TokenKind.UNKNOWN, TokenKind.CONTROL, TokenKind.USER_DEFINED})


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary.

    Attributes:
        kind: `llama` (SentencePiece) or `gpt2` (byte-level).
        tokens: the text of each, by id.
        types: of each, after llama.cpp's corrections.
        named: ids of the tokens that have a role: `bos`, `eos`, `padding`, `unknown`; those that there are.
        ends: ids that end what is generated, ascending.
    """

    kind: str
    tokens: tuple[str, ...]
    types: tuple[TokenKind, ...]
    named: Mapping[str, int]
    ends: tuple[int, ...]

    def apart(self) -> list[int]:
        """Return the ids of tokens that are cut out of a text before all else, ascending."""
        return [i for i, kind in enumerate(self.types) if kind in _APART]

    def is_special(self, token: int) -> bool:
        """Whether a token is none of a text's own."""
        return self.types[token] in {TokenKind.CONTROL, TokenKind.UNKNOWN}


def read_vocabulary(header: GgufHeader) -> Vocabulary:
    """Return the vocabulary of a file whose header was read with `ARRAYS`.

    Raises:
        UsageError: it is of a kind that is not supported, or is damaged.
    """
    metadata, name = header.metadata, header.path.name
    kind = metadata.get("tokenizer.ggml.model")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(
            f"The GGUF file '{name}' has a tokenizer of the kind '{kind}', which is not supported.",
            f"Supported are {' and '.join(KINDS)}.",
        )
    tokens = _tokens(header)
    types = _types(header, len(tokens))
    ids = {token: i for i, token in enumerate(tokens)}
    named = {role: _named(header, role, len(tokens), _DEFAULTS[kind].get(role)) for role in _ROLES}
    ends = _ends(header, ids, named["eos"])
    # Converters forget to mark them now and then.
    for i in {ids[t] for t in _ENDS & ids.keys()} | _filling(header, ids):
        types[i] = TokenKind.CONTROL
    for token in _IN_MESSAGES & ids.keys():
        types[ids[token]] = TokenKind.USER_DEFINED
    for token, changed in (("<|end|>", TokenKind.USER_DEFINED), ("</s>", TokenKind.NORMAL)):
        if token in ids and ids[token] not in ends:
            types[ids[token]] = changed
    known = {role: i for role, i in named.items() if i is not None}
    return Vocabulary(kind, tokens, tuple(types), known, tuple(sorted(ends)))


def special_ids(header: GgufHeader) -> dict[str, Any]:
    """Return the ids of special tokens by the names of a `config.json`; a text ends at any of those that end a turn.

    A file without a vocabulary, such as one of random weights, has those that it names.

    Raises:
        UsageError: the vocabulary is of a kind that is not supported, or is damaged.
    """
    if TOKENS in header.metadata:
        vocabulary = read_vocabulary(header)
        named, ends = vocabulary.named, vocabulary.ends
    else:
        roles = {role: header.metadata.get(f"tokenizer.ggml.{role}_token_id") for role in (*_ROLES, *_KEYED_ENDS)}
        named = {role: i for role, i in roles.items() if isinstance(i, int)}
        ends = tuple(sorted(i for role, i in named.items() if role in _KEYED_ENDS))
    return {
        "bos_token_id": named.get("bos"),
        "pad_token_id": named.get("padding"),
        "eos_token_id": ends[0] if len(ends) == 1 else list(ends) or None,
    }


def _tokens(header: GgufHeader) -> tuple[str, ...]:
    found = header.metadata.get(TOKENS)
    if not isinstance(found, tuple) or not all(isinstance(t, str) for t in found):
        raise UsageError(f"The GGUF file '{header.path.name}' has no tokens.", "Name a file of a whole model.")
    tokens = tuple(str(t) or f"[EMPTY_{i}]" for i, t in enumerate(found))
    if len(set(tokens)) < len(tokens):
        seen: set[str] = set()
        twice = next(t for t in tokens if t in seen or seen.add(t))  # type: ignore[func-returns-value]
        raise UsageError(
            f"The GGUF file '{header.path.name}' has the token {twice!r:.60} twice.",
            "Convert the model again with a llama.cpp of today.",
        )
    return tokens


def _types(header: GgufHeader, count: int) -> list[TokenKind]:
    found = header.metadata.get(TYPES)
    if found is None:
        return [TokenKind.NORMAL] * count
    if not isinstance(found, tuple) or len(found) < count:
        raise UsageError(
            f"The GGUF file '{header.path.name}' has {count} tokens and another number of '{TYPES}'.",
            "Download it again.",
        )
    known = {int(kind): kind for kind in TokenKind}
    return [known.get(int(value), TokenKind.NORMAL) for value in found[:count]]


def _named(header: GgufHeader, role: str, count: int, default: int | None = None) -> int | None:
    """Return the token that a file names for a role.

    Raises:
        UsageError: texts begin or end with it, and it is none.
    """
    value = header.metadata.get(f"tokenizer.ggml.{role}_token_id")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count:
        return value
    if value is not None and role in _NEEDED:
        raise UsageError(
            f"The tokenizer of '{header.path.name}' cannot be read: its '{role}_token_id' is {value}, and it has "
            f"{count} tokens.",
            "Convert the model again with a llama.cpp of today.",
        )
    return default if default is not None and default < count else None


def _ends(header: GgufHeader, ids: Mapping[str, int], eos: int | None) -> set[int]:
    found = {ids[token] for token in _ENDS & ids.keys()}
    if any(pair <= ids.keys() for pair in _HARMONY):
        found.discard(ids.get("<|end|>", -1))
    if {"<|tool_response>", "</s>"} <= ids.keys():
        found.discard(ids["</s>"])
    for role, texts in _KEYED_ENDS.items():
        named = eos if role == "eos" else _named(header, role, len(ids))
        found |= {ids[t] for t in texts & ids.keys()} if named is None else {named}
    return found


def _filling(header: GgufHeader, ids: Mapping[str, int]) -> set[int]:
    unnamed = [
        texts
        for role, texts in {**_FILL_IN_THE_MIDDLE, **_KEYED_ENDS}.items()
        if _named(header, role, len(ids)) is None
    ]
    return {ids[t] for texts in unnamed for t in texts & ids.keys()}
