"""Tells what formats and precisions leave of a question-answering model: exact match, F1, answers as the reference's.

    python benchmarks/question_answering.py [--format NAME] [--cache FOLDER]

MiniLM whose last layers and head are trained on questions made of real sentences (cloze questions, `tests/cloze.py`),
and exported in every format. Training takes some ten minutes on two cores and is kept in the folder of `--cache`. What
is shown is what a precision loses: the model has seen 1,500 questions, and people's own questions are easier to it than
sentences with a gap. Writes `benchmarks/results/question_answering.json`, and what docs/measurements.md shows of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report import MEASUREMENTS, ROOT, minilm, read_document, write_results

NAME = "question_answering"
FORMATS: Mapping[str, str] = {"onnx": "ONNX", "tflite": "TFLite", "executorch": "ExecuTorch"}
PRECISIONS = ("fp32", "fp16", "int8-dynamic", "int8-static")
LENGTH = 128
CACHE = ROOT / "build" / "benchmarks" / NAME
_TRAINED_ON, _KEPT = 1500, 800
"""Questions from the first and from the last; the export judges half of what it is given and calibrates with others."""


def train_reader(folder: Path) -> None:
    """Train the model into `model` of a folder, and write `questions.jsonl` of others than it was trained on."""
    sys.path.insert(0, str(ROOT / "tests"))
    import pytest

    from cloze import cloze_questions, train, write_jsonl
    from sentiment import movie_sentences

    download = folder / "download"
    download.mkdir(parents=True, exist_ok=True)
    try:
        sentences = [sentence for sentence, _ in movie_sentences(download)]
    except pytest.skip.Exception as error:
        raise SystemExit(str(error)) from error
    questions = cloze_questions(sentences)
    train(minilm(), questions[:_TRAINED_ON], folder / "model")
    # Written last: it says that the model is complete.
    write_jsonl(folder / "questions.jsonl", questions[-_KEPT:])


def measured(folder: Path, format_name: str) -> list[dict[str, Any]]:
    """Export the trained model in a format, and return what is left of it in every precision."""
    import fastserve
    from fastserve.devices import local

    local.ATTEMPTS = 1  # times are not shown, so that unsteady ones need not be taken again
    with tempfile.TemporaryDirectory() as made:
        result = fastserve.export(
            folder / "model",
            Path(made) / "reader.fsb",
            formats=[format_name],
            precisions=PRECISIONS,
            sequence_length=LENGTH,
            data=[folder / "questions.jsonl"],
            keep="all",
            cache_dir=folder / "steps",
        )
        verdicts = [] if result.bundle is None else fastserve.verify(result.bundle).verdicts
    failed = {v.variant: v.message for v in verdicts if v.outcome.is_failure}
    return [
        {
            "format": format_name,
            "precision": c.precision,
            "size": c.size,
            "quality": None if c.quality is None else vars(c.quality),
            "failure": c.failure or failed.get(c.id),
        }
        for c in result.candidates
    ]


def pages(results: Mapping[str, Any]) -> dict[Path, str]:
    """Return what each page shows of the results."""
    return {MEASUREMENTS: table(results)}


def table(results: Mapping[str, Any]) -> str:
    """Return a row for each variant."""
    rows: Sequence[Mapping[str, Any]] = results["variants"]
    known = next(row["quality"] for row in rows if row["quality"] is not None)
    exact, f1 = (known["beside"][f"reference's {figure}"] for figure in ("exact match", "F1"))
    told = (
        f"MiniLM trained on {results['trained_on']:,} cloze questions, {results['length']} tokens; {known['samples']} "
        f"others, of which PyTorch's fp32 answers {exact:.1%} exactly, with an F1 of {f1:.3f}. *Same* is the share of "
        "answers that equal the reference's."
    )
    lines = [
        told,
        "",
        "| variant | size | exact match | F1 | F1 ÷ reference's (95 %) | same |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"{FORMATS[row['format']]} {row['precision']}"
        if row["failure"] is not None or row["quality"] is None:
            lines.append(f"| {name} | no: {row['failure']} | | | | |")
            continue
        quality, figures = row["quality"], row["quality"]["beside"]
        interval = f"{quality['value']:.3f} ({quality['low']:.3f} to {quality['high']:.3f})"
        lines.append(
            f"| {name} | {row['size'] / 1e6:.1f} MB | {figures['exact match']:.1%} | {figures['F1']:.3f} | {interval} "
            f"| {figures['same answer as the reference']:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train the model unless that was done, export it and write what is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=FORMATS, help="do this format again and keep the others' results")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the model and finished steps are kept")
    arguments = parser.parse_args()
    if not (arguments.cache / "questions.jsonl").is_file():
        print("training the model ...", flush=True)
        train_reader(arguments.cache)
    rows = [] if arguments.format is None else read_document(NAME)["variants"]
    for format_name in FORMATS if arguments.format is None else (arguments.format,):
        rows = [row for row in rows if row["format"] != format_name] + measured(arguments.cache, format_name)
        rows.sort(key=lambda row: list(FORMATS).index(row["format"]))
        results = {"trained_on": _TRAINED_ON, "length": LENGTH, "variants": rows}
        write_results(NAME, results, pages(results))


if __name__ == "__main__":
    main()
