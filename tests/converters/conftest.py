"""Checkpoints that the converters' tests share: hand-made folders, and small random models made once a session."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from checkpoints import save_checkpoint, texts
from decoder_checkpoints import save_decoder_checkpoint
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.tokenizer_loading import load_tokenizer
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.exportable_model import build_exportable_model
from fastserve_converters.models.model import TracedPart
from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer

# No deadlines, since other work may go on; the same examples in every run, kept nowhere.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

LENGTH = 24
"""Tokens of the encoders that are exportable models here."""
CONFIG = {"model_type": "bert", "architectures": ["BertModel"], "max_position_embeddings": 512}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder that looks like a checkpoint; its weights are no real ones."""

    def make(files: dict[str, Any] | None = None, *, weights: str | None = "model.safetensors", **config: Any) -> Path:
        root = tmp_path / "checkpoint"
        root.mkdir()
        fields = {k: v for k, v in (CONFIG | config).items() if v is not ...}
        contents = {"config.json": fields, **(files or {})}
        if weights is not None:
            contents[weights] = "weights"
        for name, content in contents.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        return root

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes small random models, each one once. Do not write into them: take a `tiny_copy`."""
    made: dict[tuple[Any, ...], Path] = {}

    def make(family: str = "bert", *, classify: bool = False, sentence: bool = False) -> Path:
        key = (family, classify, sentence)
        if key not in made:
            location = tmp_path_factory.mktemp("tiny") / "model"
            made[key] = save_checkpoint(location, family, classify=classify, sentence=sentence)
        return made[key]

    return make


@pytest.fixture
def tiny_copy(tiny: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Copies a small random model, to be spoilt."""

    def make(*arguments: Any, **settings: Any) -> Path:
        return shutil.copytree(tiny(*arguments, **settings), tmp_path / "copy")

    return make


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


@pytest.fixture
def encoder(tiny: Callable[..., Path]) -> Callable[..., TracedPart]:
    def make(family: str = "bert", **settings: bool) -> TracedPart:
        checkpoint = read_checkpoint(tiny(family, **settings))
        return encoder_part(build_exportable_model(load_model(checkpoint), checkpoint, LENGTH), LENGTH)

    return make


@pytest.fixture(scope="session")
def samples(tiny: Callable[..., Path]) -> dict[str, np.ndarray]:
    """Real texts, most of them with padding behind."""
    tokenizer = load_tokenizer(read_checkpoint(tiny("bert")))
    chosen = [text[: 10 + 4 * i] for i, text in enumerate(texts()[:24])]
    encoded = tokenizer(chosen, padding="max_length", truncation=True, max_length=LENGTH)
    return {
        "input_ids": np.array(encoded["input_ids"], np.int32),
        "attention_mask": np.array(encoded["attention_mask"], np.float32),
    }
