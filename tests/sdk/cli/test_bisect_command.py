"""`fastserve bisect`: what it shows, writes and ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fastserve.bisecting import Bisection, Suspect
from fastserve.bisecting.layer_judgement import Layer
from fastserve.cli import app, bisect_command
from manifests import text_bundle, write_directory

WRONG = Layer("encoder.dense", "linear", 0, "t", "MatMul", ("encoder.dense",), (), 3.0, 0, 2.0, 1, 3.0, 9.0, None, 3.0)
RIGHT = Layer("head", "div", 0, "y", "Div", ("head",), (0,), 999.0, 0, 999.0, None, None, None, None, 3.0)


@pytest.fixture(autouse=True)
def _untouched(untouched_warnings_and_logging: None) -> None:
    """Commands set up warnings and logging for their whole process."""


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch):
    """Let the search find this."""

    def given(*suspects: Suspect) -> dict[str, Any]:
        asked: dict[str, Any] = {}

        class Searching:
            def __init__(self, reference: str, **settings: Any) -> None:
                asked.update(reference=reference, **settings)

            def __enter__(self) -> Searching:
                return self

            def __exit__(self, *_: object) -> None: ...

            def bisect(self, bundle: Path, **settings: Any) -> Bisection:
                asked.update(bundle=bundle, **settings)
                return Bisection("v1", "onnx:cpu", suspects, (WRONG, RIGHT), 5.0, (), 2, {}, (), ())

        monkeypatch.setattr(bisect_command, "Bisector", Searching)
        return asked

    return given


def bisect(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["bisect", *map(str, words)])


def test_nothing_wrong_ends_with_0(give, tmp_path: Path) -> None:
    asked = give()
    done = bisect(tmp_path / "b.fsb", "--reference", "model", "--samples", "5", "--target", "onnx:cpu")
    assert done.exit_code == 0, done.output
    assert "No layer is worse" in done.stdout
    assert (asked["reference"], asked["samples"], asked["target"]) == ("model", 5, "onnx:cpu")
    assert asked["any_weights"] is False


def test_a_wrong_layer_ends_with_4_and_is_written_everywhere(give, tmp_path: Path) -> None:
    give(Suspect(WRONG, "it is bad"))
    overlay = tmp_path / "layers.json"
    done = bisect(tmp_path / "b.fsb", "--reference", "model", "--overlay", overlay, "--json")
    assert done.exit_code == 4
    document = json.loads(done.stdout)
    assert document["suspects"][0]["module"] == "encoder.dense"
    assert document["agrees"] is False
    assert json.loads(overlay.read_text())["results"]["t"]["value"] == 3.0


def test_the_plot_marks_the_wrong_layer(give, tmp_path: Path) -> None:
    give(Suspect(WRONG, "it is bad"))
    done = bisect(tmp_path / "b.fsb", "--reference", "model")
    assert "The first wrong layer: encoder.dense" in done.stdout
    assert "encoder.dense: linear" in done.stdout
    assert "exact" in done.stdout


def test_an_overlay_that_cannot_be_written_is_refused_before_the_search(give, tmp_path: Path) -> None:
    asked = give()
    done = bisect(tmp_path / "b.fsb", "--reference", "model", "--overlay", tmp_path / "no" / "layers.json")
    assert done.exit_code == 2
    assert "bundle" not in asked


def test_what_is_missing_is_said_in_a_sentence(tmp_path: Path) -> None:
    done = bisect(tmp_path / "none.fsb", "--reference", "model")
    assert done.exit_code == 2
    assert "There is no bundle at" in done.stderr
    bundle = write_directory(tmp_path / "text.fsb", *text_bundle())
    done = bisect(bundle, "--reference", tmp_path / "none")
    assert done.exit_code == 2
    assert "Traceback" not in done.output
