"""Small decoders that these tests share, each made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from decoder_checkpoints import save_decoder_checkpoint
from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes checkpoints of small random decoders. Do not write into them."""
    made: dict[tuple[str, bool], Path] = {}

    def make(kind: str = "llama", *, chat: bool = True) -> Path:
        if (kind, chat) not in made:
            made[kind, chat] = save_decoder_checkpoint(tmp_path_factory.mktemp("decoders") / kind, kind, chat=chat)
        return made[kind, chat]

    return make


@pytest.fixture(scope="session")
def theirs(tiny_decoder) -> Any:
    """Transformers' tokenizer of such a checkpoint, which begins texts with no token of its own."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_decoder())


@pytest.fixture(scope="session")
def ours(theirs) -> Callable[..., PromptTokenizer]:
    """Makes the runtime's tokenizer of the same file, with settings, and with or without a beginning token."""

    def make(*, begins: bool = False, context: int = 64, **settings: Any) -> PromptTokenizer:
        from tokenizers import Tokenizer, processors

        tokenizer = Tokenizer.from_str(theirs.backend_tokenizer.to_str())
        if begins:
            tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
            settings["beginning"] = 1
        return PromptTokenizer(tokenizer.to_str().encode(), PromptSettings(context, **settings))

    return make
