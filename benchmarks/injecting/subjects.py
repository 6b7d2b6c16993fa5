"""The models that faults are put into: exported once, with texts that no bundle of theirs has."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastserve
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.variants import open_preprocessor
from injecting.judging import HeldOut

SEED = 0
_BUNDLED_EVALUATION = 200
"""A bundle has at most so many of an export's evaluation texts."""
MAX_HELD_OUT = 120
MAX_LABELLED = 1000
"""Of 300, one in a hundred was three texts: rounding alone turned as many over."""


@dataclass(frozen=True)
class Subject:
    """A model with its bundle.

    Attributes:
        title: for the table.
        bundle: a directory with all variants.
        checkpoint: the model's folder.
        held_out: texts that the bundle does not have.
    """

    title: str
    bundle: Path
    checkpoint: Path
    held_out: HeldOut


def export(
    checkpoint: Path, bundle: Path, length: int, variants: Sequence[str], cache: Path, data: Path | None = None
) -> None:
    """Export a model, unless that was done before.

    Args:
        checkpoint: its folder.
        bundle: where the bundle goes.
        length: most tokens of a text.
        variants: such as `onnx-int8-dynamic`.
        cache: of exports.
        data: labelled sentences; those that ship with the converters if None.

    Raises:
        SystemExit: a variant could not be made.
    """
    if bundle.exists():
        return
    pairs = [v.split("-", 1) for v in variants]
    texts: dict[str, Any] = {}
    if data is not None:
        texts = {"data": [data], "text_column": "sentence", "label_column": "sentiment"}
    fastserve.export(
        checkpoint,
        bundle,
        formats=sorted({format_name for format_name, _ in pairs}),
        precisions=sorted({precision for _, precision in pairs}),
        sequence_length=length,
        keep="all",
        seed=SEED,
        cache_dir=cache,
        **texts,
    )
    with open_bundle(bundle) as opened:
        missing = set(variants) - {v.id for v in opened.manifest.variants}
    if missing:
        raise SystemExit(f"{', '.join(sorted(missing))} could not be exported.")


def held_out_texts(
    bundle: Path, checkpoint: Path, rows: Sequence[tuple[str, str]] | None = None, maximum: int = MAX_HELD_OUT
) -> HeldOut:
    """Run the untouched model on texts that are in no golden and not among a bundle's evaluation samples.

    Args:
        bundle: the model's.
        checkpoint: the model's folder.
        rows: texts with the names of their right classes, none of which the export has seen. None: of the texts that
            ship with the converters, those which an export took for calibration, or left.
        maximum: of the latter, so many at most.
    """
    from fastserve_converters.checkpoints.model_loading import load_model
    from fastserve_converters.checkpoints.reading import read_checkpoint
    from fastserve_converters.checkpoints.task import TASKS
    from fastserve_converters.models.reference import run_original

    described = read_checkpoint(checkpoint)
    labels = None
    if rows is not None:
        texts = tuple(text for text, _ in rows[:MAX_LABELLED])
        labels = np.array([described.labels.index(label) for _, label in rows[:MAX_LABELLED]], np.int64)
    else:
        texts = _left_texts(bundle)[:maximum]
    with open_bundle(bundle) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts are cut off on purpose
        preprocess: Any = open_preprocessor(opened)
        inputs = preprocess(list(texts))
    task: Any = TASKS.load(described.task)
    (outputs,) = run_original(task, load_model(described), described, inputs).values()
    return HeldOut(texts, np.asarray(outputs, np.float64), described.task, labels)


def _left_texts(bundle: Path) -> tuple[str, ...]:
    from fastserve_converters.data import Columns, read_samples, split_samples
    from fastserve_runtime.bundle.golden import read_golden

    split = split_samples(read_samples((), Columns(), None), SEED)
    with open_bundle(bundle) as opened:
        variant = opened.manifest.variants[0]
        assert variant.golden is not None
        known = set(read_golden(opened.read(variant.golden)).texts.tolist())
    others = (*split.evaluation[_BUNDLED_EVALUATION:], *split.calibration)
    return tuple(s.text for s in others if s.text not in known)


def kept_held_out(file: Path, bundle: Path, checkpoint: Path, rows: Sequence[tuple[str, str]] | None = None) -> HeldOut:
    """Return the held-out texts, which are kept beside a bundle; see `held_out_texts`."""
    if not file.is_file():
        found = held_out_texts(bundle, checkpoint, rows)
        labels: dict[str, Any] = {} if found.labels is None else {"labels": found.labels}
        np.savez(
            file,
            texts=np.array(json.dumps(found.texts)),
            reference=found.reference,
            task=np.array(found.task),
            **labels,
        )
    with np.load(file, allow_pickle=False) as arrays:
        labels_of = arrays["labels"] if "labels" in arrays.files else None
        return HeldOut(tuple(json.loads(str(arrays["texts"]))), arrays["reference"], str(arrays["task"]), labels_of)
