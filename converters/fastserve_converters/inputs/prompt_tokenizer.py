"""Kind `prompt-tokenizer`: texts that a decoder continues."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastserve_converters.checkpoints.generation_config import read_advice
from fastserve_converters.checkpoints.tokenizer_checks import check_vocabulary, embedding_rows
from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_CONFIG, TOKENIZER_FILE, load_tokenizer
from fastserve_converters.data import Sample, Split
from fastserve_converters.inputs import LoadedCheckpoint, PreparedInputs
from fastserve_converters.inputs._golden_texts import GoldenText, non_latin_texts
from fastserve_converters.inputs._prompt_settings import (
    open_prompts,
    prompt_settings,
    prove_same_prompts,
    settings_document,
    template_notes,
    tokenizer_config,
)
from fastserve_converters.inputs._texts import divide_texts, read_texts
from fastserve_runtime.bundle.raw_inputs import PROMPTS
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.generation.prompt_tokenizer import PromptTokenizer

WINDOW = 256
"""Tokens of an evaluation window, or the whole context where that is less."""
MAX_WINDOWS = 8
CALIBRATION_WINDOW = 128
MAX_CALIBRATION_WINDOWS = 64
NEW_TOKENS = 16
"""Tokens by which the reference continues a golden prompt."""
_BETWEEN = "\n\n"


read = read_texts
"""Makes samples of tables; see `InputKind`."""
divide = divide_texts
"""Divides texts; see `InputKind`."""


def prepare(divided: Split, model: LoadedCheckpoint, out: Path) -> PreparedInputs:
    """Cut texts into windows of tokens, and choose golden prompts; see `InputKind`.

    All tensors are `input_ids` (int32) and `attention_mask` (float32), shape [n, tokens]; golden prompts are padded.

    Raises:
        UsageError: there is too little text, or the chat template or the tokenizer cannot be used on a device.
        EnvironmentFailure: the bundle's tokenizer and Transformers' disagree.
    """
    vocabulary = embedding_rows(model.model)
    theirs = load_tokenizer(model.checkpoint)
    vocabulary_note = check_vocabulary(theirs, vocabulary)
    advice = read_advice(model.checkpoint.generation(), vocabulary)
    settings = prompt_settings(theirs, advice, model.length, vocabulary)
    theirs.backend_tokenizer.save(str(out / TOKENIZER_FILE))
    (out / TOKENIZER_CONFIG).write_text(json.dumps(tokenizer_config(settings), indent=1))
    ours = open_prompts((out / TOKENIZER_FILE).read_bytes(), settings)
    texts = [s.text for s in divided.evaluation]
    window = window_of(model.length)
    goldens = golden_prompts(texts, ours, maximum=window - new_tokens(window))
    prove_same_prompts(theirs, ours, [*texts, *(g.text for g in goldens)])
    length = min(CALIBRATION_WINDOW, model.length)
    evaluation = windows(ours, divided.evaluation, window)[:MAX_WINDOWS]
    calibration = calibration_windows(ours, divided.calibration, length)[:MAX_CALIBRATION_WINDOWS]
    return PreparedInputs(
        preprocessing={"kind": PROMPTS, "settings": settings_document(settings)},
        evaluation=_padded(evaluation, window),
        golden=_padded([_encoded(ours, golden) for golden in goldens], window),
        calibration=_padded(calibration, length),
        goldens=[g.as_document() for g in goldens],
        samples=len(evaluation),
        calibration_samples=len(calibration),
        notes=(*advice.notes, *template_notes(theirs), *filter(None, [vocabulary_note])),
    )


def window_of(context: int) -> int:
    """Return how many tokens an evaluation window has, of a model with such a context."""
    return min(WINDOW, context)


def new_tokens(window: int) -> int:
    """Return by how many tokens golden prompts are continued, where traces have so many positions."""
    return min(NEW_TOKENS, window // 4)


def windows(tokenizer: PromptTokenizer, samples: Sequence[Sample], length: int) -> list[list[int]]:
    """Return texts, one behind the other, as sequences of exactly so many tokens, each begun as texts are.

    Raises:
        UsageError: they do not fill one.
    """
    found, count = _cut_into(tokenizer, samples, length)
    if not found:
        raise UsageError(
            f"The texts have {count} tokens in all; sequences of {length} are wanted.", "Give more with --data."
        )
    return found


def calibration_windows(tokenizer: PromptTokenizer, samples: Sequence[Sample], length: int) -> list[list[int]]:
    """Return the same; none where the texts do not fill one, since only some precisions need them."""
    return _cut_into(tokenizer, samples, length)[0]


def _cut_into(tokenizer: PromptTokenizer, samples: Sequence[Sample], length: int) -> tuple[list[list[int]], int]:
    ids = tokenizer.encode(_BETWEEN.join(s.text for s in samples))
    beginning = tokenizer.settings.beginning
    head = ids[:1] if beginning is not None and ids[:1] == [beginning] else []
    body = ids[len(head) :]
    step = length - len(head)
    return [head + body[start : start + step] for start in range(0, len(body) - step + 1, step)], len(ids)


def golden_prompts(texts: Sequence[str], tokenizer: PromptTokenizer, *, maximum: int) -> list[GoldenText]:
    """Choose golden prompts: short ones, non-Latin ones, one as long as fits, and degenerate ones.

    Args:
        texts: real ones.
        tokenizer: makes tokens.
        maximum: no prompt has more tokens.
    """
    long = _cut(tokenizer, _BETWEEN.join(texts), maximum)
    prompts = [
        *(GoldenText(_cut(tokenizer, t, min(12, maximum)), "short", realistic=True) for t in texts[:3]),
        *(GoldenText(_cut(tokenizer, t, min(24, maximum)), "non-latin", realistic=True) for t in non_latin_texts()),
        GoldenText(long, "full", realistic=True),
        GoldenText("The", "one word", realistic=True),
        GoldenText(
            _cut(tokenizer, "\U0001f469\u200d\U0001f4bb\U0001f525 \ufffd\u200b" * 8, maximum),
            "extreme",
            realistic=False,
        ),
        GoldenText(_cut(tokenizer, "a " * maximum, maximum // 2), "extreme", realistic=False),
    ]
    if tokenizer.settings.beginning is not None:
        prompts.append(GoldenText("", "empty", realistic=False))
    return [p for p in prompts if p.text or p.kind == "empty"]


def _cut(tokenizer: PromptTokenizer, text: str, maximum: int) -> str:
    """Return the longest beginning of a text that has no more than so many tokens."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(tokenizer.encode(text[:middle])) <= maximum:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def _encoded(tokenizer: PromptTokenizer, golden: GoldenText) -> list[int]:
    tokens = tokenizer.encode(golden.text)
    beginning = tokenizer.settings.beginning
    return tokens if tokens or beginning is None else [beginning]


def _padded(rows: Sequence[Sequence[int]], length: int) -> dict[str, NDArray[np.generic]]:
    ids = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), np.float32)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}
