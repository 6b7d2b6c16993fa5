"""`fastserve targets`: what can run here, and what would bring the rest."""

from __future__ import annotations

import json

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fastserve.cli import app
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.targets import load_target, target_names


@pytest.fixture(autouse=True)
def _untouched(untouched_warnings_and_logging: None) -> None:
    """Commands set up warnings and logging for their whole process."""


@pytest.fixture(autouse=True)
def _without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """One target lacks its driver, and its package, whose name looks like markup."""
    needs = Needs(
        modules={"a_module_that_nobody_made": "pip install '.[gpu]'"},
        files=((None, "the driver", "apt-get install driver"), (None, "the tool", "apt-get install driver")),
    )
    monkeypatch.setattr(load_target("onnx:webgpu"), "needs", lambda: needs)


def targets(*words: str) -> Result:
    return CliRunner().invoke(app, ["targets", *words])


def test_every_target_is_shown_with_what_executes_it() -> None:
    done = targets()
    assert done.exit_code == 0, done.output
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in done.stdout.splitlines() if "│" in line]
    assert [row[0] for row in rows] == list(target_names())
    assert ["onnx:cpu", "cpu", "hardware", "yes"] in rows
    assert ["onnx:webgpu", "gpu", "software driver", "no"] in rows


def test_what_is_missing_is_told_with_the_command_on_a_line_of_its_own() -> None:
    lines = targets().stdout.splitlines()
    at = lines.index("onnx:webgpu lacks the package a_module_that_nobody_made:")
    assert lines[at + 1 : at + 4] == [
        "    pip install '.[gpu]'",
        "onnx:webgpu lacks the driver and the tool:",
        "    apt-get install driver",
    ]


def test_json_has_the_same() -> None:
    found = {t["name"]: t for t in json.loads(targets("--json").stdout)["targets"]}
    assert list(found) == list(target_names())
    assert found["onnx:cpu"] == {
        "name": "onnx:cpu",
        "class": "cpu",
        "executed_by": "hardware",
        "format": "onnx",
        "backend": None,
        "precisions": None,
        "runs_here": True,
        "own_artifact": False,
        "missing": [],
    }
    own = {name for name, target in found.items() if target["own_artifact"]}
    assert {"onnx:qnn-htp", "onnx:rk3588", "tflite:ethos-u55", "tflite:ethos-u85"} <= own
    assert not found["tflite:ethos-u55"]["runs_here"], "it only compiles"
    assert found["onnx:webgpu"]["runs_here"] is False
    assert found["onnx:webgpu"]["missing"][1] == {"what": "the driver", "install": "apt-get install driver"}
    assert found["onnx:qnn-htp"]["precisions"]["fp32"] == "fp16-arithmetic"
