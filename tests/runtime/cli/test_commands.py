"""The command as a whole: in processes of its own, and beside the SDK's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastserve.cli import app
from fastserve_runtime import __version__

COMMAND = [sys.executable, "-m", "fastserve_runtime"]
IMPORTED = """
import sys
before = set(sys.modules)
import fastserve_runtime.cli
fastserve_runtime.cli.main(sys.argv[1:])
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(names - set(sys.stdlib_module_names) - {"fastserve_runtime"}), file=sys.stderr)
"""


def process(*words: object, **arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, **arguments)


def test_the_version_is_shown(command) -> None:
    assert command("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("name", ["inspect", "run", "verify", "bench"])
def test_every_command_has_help(command, name: str) -> None:
    ended = command(name, "--help")
    assert ended.code == 0
    for flag in ("BUNDLE", "--json", "--debug"):
        assert flag in ended.out
    assert name in command("--help").out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["export"],
        ["inspect"],
        ["inspect", "x.fsb", "--variant", "y"],
        ["bench", "x.fsb", "--minutes", "many"],
        ["verify", "x.fsb", "--js"],
    ],
)
def test_wrong_usage_ends_with_2_and_says_so_on_standard_error(command, words: list[str]) -> None:
    ended = command(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("usage: fastserve-runtime")


def test_a_failure_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = process("inspect", tmp_path / "nowhere.fsb", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    assert done.stderr.startswith("Error: There is no bundle at")
    assert "Traceback" in process("inspect", tmp_path / "nowhere.fsb", "--debug").stderr


def test_inspecting_imports_the_standard_library_alone(embeddings: Path) -> None:
    command = [sys.executable, "-c", IMPORTED, "inspect", str(embeddings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_result_that_cannot_be_written_ends_with_1(embeddings: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "inspect", embeddings, "--json"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "The disk is full" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("words", [["inspect", "{}"], ["inspect", "{}", "--json"], ["verify", "{}"], ["--help"]])
def test_a_reader_that_stops_early_is_no_error(embeddings: Path, words: list[str]) -> None:
    producer = subprocess.Popen(
        [*COMMAND, *(word.format(embeddings) for word in words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert producer.stdout is not None
    assert producer.stderr is not None
    producer.stdout.close()
    assert producer.stderr.read() == b""
    producer.stderr.close()
    assert producer.wait(60) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "{}"],
        ["verify", "{}"],
        ["verify", "{}", "--variant", "onnx-fp32"],
        ["run", "{}", "one sentence", "another"],
        ["run", "{}", "one", "--variant", "none-such"],
        ["inspect", "{}/nowhere"],
    ],
)
def test_json_and_exit_code_are_those_of_the_sdk(command, tiny_bundle: Path, words: list[str]) -> None:
    words = [*(word.format(tiny_bundle) for word in words), "--json"]
    ours, theirs = command(*words), CliRunner().invoke(app, words)
    assert ours.code == theirs.exit_code
    assert ours.document == json.loads(theirs.stdout)
    assert ours.out == theirs.stdout


def test_a_real_bundle_is_measured(command, tiny_bundle: Path) -> None:
    document = command("bench", tiny_bundle, "--json", "--variant", "onnx-fp32").document
    measurement = document["measurement"]
    evidence = command("inspect", tiny_bundle, "--json").document["evidence"]
    exported = next(d for d in evidence if d["variant"] == "onnx-fp32")
    assert set(measurement) <= set(exported)
    assert measurement["machine"] == exported["machine"]
    assert document["inputs"]["samples"] == 10
