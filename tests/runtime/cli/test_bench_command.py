import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastserve_runtime.cli import bench_command
from fastserve_runtime.measurement.sustained import Window


def test_the_figures_are_shown(command, embeddings: Path):
    ended = command("bench", embeddings, "--threads", "1", "--engine", "onnxruntime", "--variant", "first")
    assert ended.code == 0
    lines = {line.split()[0]: line for line in ended.out.splitlines()[1:]}
    assert {"id", "machine", "engine", "input", "latency", "speed", "start", "memory", "placement", "trust"} == set(
        lines
    )
    assert "p90" in lines["latency"]
    assert "items/s" in lines["speed"]
    assert "1 thread" in lines["engine"]
    assert "2 golden texts" in lines["input"]
    assert ended.err.startswith("Measuring first with onnxruntime")


def test_json_has_measurement_and_sustained_run(command, embeddings: Path):
    ended = command("bench", embeddings, "--json", "--minutes", "0.05")
    assert ended.code == 0
    document = ended.document
    assert set(document["measurement"]) >= {"machine", "engine", "engine_version", "import_seconds", "load_seconds"}
    assert document["measurement"]["latency"]["p90"] > 0
    sustained = document["sustained"]
    assert sustained["asked_seconds"] == pytest.approx(3)
    assert len(sustained["windows"]) == 3
    assert sustained["judgement"]["pace"] in {"steady", "slower", "throttled"}
    assert sustained["judgement"]["last_items_per_second"] > 0
    assert ended.err.splitlines()[-1].startswith("Running on for 0.05 minutes")


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_no_length_of_time_ends_with_2(command, embeddings: Path, minutes: str):
    ended = command("bench", embeddings, f"--minutes={minutes}", "--json")
    assert ended.code == 2
    assert "minutes were asked for" in ended.document["error"]["problem"]


def test_what_is_no_bundle_ends_with_2(command, tmp_path: Path):
    assert command("bench", tmp_path / "nowhere.fsb").code == 2


def test_progress_is_written_over_on_a_terminal_and_absent_elsewhere(monkeypatch, capsys):
    assert bench_command._progress(60) is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = bench_command._progress(60)
    assert shown is not None
    shown(Window(10.0, 2.0, 8, None, None, 1.0))
    assert capsys.readouterr().err.endswith("12 of 60 s: 4.0 items/s")


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_ctrl_c_shows_what_was_seen_and_ends_with_130(embeddings: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "fastserve_runtime", "bench", embeddings, "--minutes", "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Running on for 5 minutes"):
            break
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "sustained   too short to tell" in out
    assert "only 1 windows of 10 s" in out
    assert err == "Error: Interrupted.\n"
