"""Calling the device's command in this process, and undoing what it sets up for its whole process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from fastserve_runtime.cli import main
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
def _untouched(untouched_warnings_and_logging: None) -> None:
    """Commands set up warnings and logging for their whole process."""


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


@pytest.fixture
def prompts(monkeypatch):
    """The prompts that models of generation bundles got, as text."""
    from fastserve_runtime.generation.token_loop import TokenLoop
    from generation_bundles import text_of

    run, given = TokenLoop.run, []

    def recording(self, prompt, *arguments, **options):
        given.append(text_of(prompt))
        return run(self, prompt, *arguments, **options)

    monkeypatch.setattr(TokenLoop, "run", recording)
    return given
