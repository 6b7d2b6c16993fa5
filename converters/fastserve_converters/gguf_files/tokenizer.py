"""The tokenizer of a GGUF file as one of Transformers.

Transformers makes it, but knows only some of the ways in which byte-level tokenizers split a text before they merge
(`tokenizer.ggml.pre`, as `llama-vocab.cpp` of llama.cpp defines them), and silently takes GPT-2's for all others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastserve_converters.gguf_files.header import missing_package, read_header
from fastserve_runtime.errors import UsageError, one_line

_BYTE_LEVEL = "gpt2"
_KINDS = (_BYTE_LEVEL, "llama")
_AS_GPT2 = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "jais"})
_SINGLE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
_AS_QWEN2 = frozenset({"qwen2", "deepseek-r1-qwen", "megrez", "kormo"})
_AS_LLAMA3 = frozenset({"llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral"})
_WHOLE_WORDS = _AS_LLAMA3 | {"tekken"}
"""Their words that are tokens need no merges that lead to them."""
_KNOWN = _AS_GPT2 | _SINGLE_DIGITS | _AS_QWEN2 | _WHOLE_WORDS


def load_gguf_tokenizer(file: Path) -> Any:
    """Return the fast tokenizer of a file, with its chat template.

    Raises:
        UsageError: the file is damaged, or its tokenizer is not supported.
        EnvironmentFailure: the gguf package is missing, or the file cannot be read.
    """
    import transformers

    metadata = read_header(file).metadata
    kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind not in _KINDS or (kind == _BYTE_LEVEL and split not in _KNOWN):
        raise UsageError(
            f"The GGUF file '{file.name}' has a tokenizer of the kind '{kind}' with splits of the kind '{split}', "
            "which is not supported.",
            f"Supported are llama, and gpt2 with the splits of {', '.join(sorted(_KNOWN))}.",
        )
    try:
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(
            str(file.parent), gguf_file=file.name, local_files_only=True
        )
    except ImportError as error:
        raise missing_package() from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, StopIteration) as error:
        raise UsageError(f"The tokenizer of '{file.name}' cannot be read: {one_line(error)}.") from error
    if kind == _BYTE_LEVEL:
        _correct_splits(tokenizer.backend_tokenizer, str(split))
    return tokenizer


def _correct_splits(backend: Any, split: str) -> None:
    from tokenizers import pre_tokenizers

    if split in _SINGLE_DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if split in _WHOLE_WORDS:
        backend.model.ignore_merges = True
