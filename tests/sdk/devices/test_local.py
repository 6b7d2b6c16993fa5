"""Artifacts are measured in a fresh process; an unsteady run is repeated and the steadiest counts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candidates import build_measurement
from fastserve.devices import DEVICES, OUTPUTS, MeasurementJob
from fastserve.devices.local import ATTEMPTS
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.measurement.measurement import Measurement, measurement_document
from manifests import LENGTH, expected_embeddings, text_model, token_ids, variant

GRAPHS = variant()["graphs"]
TEXTS = ["a b", "c", "d e f"]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    ids = np.array([token_ids(text) for text in TEXTS], np.int32)
    np.savez(tmp_path / "inputs.npz", input_ids=ids, attention_mask=(ids != 0).astype(np.float32))
    return tmp_path / "inputs.npz"


@pytest.fixture
def measure(tmp_path: Path, inputs: Path) -> Callable[..., Measurement]:
    def measure(model: bytes = b"", **settings: Any) -> Measurement:
        (tmp_path / "model.onnx").write_bytes(model)
        (tmp_path / "out").mkdir(exist_ok=True)
        job = MeasurementJob("feature-extraction", tmp_path / "model.onnx", "onnx", GRAPHS, inputs, threads=1)
        return DEVICES.load("local").measure(tmp_path / "out", replace(job, **settings))

    return measure


@pytest.fixture
def fake_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a Python script in the measuring process's place; returns a file in which it counts its runs."""

    def put(script: str) -> Path:
        runs = tmp_path / "runs"
        head = f"""#!{sys.executable}
import json, os, signal, sys
request = json.loads(sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "little")))
run = len(open({str(runs)!r}, "a+").read())
open({str(runs)!r}, "a").write("x")
run = os.path.getsize({str(runs)!r})
def answer(document):
    content = json.dumps({{**document, "arrays": []}}).encode()
    sys.stdout.buffer.write(len(content).to_bytes(4, "little") + content)
"""
        (tmp_path / "interpreter").write_text(head + script)
        (tmp_path / "interpreter").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "interpreter"))
        monkeypatch.setattr("fastserve.devices.local.ATTEMPTS", ATTEMPTS)
        return runs

    return put


def test_a_real_model_is_measured_and_its_outputs_kept(measure, tmp_path: Path) -> None:
    measurement = measure(text_model())
    assert measurement.engine == "onnxruntime"
    assert measurement.threads == 1
    assert measurement.brings_pytorch is False
    assert measurement.memory.peak > 2**20
    assert measurement.latency.queries >= 64
    assert 0 < measurement.latency.minimum <= measurement.latency.mean <= measurement.latency.maximum
    with np.load(tmp_path / "out" / OUTPUTS) as outputs:
        np.testing.assert_allclose(outputs["sentence_embedding"], expected_embeddings(TEXTS), rtol=1e-5)
    assert [f.name for f in (tmp_path / "out").iterdir()] == [OUTPUTS]


def test_a_model_that_the_engine_refuses_is_a_failure_in_its_words(measure, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="cannot load the model"):
        measure(b"no model at all")
    assert list((tmp_path / "out").iterdir()) == []


ANSWER = f"measurement = json.loads({json.dumps(measurement_document(build_measurement(maximum=1.0)))!r})\n"
LATENCIES = (
    ANSWER
    + """
measurement["threads"] = run
measurement["latency"] |= {"p90": %s[run - 1], "warnings": %s[run - 1]}
answer({"measurement": measurement})
"""
)


def latencies(p90: list[float | None], warnings: list[list[str]]) -> str:
    return LATENCIES % (p90, warnings)


@pytest.mark.parametrize(
    ("p90", "warnings", "runs", "taken"),
    [
        ([0.1], [[]], 1, 1),
        ([0.1, 0.2], [["busy"], []], 2, 2),
        ([0.3, 0.1, 0.2], [["busy"], ["busy"], ["busy"]], 3, 2),
        ([0.1, 0.1, 0.1], [["busy"], ["busy"], ["busy"]], 3, 1),
        ([0.1, 0.9, 0.1], [["busy", "drift"], ["busy"], ["busy", "drift"]], 3, 2),
        ([None, 0.9, None], [["few"], ["few"], ["few"]], 3, 2),
    ],
)
def test_an_unsteady_run_is_repeated_and_the_steadiest_counts(
    measure, fake_process, p90: list[float | None], warnings: list[list[str]], runs: int, taken: int
) -> None:
    counter = fake_process(latencies(p90, warnings))
    assert measure().threads == taken
    assert len(counter.read_text()) == runs <= ATTEMPTS


def test_the_process_gets_all_that_it_needs(measure, fake_process, tmp_path: Path, inputs: Path) -> None:
    asked = tmp_path / "asked.json"
    told = f"open({str(asked)!r}, 'w').write(json.dumps([request, sys.argv[1:]]))"
    fake_process(f"{ANSWER}{told}\nanswer({{'measurement': measurement}})")
    measure(threads=3, debug=True)
    request, arguments = json.loads(asked.read_text())
    assert request["model"] == str(tmp_path / "model.onnx")
    assert request["inputs"] == str(inputs)
    assert request["outputs"] == str(tmp_path / "out" / OUTPUTS)
    assert (request["task"], request["threads"], request["format"]) == ("feature-extraction", 3, "onnx")
    assert request["graphs"] == json.loads(json.dumps(GRAPHS))
    assert request["graphs"]["main"]["inputs"][0]["dims"] == [1, LENGTH]
    assert arguments[:2] == ["-m", "fastserve_runtime.measurement.measuring"]
    assert arguments[-1] == "--debug"


def test_a_process_that_dies_is_told_with_its_last_line(measure, fake_process, tmp_path: Path) -> None:
    fake_process("print('first', file=sys.stderr); sys.exit('out of luck')")
    with pytest.raises(EnvironmentFailure) as failure:
        measure()
    assert failure.value.problem == "The measuring process ended with exit code 1. Its last words: out of luck"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_process_that_is_killed_is_told(measure, fake_process) -> None:
    fake_process("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(EnvironmentFailure, match=r"crashed with SIGKILL\.$"):
        measure()


def test_an_answer_that_is_cut_off_counts_as_none(measure, fake_process) -> None:
    fake_process("""sys.stdout.write('\\x20\\0\\0\\0{"measu')""")
    with pytest.raises(EnvironmentFailure, match="ended with exit code 0"):
        measure()


def test_with_debug_the_log_goes_to_the_terminal(measure, fake_process, capfd) -> None:
    fake_process("sys.exit('out of luck')")
    with pytest.raises(EnvironmentFailure, match=r"ended with exit code 1\.$"):
        measure(debug=True)
    assert capfd.readouterr().err == "out of luck\n"


def test_a_process_that_hangs_is_ended(measure, fake_process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.devices.local.TIMEOUT_SECONDS", 0.5)
    fake_process("import time; time.sleep(600)")
    with pytest.raises(EnvironmentFailure, match=r"hung and was ended after 0\.5 s"):
        measure()
