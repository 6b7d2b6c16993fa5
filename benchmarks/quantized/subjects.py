"""The models that are quantized, with the texts that they are judged by."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantized.folders import OWN
from quantized.processes import run_module
from report import ROOT, minilm

SEED = 0
_TRAINED_ON, _LABELLED = 2400, 1400
_MAX_EVALUATION = 1000


@dataclass(frozen=True)
class Subject:
    """A model at one length.

    Attributes:
        name: as `--only` takes it.
        title: for the tables.
        checkpoint: its folder.
        length: most tokens.
        data: files of labelled texts; none for those that ship with the converters.
    """

    name: str
    title: str
    checkpoint: Path
    length: int
    data: tuple[Path, ...] = ()

    @property
    def export_settings(self) -> dict[str, Any]:
        """The arguments of `fastserve.export` that say which model and which texts."""
        columns = {"text_column": "sentence", "label_column": "sentiment"} if self.data else {}
        return {"sequence_length": self.length, "data": self.data, "seed": SEED, **columns}


SUBJECTS = ("minilm64", "minilm128", "classifier")


def find_subject(name: str) -> Subject:
    """Return a model; the classifier is trained if it is not there yet."""
    if name == "classifier":
        return _classifier()
    length = int(name.removeprefix("minilm"))
    return Subject(name, f"all-MiniLM-L6-v2, {length} tokens", minilm(), length)


def _classifier() -> Subject:
    folder = OWN / "classifier"
    data = folder / "reviews.csv"
    if not data.is_file():
        print("training the classifier ...", flush=True)
        failure = run_module("classifier", "quantized.subjects", "train", str(folder))
        if failure is not None:
            raise SystemExit(f"The classifier cannot be trained: {failure}")
    return Subject("classifier", "MiniLM with a sentiment head, 48 tokens", folder / "model", 48, (data,))


def train_classifier(folder: Path) -> None:
    """Train the classifier of the export tests: a head on MiniLM, from movie-review sentences that people rated."""
    sys.path.insert(0, str(ROOT / "tests"))
    import pytest

    from sentiment import fine_tune_head, movie_sentences, write_csv

    download = folder / "download"
    download.mkdir(parents=True, exist_ok=True)
    try:
        sentences = movie_sentences(download)
    except pytest.skip.Exception as error:
        raise SystemExit(str(error)) from error
    fine_tune_head(minilm(), sentences[:_TRAINED_ON], folder / "model")
    # Written last: it says that the model is complete.
    write_csv(folder / "reviews.csv", sentences[_TRAINED_ON : _TRAINED_ON + _LABELLED])


@dataclass(frozen=True)
class Texts:
    """A model's inputs and its reference's outputs, as files.

    Attributes:
        folder: has `inputs.npz`, `reference.npz` and `calibration.npz`, in the form of the converters' reference.
        evaluation: how many samples of `inputs.npz` count, from the first.
        labels: the right classes of these, where they are known.
        output: the name of the reference's output.
        task: the model's task.
    """

    folder: Path
    evaluation: int
    labels: Sequence[int] | None
    output: str
    task: str


def write_texts(subject: Subject, out: Path) -> dict[str, Any]:
    """Run the original model on the evaluation texts; calibration texts are those that an export would take.

    Labelled texts that are no calibration texts all count, not only as many as an export looks at.
    """
    from fastserve_converters.checkpoints.model_loading import load_model
    from fastserve_converters.checkpoints.reading import read_checkpoint
    from fastserve_converters.data import ClassLabels, Columns, Split, read_samples, split_samples
    from fastserve_converters.inputs import LoadedCheckpoint, tokenizer
    from fastserve_converters.models.reference import build_reference

    checkpoint = read_checkpoint(subject.checkpoint)
    labels = ClassLabels(checkpoint.labels) if checkpoint.labels else None
    samples = read_samples(subject.data, Columns("sentence", label="sentiment"), labels)
    split = split_samples(samples, SEED)
    if subject.data:
        seen = {s.text for s in split.calibration}
        unique = {s.text: s for s in samples if s.text not in seen}
        split = Split(split.calibration, tuple(unique.values())[:_MAX_EVALUATION])
    loaded = LoadedCheckpoint(checkpoint, load_model(checkpoint), subject.length)
    description = build_reference(out, loaded, tokenizer.prepare(split, loaded, out))
    return {**description, "task": checkpoint.task}


def main() -> None:
    """Do the heavy parts: `train FOLDER`, or `texts SUBJECT FOLDER RESULT`, with the subject as JSON."""
    if sys.argv[1] == "train":
        train_classifier(Path(sys.argv[2]))
        return
    subject, out, result = sys.argv[2:]
    Path(result).write_text(json.dumps(write_texts(subject_from_json(subject), Path(out))))


def read_texts(folder: Path, description: dict[str, Any]) -> Texts:
    """Return what `write_texts` wrote."""
    return Texts(
        folder,
        description["evaluation"],
        description["labels"],
        next(iter(description["outputs"])),
        description["task"],
    )


def subject_from_json(text: str) -> Subject:
    """Return a subject that another process described by `subject_to_json`."""
    fields = json.loads(text)
    return Subject(
        fields["name"],
        fields["title"],
        Path(fields["checkpoint"]),
        fields["length"],
        tuple(Path(d) for d in fields["data"]),
    )


def subject_to_json(subject: Subject) -> str:
    """Describe a subject to another process."""
    return json.dumps({**vars(subject), "checkpoint": str(subject.checkpoint), "data": [str(d) for d in subject.data]})


if __name__ == "__main__":
    main()
