"""Exports torch modules that are no Transformers models, in every format and some precisions, and tells what came out.

    python benchmarks/modules.py [--only NAME] [--precision NAMES] [--cache FOLDER]

A text recogniser (CRNN), a small U-Net, a GRU and a two-tower recommender, randomly initialised: what is shown is
whether a format takes them and what a precision loses, not how good they are. Needs the SDK with all converters. Writes
`benchmarks/results/modules.json` and the table in docs/modules.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fastserve
from fastserve.devices import local
from fastserve_runtime.pipelines.tensor_to_tensor import SQNR
from fastserve_runtime.quantities import format_size
from report import ROOT, read_document, write_document, write_table

PAGE = ROOT / "docs" / "modules.md"
FORMATS = ("onnx", "tflite", "executorch")
PRECISIONS = ("fp32", "fp16", "int8-dynamic", "int8-static")
SAMPLES = 48


class TextRecogniser(nn.Module):
    """Convolutions, a bidirectional LSTM over the columns, and scores of 37 characters (CRNN, arXiv 1507.05717)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d((2, 1)),
        )  # fmt: skip
        self.columns = nn.LSTM(32 * 8, 48, bidirectional=True, batch_first=True)
        self.characters = nn.Linear(96, 37)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores, shape [batch, columns, characters], for an image of shape [batch, 1, 32, width]."""
        columns = self.features(image).permute(0, 3, 1, 2).flatten(2)
        scores: torch.Tensor = self.characters(self.columns(columns)[0])
        return scores


class UNet(nn.Module):
    """Two levels down and up with skip connections (arXiv 1505.04597); heights and widths of multiples of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.bottom = _block(3, 16), _block(16, 32), _block(32, 64)
        self.up2, self.up1 = nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)
        self.third, self.fourth, self.classes = _block(64, 32), _block(32, 16), nn.Conv2d(16, 2, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores of two classes, shape [batch, 2, height, width]."""
        first = self.first(image)
        second = self.second(self.pool(first))
        bottom = self.bottom(self.pool(second))
        third = self.third(torch.cat([self.up2(bottom), second], 1))
        scores: torch.Tensor = self.classes(self.fourth(torch.cat([self.up1(third), first], 1)))
        return scores


class SeriesClassifier(nn.Module):
    """A GRU over a series, and scores of five classes beside its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.classes = nn.GRU(12, 64, batch_first=True), nn.Linear(64, 5)

    def forward(self, series: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return scores and the state for a series of shape [batch, time, 12]."""
        states, last = self.steps(series)
        return {"scores": self.classes(states[:, -1]), "state": last[0]}


class TwoTowers(nn.Module):
    """Scores an item for a user by the cosine of their vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(500, 32), nn.Embedding(800, 32)
        self.user = nn.Sequential(nn.Linear(38, 64), nn.ReLU(), nn.Linear(64, 32))
        self.item = nn.Sequential(nn.Linear(33, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(
        self, user: torch.Tensor, features: torch.Tensor, item: torch.Tensor, is_new: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the score and both vectors; ids are integers, features floats, `is_new` is a truth value."""
        left = self.user(torch.cat([self.users(user), features], -1))
        right = self.item(torch.cat([self.items(item), is_new.float().unsqueeze(-1)], -1))
        score = (nn.functional.normalize(left, dim=-1) * nn.functional.normalize(right, dim=-1)).sum(-1, keepdim=True)
        return {"score": score, "user_vector": left, "item_vector": right}


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


def _floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(SAMPLES, *shape)).astype(np.float32)


def cases() -> dict[str, tuple[nn.Module, Mapping[str, np.ndarray]]]:
    """Return the modules with their samples, by name."""
    torch.manual_seed(0)
    random = np.random.default_rng(1)
    towers = {
        "user": random.integers(0, 500, SAMPLES),
        "features": _floats(6),
        "item": random.integers(0, 800, SAMPLES),
        "is_new": random.random(SAMPLES) < 0.5,
    }
    return {
        "two towers": (TwoTowers(), towers),
        "U-Net": (UNet(), {"image": _floats(3, 32, 32)}),
        "CRNN": (TextRecogniser(), {"image": _floats(1, 32, 32)}),
        "GRU": (SeriesClassifier(), {"series": _floats(10, 12)}),
    }


def measured(
    module: nn.Module, samples: Mapping[str, np.ndarray], precisions: Sequence[str], cache: Path | None
) -> list[dict[str, Any]]:
    """Export a module and return what became of every format in some precisions."""
    example = {name: torch.from_numpy(value[:1]) for name, value in samples.items()}
    with tempfile.TemporaryDirectory() as folder:
        result = fastserve.export(
            module,
            Path(folder) / "module.fsb",
            example=example,
            samples=samples,
            formats=FORMATS,
            precisions=precisions,
            keep="all",
            cache_dir=cache,
        )
        verdicts = [] if result.bundle is None else fastserve.verify(result.bundle).verdicts
    failed = {v.variant: v.message for v in verdicts if v.outcome.is_failure}
    return [
        {
            "format": c.format,
            "precision": c.precision,
            "size": c.size,
            "quality": None if c.quality is None else c.quality.value,
            "sqnr_db": None if c.quality is None else c.quality.beside.get(SQNR),
            "failure": c.failure or failed.get(c.id),
        }
        for c in result.candidates
    ]


def table(results: Mapping[str, Any]) -> str:
    """Return the results as a table, a row for each model and format."""
    lines = [f"| Module | Format | {' | '.join(PRECISIONS)} |", f"|---|---|{'---|' * len(PRECISIONS)}"]
    reasons: list[str] = []
    for name, rows in results.items():
        for format_name in FORMATS:
            cells = []
            for precision in PRECISIONS:
                place = format_name, precision
                row = next((r for r in rows if (r["format"], r["precision"]) == place), None)
                cells.append("not run" if row is None else _cell(row, reasons))
            lines.append(f"| {name} | {format_name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))])


def _cell(row: Mapping[str, Any], reasons: list[str]) -> str:
    if row["failure"] is not None:
        reason = str(row["failure"]).replace("--debug shows the converter's log.", "").strip()
        if reason not in reasons:
            reasons.append(reason)
        return f"no ({reasons.index(reason) + 1})"
    ratio = "equal" if row["sqnr_db"] is None else f"{row['sqnr_db']:.0f} dB"
    return f"{ratio}, {format_size(row['size'])}"


def main() -> None:
    """Export the modules and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="do this module again and keep the others' results")
    parser.add_argument("--precision", help="do these precisions again and keep the others' results")
    parser.add_argument("--cache", type=Path, help="where finished steps are kept")
    arguments = parser.parse_args()
    precisions = PRECISIONS if arguments.precision is None else tuple(arguments.precision.split(","))
    local.ATTEMPTS = 1  # times are not shown, so that unsteady ones need not be taken again
    is_part = arguments.only is not None or arguments.precision is not None
    results: dict[str, Any] = read_document("modules") if is_part else {}
    for name, (module, samples) in cases().items():
        if arguments.only in {None, name}:
            kept = [row for row in results.get(name, ()) if row["precision"] not in precisions]
            results[name] = kept + measured(module, samples, precisions, arguments.cache)
            write_document("modules", results)
            write_table(PAGE, "modules", table(results))


if __name__ == "__main__":
    main()
