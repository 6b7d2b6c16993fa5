"""Calling the device's command in this process, and undoing what it sets up for its whole process."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fastserve_runtime.commands import main
from manifests import text_bundle, write_directory


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def untouched_warnings_and_logging() -> Iterator[None]:
    handlers, level = list(logging.root.handlers), logging.root.level
    with warnings.catch_warnings():
        yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def command(capsys):
    """Run the command and return its exit code and what it printed."""

    def command(*words: object) -> Ended:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ended(code, *capsys.readouterr())

    return command


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    """A bundle of a tiny model that gives embeddings."""
    return write_directory(tmp_path / "text.fsb", *text_bundle())


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A bundle of a tiny model that gives labels."""
    return write_directory(tmp_path / "labels.fsb", *text_bundle("logits"))
