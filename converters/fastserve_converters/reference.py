"""The reference: the trained model's own outputs on real inputs, which everything is compared with."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoint import Checkpoint
from fastserve_converters.data import DEFAULT_TEXTS, Sample, Split
from fastserve_converters.labels import check_outputs
from fastserve_converters.lower_case import with_lower_case
from fastserve_converters.tasks import TASKS, Task
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.text import TextPreprocessor, TokenizerSettings

if TYPE_CHECKING:
    import torch

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
"""Of decoders: what other runtimes read beside the tokenizer."""
INPUTS = "inputs.npz"
OUTPUTS = "reference.npz"
CALIBRATION = "calibration.npz"
DESCRIPTION = "reference.json"
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_BATCH = 32


@dataclass(frozen=True)
class GoldenText:
    """A text that ships in the bundle's goldens, what kind of input it is, and whether it counts in quality."""

    text: str
    kind: str
    realistic: bool


def golden_texts(evaluation: Sequence[Sample], preprocessor: TextPreprocessor) -> list[GoldenText]:
    """Choose golden inputs: short, padded, exactly full and non-Latin ones, and degenerate ones.

    Realistic texts come from the evaluation data, so that they look like what the model will see.
    """
    length = preprocessor.settings.sequence_length
    texts = [s.text for s in evaluation]
    tokens = np.array([preprocessor.count_tokens(t) for t in texts])
    order = np.argsort(tokens, kind="stable")
    short = [texts[i] for i in order[:2]]
    padded = [texts[order[len(order) * part // 4]] for part in (1, 2, 3)]
    foreign = non_latin_texts()
    return [
        *(GoldenText(t, "short", realistic=True) for t in short),
        *(GoldenText(t, "padded", realistic=True) for t in padded),
        GoldenText(_filling(texts, preprocessor), "full", realistic=True),
        *(GoldenText(t, "non-latin", realistic=True) for t in foreign),
        GoldenText("", "empty", realistic=False),
        GoldenText(" \t\n", "empty", realistic=False),
        GoldenText("a " * (2 * length), "extreme", realistic=False),
        GoldenText("\u0000\u200b\ufffd\U0001f469\u200d\U0001f4bb\U0001f525" * length, "extreme", realistic=False),
    ]


def build_reference(
    out: Path, checkpoint: Checkpoint, model: torch.nn.Module, split: Split, length: int
) -> dict[str, Any]:
    """Run the original model on evaluation and golden texts and write what later steps need.

    Written to `out`: the tokenizer, the inputs of evaluation and golden samples (one after the other), the reference's
    outputs, the calibration inputs, and a description, which is returned too.

    Raises:
        UsageError: the checkpoint's tokenizer cannot be used on a device.
        EnvironmentFailure: the bundle's tokenizer and Transformers' disagree.
    """
    transformers_tokenizer = load_tokenizer(checkpoint)
    settings = TokenizerSettings(
        sequence_length=length,
        pad_id=int(transformers_tokenizer.pad_token_id or 0),
        pad_token=str(transformers_tokenizer.pad_token or "[PAD]"),
    )
    transformers_tokenizer.backend_tokenizer.save(str(out / TOKENIZER))
    preprocessor = TextPreprocessor((out / TOKENIZER).read_bytes(), settings)
    goldens = golden_texts(split.evaluation, preprocessor)
    texts = [s.text for s in split.evaluation] + [g.text for g in goldens]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # over-long texts are cut off here on purpose
        inputs = preprocessor(texts)
        calibration = preprocessor([s.text for s in split.calibration])
    prove_same_tokens(transformers_tokenizer, texts, inputs, length)
    task: Task = TASKS.load(checkpoint.task)
    check_label_count(task, model, checkpoint, inputs)
    name, outputs = run_original(task, model, checkpoint, inputs)
    _save(out / INPUTS, inputs)
    _save(out / CALIBRATION, calibration)
    _save(out / OUTPUTS, {name: outputs})
    labels = [s.label for s in split.evaluation]
    description = {
        "output": name,
        "output_dims": [1, *outputs.shape[1:]],
        "task_settings": task.settings(checkpoint),
        "preprocessing": {"kind": "tokenizer", "settings": asdict(settings)},
        "evaluation": len(split.evaluation),
        "calibration": len(split.calibration),
        "labels": labels if None not in labels else None,
        "goldens": [asdict(g) for g in goldens],
        "notes": [],
    }
    (out / DESCRIPTION).write_text(json.dumps(description))
    return description


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """Load the checkpoint's tokenizer in its fast form, which the `tokenizers` library runs on devices.

    Raises:
        UsageError: there is none, or it has no fast form.
    """
    if checkpoint.gguf is not None:
        from fastserve_converters.gguf_files.tokenizer import load_gguf_tokenizer

        return load_gguf_tokenizer(checkpoint.gguf)
    from transformers import AutoTokenizer

    # Without a vocabulary Transformers makes a tokenizer that knows its special tokens alone, and says nothing.
    if not any(any(checkpoint.path.glob(pattern)) for pattern in _VOCABULARIES):
        raise UsageError(
            "The checkpoint has no tokenizer.", "Save it beside the model with tokenizer.save_pretrained()."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(checkpoint.path), local_files_only=True, use_fast=True)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"The checkpoint's tokenizer cannot be loaded: {str(error).strip().splitlines()[0]}",
            "Save it beside the model with tokenizer.save_pretrained().",
        ) from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise UsageError(
            "The checkpoint's tokenizer has no fast form, which a device needs.",
            "Convert it with Transformers and save its tokenizer.json beside the model.",
        )
    return with_lower_case(tokenizer) if checkpoint.texts.lower_case else tokenizer


def prove_same_tokens(
    tokenizer: Any, texts: Sequence[str], inputs: Mapping[str, NDArray[np.generic]], length: int
) -> None:
    """Compare the bundle's preprocessing with Transformers' own.

    Raises:
        EnvironmentFailure: they give different ids.
    """
    expected = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length)["input_ids"]
    for text, ours, theirs in zip(texts, inputs["input_ids"], expected, strict=True):
        if ours.tolist() != list(theirs):
            raise different_tokens(text)


def different_tokens(text: str) -> EnvironmentFailure:
    """Return the failure that the bundle's tokenizer and Transformers' own disagree about a text."""
    return EnvironmentFailure(
        f"The bundle's tokenizer and Transformers' give different tokens for {text!r:.60}.",
        "This tokenizer is not handled right; please report it with the checkpoint's tokenizer files.",
    )


def run_original(
    task: Task, model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, NDArray[np.generic]]
) -> tuple[str, NDArray[np.generic]]:
    """Run the untouched model on all samples and return the output's name and values, shape [n, ...].

    Batches hold texts of like length and are padded no further than they need.
    """
    import torch

    ids = torch.from_numpy(inputs["input_ids"].astype(np.int64))
    mask = torch.from_numpy(inputs["attention_mask"].astype(np.int64))
    order = torch.argsort(mask.sum(1), stable=True)
    results: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        for rows in torch.split(order, _BATCH):
            longest = int(mask[rows].sum(1).max())
            batch = {"input_ids": ids[rows, :longest], "attention_mask": mask[rows, :longest]}
            outputs = task.reference_outputs(model, checkpoint, batch)
            if outputs.ndim == 3:
                outputs = torch.nn.functional.pad(outputs, (0, 0, 0, ids.shape[1] - longest))
            results |= {int(row): output for row, output in zip(rows, outputs, strict=True)}
    joined = torch.stack([results[i] for i in range(len(ids))])
    if not bool(torch.isfinite(joined).all()):
        raise UsageError("The model gives values that are not finite on the evaluation texts.", "Check its weights.")
    return task.output_name(checkpoint), joined.numpy()


def check_label_count(
    task: Task, model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, NDArray[np.generic]]
) -> None:
    """Compare the number of labels with what the model gives for one text.

    Raises:
        UsageError: they differ.
    """
    if checkpoint.labels:
        _, outputs = run_original(task, model, checkpoint, {name: value[:1] for name, value in inputs.items()})
        check_outputs(checkpoint.labels, outputs.shape[-1])


def _save(file: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(file, **arrays)


def _filling(texts: Sequence[str], preprocessor: TextPreprocessor) -> str:
    """Return a text of exactly the exported number of tokens, or the nearest below that words can give."""
    length = preprocessor.settings.sequence_length
    words = " ".join(texts).split()
    low, high = 1, min(len(words), length)
    while low < high:
        middle = (low + high + 1) // 2
        if preprocessor.count_tokens(" ".join(words[:middle])) <= length:
            low = middle
        else:
            high = middle - 1
    text = " ".join(words[:low])
    for _ in range(length):
        if preprocessor.count_tokens(f"{text} .") > length:
            break
        text = f"{text} ."
    return text


def non_latin_texts() -> list[str]:
    """Return a text in each of some scripts: Japanese, Arabic, Devanagari, Cyrillic."""
    wanted = ["ja", "ar", "hi", "ru"]
    rows = [json.loads(line) for line in DEFAULT_TEXTS.read_text(encoding="utf-8").splitlines()]
    return [next(r["text"] for r in rows if r["language"] == language) for language in wanted]
