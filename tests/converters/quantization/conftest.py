"""A small encoder as a part, and calibration inputs for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoints import texts
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.tokenizer_loading import load_tokenizer
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.exportable_model import build_exportable_model
from fastserve_converters.models.model import TracedPart

LENGTH = 24


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
