"""The reference of a decoder.

The trained model's log-probabilities of each next token of real texts, and how it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.generation_config import read_advice
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.data import Sample, Split
from fastserve_converters.data.golden_texts import GoldenText, non_latin_texts
from fastserve_converters.models.decoder.prompts import (
    open_prompts,
    prompt_settings,
    prove_same_prompts,
    settings_document,
    template_notes,
    tokenizer_config,
)
from fastserve_converters.models.reference import (
    CALIBRATION,
    DESCRIPTION,
    INPUTS,
    OUTPUTS,
    TOKENIZER,
    TOKENIZER_CONFIG,
)
from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation import traces
from fastserve_runtime.generation.prompt_tokenizer import KIND, PromptTokenizer

WINDOW = 256
"""Tokens of an evaluation trace, or the whole context where that is less."""
MAX_WINDOWS = 8
PROMPT = 32
"""So many tokens of an evaluation trace are fed at once; what follows them is scored."""
CALIBRATION_WINDOW = 128
MAX_CALIBRATION_WINDOWS = 64
CANDIDATES = 32
NEW_TOKENS = 16
"""Tokens by which the reference continues a golden prompt."""
_BETWEEN = "\n\n"


@dataclass(frozen=True)
class _Row:
    """A trace to be run: its tokens, how many of them are fed at once."""

    tokens: list[int]
    prompt: int


def build_reference(
    out: Path,
    checkpoint: Checkpoint,
    model: torch.nn.Module,
    tokenizer: Any,
    generation: Mapping[str, Any],
    split: Split,
    context: int,
) -> dict[str, Any]:
    """Run the original model on evaluation traces and golden prompts and write what later steps need.

    Written to `out`, under the names of `fastserve_converters.models.reference`: the tokenizer, the traces (evaluation,
    then goldens), the reference's log-probabilities of them, calibration windows, and a description, which is returned
    too.

    Args:
        out: an empty folder.
        checkpoint: the model's description.
        model: as loaded.
        tokenizer: Transformers' tokenizer in its fast form.
        generation: the checkpoint's `generation_config.json`.
        split: texts.
        context: how many tokens the model is exported for.

    Raises:
        UsageError: there is too little text, or the chat template or the tokenizer cannot be used on a device.
        EnvironmentFailure: the bundle's tokenizer and Transformers' disagree.
    """
    vocabulary = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    advice = read_advice(generation, vocabulary)
    settings = prompt_settings(tokenizer, advice, context, vocabulary)
    tokenizer.backend_tokenizer.save(str(out / TOKENIZER))
    (out / TOKENIZER_CONFIG).write_text(json.dumps(tokenizer_config(settings), indent=1))
    ours = open_prompts((out / TOKENIZER).read_bytes(), settings)
    texts = [s.text for s in split.evaluation]
    window = min(WINDOW, context)
    goldens = golden_prompts(texts, ours, maximum=window - new_tokens(window))
    prove_same_prompts(tokenizer, ours, [*texts, *(g.text for g in goldens)])
    evaluation = [_Row(w, min(PROMPT, len(w) // 4)) for w in windows(ours, split.evaluation, window)[:MAX_WINDOWS]]
    rows = [*evaluation, *(_continued(model, ours, g, new_tokens(window)) for g in goldens)]
    inputs, outputs = run_reference(model, checkpoint, rows, window)
    length = min(CALIBRATION_WINDOW, context)
    calibration = calibration_windows(ours, split.calibration, length)[:MAX_CALIBRATION_WINDOWS]
    _save(out / INPUTS, inputs)
    _save(out / OUTPUTS, outputs)
    ids = np.array(calibration, np.int32).reshape(-1, length)
    _save(out / CALIBRATION, {"input_ids": ids, "attention_mask": np.ones(ids.shape, np.float32)})
    task: Task = TASKS.load(checkpoint.task)
    description = {
        "task_settings": task.settings(checkpoint),
        "preprocessing": {"kind": KIND, "settings": settings_document(settings)},
        "evaluation": len(evaluation),
        "calibration": len(calibration),
        "labels": None,
        "goldens": [g.as_document() for g in goldens],
        "notes": [*advice.notes, *template_notes(tokenizer)],
    }
    (out / DESCRIPTION).write_text(json.dumps(description))
    return description


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


def _continued(model: Any, tokenizer: PromptTokenizer, golden: GoldenText, count: int) -> _Row:
    """Return a prompt with the tokens by which the reference goes on, always the likeliest."""
    tokens = tokenizer.encode(golden.text)
    if not tokens and tokenizer.settings.beginning is not None:
        tokens = [tokenizer.settings.beginning]
    prompt = torch.tensor([tokens])
    # Whatever the checkpoint advises beside: goldens are what the model itself finds likeliest.
    ends = model.generation_config.eos_token_id
    plain = GenerationConfig(max_new_tokens=count, do_sample=False, pad_token_id=0, eos_token_id=ends)
    model.generation_config = plain  # what the call leaves open would be taken from there
    with torch.inference_mode():
        whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=plain)
    return _Row(whole[0].tolist(), len(tokens))


def run_reference(
    model: torch.nn.Module, checkpoint: Checkpoint, rows: Sequence[_Row], positions: int
) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]:
    """Return traces as padded arrays, with the reference's likeliest tokens and their log-probabilities.

    Raises:
        UsageError: the model gives values that are not finite.
    """
    task: Task = TASKS.load(checkpoint.task)
    inputs: dict[str, NDArray[np.generic]] = {
        traces.TOKENS: np.array([r.tokens + [0] * (positions - len(r.tokens)) for r in rows], np.int32),
        traces.LENGTH: np.array([len(r.tokens) for r in rows], np.int32),
        traces.PROMPT: np.array([r.prompt for r in rows], np.int32),
    }
    inputs[traces.SCORED] = traces.scored_positions(inputs)
    for row, given in enumerate(rows):
        logits = _logits(task, model, checkpoint, given.tokens)
        if row == 0:
            count = min(CANDIDATES, logits.shape[-1] - 1)
            inputs[traces.CANDIDATES] = np.zeros((len(rows), positions, count), np.int32)
            outputs = traces.empty_outputs(inputs)
        candidates = inputs[traces.CANDIDATES][row]
        trace = traces.Trace(np.array(given.tokens, np.int32), given.prompt, candidates)
        for position in range(given.prompt - 1, len(given.tokens) - 1):
            candidates[position] = _likeliest(logits[position], candidates.shape[1])
            traces.record(outputs, row, position, logits[position], trace)
    return inputs, outputs


def _logits(task: Task, model: torch.nn.Module, checkpoint: Checkpoint, tokens: list[int]) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits = task.reference_outputs(model, checkpoint, {"input_ids": torch.tensor([tokens])})[
            task.outputs(checkpoint)[0].name
        ][0]
    if not bool(torch.isfinite(logits).all()):
        raise UsageError("The model gives values that are not finite on the evaluation texts.", "Check its weights.")
    return np.asarray(logits.numpy(), np.float32)


def _likeliest(scores: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    best = np.argpartition(-scores, count)[:count]
    return best[np.argsort(-scores[best], kind="stable")]


def _save(file: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(file, **arrays)
