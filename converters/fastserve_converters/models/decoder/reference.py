"""The reference of a decoder.

The trained model's log-probabilities of each next token of real texts, and how it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.inputs import LoadedCheckpoint, PreparedInputs
from fastserve_converters.inputs.prompt_tokenizer import new_tokens, window_of
from fastserve_converters.models.reference import write_reference
from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation import traces
from fastserve_runtime.sessions.lengths import own_tokens

PROMPT = 32
"""So many tokens of an evaluation trace are fed at once; what follows them is scored."""
CANDIDATES = 32


@dataclass(frozen=True)
class _Row:
    """A trace to be run: its tokens, how many of them are fed at once."""

    tokens: list[int]
    prompt: int


def build_reference(out: Path, loaded: LoadedCheckpoint, prepared: PreparedInputs) -> dict[str, Any]:
    """Run the original model on evaluation windows and golden prompts and write what later steps need.

    Written to `out`, under the names of `fastserve_converters.models.reference`: the traces (evaluation, then goldens),
    the reference's log-probabilities of them, calibration windows, and a description, which is returned too.

    Args:
        out: a folder.
        loaded: the model.
        prepared: of the kind `prompt-tokenizer`.

    Raises:
        UsageError: the model gives values that are not finite.
    """
    window, checkpoint = window_of(loaded.length), loaded.checkpoint
    rows = [
        *(_Row(tokens, min(PROMPT, len(tokens) // 4)) for tokens in _token_lists(prepared.evaluation)),
        *(_continued(loaded.model, tokens, new_tokens(window)) for tokens in _token_lists(prepared.golden)),
    ]
    inputs, outputs = run_reference(loaded.model, checkpoint, rows, window)
    task: Task = TASKS.load(checkpoint.task)
    return write_reference(out, prepared, outputs, task.settings(checkpoint), inputs=inputs)


def _token_lists(prompts: Mapping[str, NDArray[np.generic]]) -> list[list[int]]:
    lengths = own_tokens(prompts)
    return [row[:length].tolist() for row, length in zip(prompts["input_ids"], lengths, strict=True)]


def _continued(model: Any, tokens: list[int], count: int) -> _Row:
    """Return a prompt with the tokens by which the reference goes on, always the likeliest."""
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
