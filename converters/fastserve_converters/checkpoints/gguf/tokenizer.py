"""The tokenizer of a GGUF file as one of Transformers, made of the file's metadata alone.

What llama.cpp computes is the truth here: a byte-level vocabulary is merged after its split (`splits`), a SentencePiece
vocabulary by its scores over the whole text, and special tokens are cut out of the text before either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.gguf.header import GgufHeader, read_header
from fastserve_converters.checkpoints.gguf.splits import WITHOUT_NAME, split_named
from fastserve_converters.checkpoints.gguf.vocabulary import (
    ARRAYS,
    BYTE_LEVEL,
    MERGES,
    SCORES,
    SENTENCE_PIECE,
    Vocabulary,
    read_vocabulary,
)
from fastserve_runtime.errors import FastServeError, UsageError
from fastserve_runtime.generation.chat_template import ChatTemplate

_TEMPLATE, _DEFAULT = "tokenizer.chat_template", "default"
_BLANK = "▁"
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
_STRIPS_BEHIND = ("phi-3", "phi3")
"""Models by whose names llama.cpp knows that blanks behind special tokens are no text."""
_STRIPS_NOTHING = frozenset({"<unk>", "<s>", "<|endoftext|>"})
_ROLES: Mapping[str, str] = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def load_gguf_tokenizer(file: Path) -> Any:
    """Return the fast tokenizer of a file, with its chat template.

    Raises:
        UsageError: the file is damaged, or its tokenizer is not supported.
        EnvironmentFailure: the gguf package is missing, or the file cannot be read.
    """
    import transformers

    header = read_header(file, arrays=ARRAYS | {SCORES, MERGES})
    vocabulary = read_vocabulary(header)
    backend = _backend(header, vocabulary)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False)
    for role, name in _ROLES.items():
        if role in vocabulary.named:
            setattr(tokenizer, name, vocabulary.tokens[vocabulary.named[role]])
    templates = {name: _begun(template, header, vocabulary) for name, template in _templates(header).items()}
    if templates:
        tokenizer.chat_template = templates[_DEFAULT] if templates.keys() == {_DEFAULT} else templates
    return tokenizer


def _templates(header: GgufHeader) -> dict[str, str]:
    """Return the chat templates by their names, the one without a name as Transformers names it."""
    keys = [key for key in header.metadata if key == _TEMPLATE or key.startswith(f"{_TEMPLATE}.")]
    found = {key.removeprefix(_TEMPLATE).removeprefix(".") or _DEFAULT: header.metadata[key] for key in keys}
    return {name: template for name, template in found.items() if isinstance(template, str) and template}


def split_name(header: GgufHeader) -> str:
    """Return how a byte-level tokenizer splits, as the file names it."""
    return str(header.metadata.get("tokenizer.ggml.pre") or WITHOUT_NAME)


def _backend(header: GgufHeader, vocabulary: Vocabulary) -> Any:
    """Return the tokenizer of the `tokenizers` library.

    Raises:
        UsageError: something in it is not supported, missing, or does not fit.
    """
    from tokenizers import AddedToken

    makers = {SENTENCE_PIECE: _sentence_piece, BYTE_LEVEL: _byte_level}
    backend = makers[vocabulary.kind](header, vocabulary)
    name = str(header.metadata.get("general.name", "")).lower()
    does_strip = any(part in name for part in _STRIPS_BEHIND)
    apart = [
        AddedToken(
            vocabulary.tokens[i],
            normalized=False,
            special=vocabulary.is_special(i),
            rstrip=does_strip and vocabulary.tokens[i] not in _STRIPS_NOTHING,
        )
        for i in vocabulary.apart()
    ]
    backend.add_special_tokens([token for token in apart if token.special])
    backend.add_tokens([token for token in apart if not token.special])
    _add_around(backend, header, vocabulary)
    return backend


def _byte_level(header: GgufHeader, vocabulary: Vocabulary) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    split = split_named(split_name(header), header.path.name)
    merges = header.metadata.get(MERGES)
    if not isinstance(merges, tuple):
        raise UsageError(f"The GGUF file '{header.path.name}' has no merges.", "Name a file of a whole model.")
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    pairs = dict.fromkeys(_parted(str(merge)) for merge in merges)
    wrong = next((pair for pair in pairs if not {*pair, "".join(pair)} <= ids.keys()), None)
    if wrong is not None:
        raise UsageError(
            f"The tokenizer of '{header.path.name}' cannot be read: it merges {wrong[0]!r:.40} and {wrong[1]!r:.40}, "
            "which are not all tokens.",
            "Download the file again.",
        )
    model = models.BPE(vocab=ids, merges=list(pairs), ignore_merges=split.takes_whole_words)
    backend = Tokenizer(model)
    steps = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in split.patterns]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _parted(merge: str) -> tuple[str, str]:
    """Return the two halves of a merge; the blank between them is never its first sign."""
    at = merge.find(" ", 1)
    return merge[:at], merge[at + 1 :]


def _sentence_piece(header: GgufHeader, vocabulary: Vocabulary) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    scores = header.metadata.get(SCORES)
    if not isinstance(scores, tuple) or len(scores) < len(vocabulary.tokens):
        raise UsageError(
            f"The GGUF file '{header.path.name}' lacks scores of its tokens, by which texts are merged.",
            "Convert the model again with a llama.cpp of today.",
        )
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    missing = next((b for b in _BYTES if b not in ids), None)
    if missing is not None:
        raise UsageError(
            f"The GGUF file '{header.path.name}' has no token '{missing}' for a byte that no other token has.",
            "Convert the model again with a llama.cpp of today.",
        )
    order = sorted(range(len(vocabulary.tokens)), key=lambda i: (-float(scores[i]), i))
    merges = [pair for i in order for pair in _halves(vocabulary.tokens[i], ids)]
    backend = Tokenizer(models.BPE(vocab=ids, merges=merges, byte_fallback=True, fuse_unk=False))
    has_prefix = bool(header.metadata.get("tokenizer.ggml.add_space_prefix", True))
    escaped = normalizers.Replace(" ", _BLANK)
    # Each piece between special tokens gets its own prefix.
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_BLANK), escaped]) if has_prefix else escaped
    steps = [decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if has_prefix else steps)
    return backend


def _halves(token: str, ids: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Return the pairs of tokens that a token may be merged of."""
    for at in range(1, len(token)):
        left, right = token[:at], token[at:]
        if left in ids and right in ids:
            yield left, right


def _begun(template: str, header: GgufHeader, vocabulary: Vocabulary) -> str:
    """Return a chat template that begins a conversation as llama.cpp does: as any text, if its author forgot to.

    Transformers leaves it to the template, llama.cpp adds the token where it is missing.
    """
    if not _begins(header, vocabulary):
        return template
    beginning = vocabulary.tokens[vocabulary.named["bos"]]
    named = {_ROLES[role]: vocabulary.tokens[token] for role, token in vocabulary.named.items()}
    try:
        text = ChatTemplate(template, named).render([{"role": "user", "content": "Hello"}], add_generation_prompt=True)
    except FastServeError:
        return template  # which is told when the conversations of the reference are rendered
    return template if text.startswith(beginning) else f"{{{{ bos_token }}}}{template}"


def _begins(header: GgufHeader, vocabulary: Vocabulary) -> bool:
    """Whether a text begins with the token for that."""
    is_usual = vocabulary.kind == SENTENCE_PIECE or split_named(split_name(header), header.path.name).begins
    return bool(header.metadata.get("tokenizer.ggml.add_bos_token", is_usual))


def _add_around(backend: Any, header: GgufHeader, vocabulary: Vocabulary) -> None:
    """Let a text begin and end with the tokens for that, if it does.

    Raises:
        UsageError: it does, and the file names no such token.
    """
    from tokenizers import processors

    wanted = {
        "bos": _begins(header, vocabulary),
        "eos": bool(header.metadata.get("tokenizer.ggml.add_eos_token", False)),
    }
    for role, is_wanted in wanted.items():
        if is_wanted and role not in vocabulary.named:
            raise UsageError(
                f"Texts of '{header.path.name}' have a token {'before' if role == 'bos' else 'behind'} them, and the "
                f"file does not say which: it lacks 'tokenizer.ggml.{role}_token_id'.",
                "Convert the model again with a llama.cpp of today.",
            )
    if not any(wanted.values()):
        return
    around = {role: vocabulary.named[role] for role, is_wanted in wanted.items() if is_wanted}
    places = [place for place in ("bos", "$A", "eos") if place == "$A" or place in around]
    backend.post_processor = processors.TemplateProcessing(
        single=places,
        pair=None,
        special_tokens=[
            {"id": role, "ids": [token], "tokens": [vocabulary.tokens[token]]} for role, token in around.items()
        ],
    )
