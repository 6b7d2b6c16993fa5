"""The reference: the trained model's own outputs on real inputs, which everything is compared with."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.class_labels import check_outputs
from fastserve_converters.checkpoints.prompt_tokens import prompts_of
from fastserve_converters.checkpoints.task import TASKS, Task, known_of_windows, reads_contexts
from fastserve_converters.checkpoints.tokenizer_checks import code_note, embedding_rows, file_note, text_settings
from fastserve_converters.checkpoints.tokenizer_loading import load_tokenizer
from fastserve_converters.data import MAX_CALIBRATION, Sample, Split
from fastserve_converters.data.golden_texts import golden_texts
from fastserve_runtime.bundle.raw_inputs import TOKEN_TYPES, Text
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.preprocessors.context_windows import ContextSettings, fitting_stride
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor, TokenizerSettings, Windows
from fastserve_runtime.preprocessors.text_prompts import chosen_prompt, with_prompt

if TYPE_CHECKING:
    import torch

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
"""Of decoders: what other runtimes read beside the tokenizer."""
INPUTS = "inputs.npz"
OUTPUTS = "reference.npz"
CALIBRATION = "calibration.npz"
DESCRIPTION = "reference.json"
KNOWN = "known.npz"
"""What quality is judged by beside inputs and outputs, for each evaluation window."""
_BATCH = 32
_MANY = 0.1
"""Share of the pairs of texts that are cut off from which on it is told."""


def build_reference(
    out: Path, checkpoint: Checkpoint, model: torch.nn.Module, split: Split, length: int
) -> dict[str, Any]:
    """Run the original model on evaluation and golden texts and write what later steps need.

    Written to `out`: the tokenizer, the inputs of evaluation and golden samples (one after the other; an evaluation
    sample may have several windows), what is known of the evaluation windows beside, the reference's outputs, the
    calibration inputs, and a description, which is returned too.

    Raises:
        UsageError: the checkpoint's tokenizer cannot be used on a device.
        EnvironmentFailure: the bundle's tokenizer and Transformers' disagree.
    """
    transformers_tokenizer = load_tokenizer(checkpoint)
    settings, notes = text_settings(checkpoint, transformers_tokenizer, embedding_rows(model), length)
    settings = replace(settings, prompts=prompts_of(checkpoint.texts, transformers_tokenizer, length))
    transformers_tokenizer.backend_tokenizer.save(str(out / TOKENIZER))
    preprocessor = TextPreprocessor((out / TOKENIZER).read_bytes(), settings)
    goldens = golden_texts(split.evaluation, preprocessor)
    texts = [s.content for s in split.evaluation]
    task: Task = TASKS.load(checkpoint.task)
    long_text: LongText = "split" if reads_contexts(task) else "truncate"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # over-long texts are cut off here on purpose
        evaluation = preprocessor.windows(texts, long_text)
        golden = preprocessor.windows([g.content for g in goldens])
        calibration = preprocessor.windows([s.content for s in split.calibration], long_text).tensors
    prompt = chosen_prompt(settings.prompts, None)
    for windows, own in ((evaluation, texts), (golden, [g.content for g in goldens])):
        prompted = [with_prompt(settings.prompts, prompt, text) for text in own]
        prove_same_tokens(transformers_tokenizer, prompted, windows, settings)
    inputs = {name: np.concatenate([rows, golden.tensors[name]]) for name, rows in evaluation.tensors.items()}
    check_label_count(task, model, checkpoint, inputs)
    outputs = run_original(task, model, checkpoint, inputs)
    _save(out / INPUTS, inputs)
    _save(out / CALIBRATION, {name: rows[:MAX_CALIBRATION] for name, rows in calibration.items()})
    _save(out / KNOWN, known_of_windows(task, split.evaluation, evaluation))
    _save(out / OUTPUTS, outputs)
    labels = [s.label for s in split.evaluation]
    description = {
        "outputs": {name: [1, *values.shape[1:]] for name, values in outputs.items()},
        "task_settings": task.settings(checkpoint),
        "preprocessing": {"kind": "tokenizer", "settings": settings.as_document()},
        "evaluation": len(evaluation.text_of),
        "evaluation_samples": len(split.evaluation),
        "calibration": len(split.calibration),
        "labels": labels if None not in labels else None,
        "goldens": [g.as_document() for g in goldens],
        "notes": [
            *notes,
            *code_note(checkpoint, transformers_tokenizer),
            *file_note(checkpoint, transformers_tokenizer, [s.text for s in split.evaluation]),
            *_pair_notes(transformers_tokenizer, checkpoint, split.evaluation, preprocessor),
        ],
    }
    (out / DESCRIPTION).write_text(json.dumps(description))
    return description


def prove_same_tokens(tokenizer: Any, texts: Sequence[Text], windows: Windows, settings: TokenizerSettings) -> None:
    """Compare the bundle's preprocessing with Transformers' own.

    Args:
        tokenizer: of Transformers.
        texts: with their prompts.
        windows: of the texts, by the bundle's preprocessing.
        settings: which it has.

    Raises:
        EnvironmentFailure: they give different ids.
    """
    context = None if settings.pairs is None else settings.pairs.context
    inputs = windows.tensors
    names = {"input_ids", TOKEN_TYPES} & inputs.keys()
    if context is None:
        singles = [text for text in texts if isinstance(text, str)]
        pairs = [text for text in texts if not isinstance(text, str)]
        both = [list(side) for side in zip(*pairs, strict=True)] if pairs else [singles]
        # Padding is ours alone: a tokenizer may have none, or have it on the left.
        found = tokenizer(
            *both, truncation=True, max_length=settings.sequence_length, return_token_type_ids=TOKEN_TYPES in inputs
        )
        expected = [({name: found[name][row] for name in names}, row) for row in range(len(texts))]
    else:
        expected = [
            pair
            for number, text in enumerate(texts)
            for pair in zip(
                _windows_of_transformers(tokenizer, text, settings.sequence_length, context, names),
                windows.of_text(number),
                strict=False,  # of goldens there is the first alone
            )
        ]
    for tokens, row in expected:
        mask = inputs["attention_mask"][row]
        for name, theirs in tokens.items():
            counted = len(theirs)
            if inputs[name][row, :counted].tolist() != list(theirs) or not mask[:counted].all() or mask[counted:].any():
                raise different_tokens(texts[windows.text_of[row]])


def _windows_of_transformers(
    tokenizer: Any, pair: Text, length: int, context: ContextSettings, names: Collection[str]
) -> Iterator[dict[str, list[int]]]:
    """Give the windows that Transformers makes of a question and its context; none where the question is cut."""
    asked = len(tokenizer(pair[0], add_special_tokens=False)["input_ids"])
    if asked > context.question_tokens:
        return  # Transformers cuts no question
    room = length - asked - tokenizer.num_special_tokens_to_add(pair=True)
    found = tokenizer(
        *([text] for text in pair),  # lists: a single empty text would count as none
        truncation="only_second",
        max_length=length,
        stride=fitting_stride(context, room),
        return_overflowing_tokens=True,
        return_token_type_ids=TOKEN_TYPES in names,
    )
    for row in range(len(found["input_ids"])):
        yield {name: found[name][row] for name in names}


def _pair_notes(
    tokenizer: Any, checkpoint: Checkpoint, samples: Sequence[Sample], preprocessor: TextPreprocessor
) -> list[str]:
    """Return what the user should know of pairs of texts: token types that were not asked for, and pairs cut off."""
    if not checkpoint.takes_pairs:
        return []
    notes = []
    if checkpoint.has_token_types and TOKEN_TYPES not in tokenizer.model_input_names:
        notes.append(
            f"Transformers gives {TOKEN_TYPES} with this class of tokenizer if asked; here the second text's tokens "
            f"have the type 1. If the model was trained without, write 'model_input_names' without {TOKEN_TYPES} into "
            "tokenizer_config.json."
        )
    length = preprocessor.settings.sequence_length
    if checkpoint.reads_contexts:
        return notes
    cut = sum(preprocessor.count_tokens(sample.content) > length for sample in samples)
    if cut > len(samples) * _MANY:
        notes.append(f"{cut} of {len(samples)} pairs have more than {length} tokens and are cut off: see --seq-len.")
    return notes


def different_tokens(text: Text) -> EnvironmentFailure:
    """Return the failure that the bundle's tokenizer and Transformers' own disagree about a text."""
    return EnvironmentFailure(
        f"The bundle's tokenizer and Transformers' give different tokens for {text!r:.60}.",
        "This tokenizer is not handled right; please report it with the checkpoint's tokenizer files.",
    )


def run_original(
    task: Task, model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    """Run the untouched model on all samples and return its outputs by name, shape [n, ...].

    Batches hold texts of like length and are padded no further than they need.
    """
    import torch

    tensors = {name: torch.from_numpy(value.astype(np.int64)) for name, value in inputs.items()}
    mask = tensors["attention_mask"]
    order = torch.argsort(mask.sum(1), stable=True)
    wanted = task.outputs(checkpoint)
    results: dict[str, dict[int, torch.Tensor]] = {output.name: {} for output in wanted}
    with torch.inference_mode():
        for rows in torch.split(order, _BATCH):
            longest = int(mask[rows].sum(1).max())
            batch = {name: value[rows, :longest] for name, value in tensors.items()}
            outputs = task.reference_outputs(model, checkpoint, batch)
            for output in wanted:
                values = outputs[output.name]
                if output.by_token:
                    behind = [0, 0] * (values.ndim - 2) + [0, mask.shape[1] - longest]
                    values = torch.nn.functional.pad(values, behind)
                results[output.name] |= {int(row): value for row, value in zip(rows, values, strict=True)}
    joined = {name: torch.stack([rows[i] for i in range(len(mask))]) for name, rows in results.items()}
    if not all(bool(torch.isfinite(values).all()) for values in joined.values()):
        raise UsageError("The model gives values that are not finite on the evaluation texts.", "Check its weights.")
    return {name: values.numpy() for name, values in joined.items()}


def check_label_count(
    task: Task, model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, NDArray[np.generic]]
) -> None:
    """Compare the number of labels with what the model gives for one text.

    Raises:
        UsageError: they differ.
    """
    if checkpoint.labels:
        outputs = run_original(task, model, checkpoint, {name: value[:1] for name, value in inputs.items()})
        check_outputs(checkpoint.labels, next(iter(outputs.values())).shape[-1])


def _save(file: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(file, **arrays)
