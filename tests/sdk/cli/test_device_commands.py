"""`run`, `inspect`, `verify` and `serve` are the runtime's own in both commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastserve.cli import app
from fastserve.cli.device_commands import DESCRIPTIONS
from fastserve_runtime.cli import main

NAMES = sorted(DESCRIPTIONS)


@pytest.fixture(autouse=True)
def _untouched(untouched_warnings_and_logging: None) -> None:
    """Commands set up warnings and logging for their whole process."""


def of_sdk(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def of_device(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    def of_device(*words: str) -> tuple[int, str, str]:
        code = main(words)
        return code, *capsys.readouterr()

    return of_device


@pytest.mark.parametrize("name", NAMES)
def test_help_is_the_same_but_for_the_programs_name(name: str, of_device) -> None:
    code, out, err = of_sdk(name, "--help")
    assert (code, err) == (0, "")
    assert out.split() == of_device(name, "--help")[1].replace("fastserve-runtime", "fastserve").split()


def test_the_commands_are_listed_with_what_they_do() -> None:
    text = " ".join(of_sdk("--help")[1].split())
    for name, description in DESCRIPTIONS.items():
        assert name in text
        assert description[:30] in text


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["inspect", "BUNDLE", "--odd"],
        ["verify"],
        ["verify", "BUNDLE", "--threads", "many"],
        ["run", "BUNDLE", "--long-text", "odd", "a"],
        ["serve"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(words: list[str], small_bundle: Path, of_device) -> None:
    words = [str(small_bundle) if word == "BUNDLE" else word for word in words]
    code, out, err = of_sdk(*words)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == of_device(*words)[2].splitlines()[-1].replace("fastserve-runtime", "fastserve")


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "BUNDLE", "--json"],
        ["inspect", "nowhere.fsb", "--json"],
        ["inspect", "--machine", "--engine", "onnxruntime", "--json"],
        ["verify", "BUNDLE", "--json"],
        ["verify", "BUNDLE", "--threads", "0", "--json"],
        ["verify", "BUNDLE", "--variant", "odd", "--json"],
        ["run", "BUNDLE", "a text", "--json"],
        ["run", "BUNDLE", "a text", "--chat", "--json"],
        ["serve", "nowhere.fsb", "--json"],
    ],
    ids=" ".join,
)
def test_documents_and_exit_codes_are_the_same(words: list[str], small_bundle: Path, of_device) -> None:
    words = [str(small_bundle) if word == "BUNDLE" else word for word in words]
    code, out, err = of_sdk(*words)
    device_code, device_out, device_err = of_device(*words)
    assert (code, json.loads(out), err) == (device_code, json.loads(device_out), device_err)


@pytest.mark.parametrize("words", [["inspect", "BUNDLE"], ["verify", "BUNDLE"]], ids=" ".join)
def test_people_are_shown_the_same_words(words: list[str], small_bundle: Path, of_device) -> None:
    words = [str(small_bundle) if word == "BUNDLE" else word for word in words]
    code, out, _ = of_sdk(*words)
    device_code, device_out, _ = of_device(*words)
    assert code == device_code
    assert [w for w in out.split() if w.isalnum()] == [w for w in device_out.split() if w.isalnum()]
