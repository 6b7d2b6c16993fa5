"""What goes wrong on one target is a verdict and a sentence; the others are checked, and nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from command_line import FASTSERVE
from manifests import CHECKS, MODEL, text_bundle, write_directory

TARGETS = '''
"""Targets that fail, each in its own way."""

import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

from fastserve_device_tests.needs import Needs
from fastserve_runtime.engines import onnxruntime


def crash(*_, **__):
    os.abort()


def hang(*_, **__):
    started = subprocess.Popen(["sleep", "600"])  # such as a browser or a compiler
    Path(os.environ["PIDS"]).write_text(f"{os.getpid()} {started.pid}")
    time.sleep(600)


def hoard(*_, **__):
    held = bytearray(b"1" * 400_000_000)
    time.sleep(60)
    return held


def hoard_in_a_child(*_, **__):
    program = "import time; held = bytearray(b'1' * 400_000_000); time.sleep(60)"
    subprocess.run([os.environ["PYTHON"], "-c", program])


def leave_a_child(*_, **__):
    started = subprocess.Popen(["sleep", "600"])  # it keeps the answer's pipe open
    Path(os.environ["PIDS"]).write_text(f"{started.pid}")
    os.kill(os.getpid(), 9)


def raising(*_, **__):
    raise RuntimeError("the compiler is confused")


def mark(*_, **__):
    Path(os.environ["PIDS"]).touch()


def target(name, open_session, **needs):
    engine = SimpleNamespace(NAME="bad", FORMAT="onnx", INSTALL="", version=lambda: "1.0", open_session=open_session)
    return SimpleNamespace(
        NAME=f"onnx:{name}", PROCESSOR="npu", EXECUTED_BY="simulator", FORMAT="onnx", BACKEND=None, PRECISIONS=None,
        needs=lambda: Needs(**needs), engine=lambda variant: engine,
    )


def confused():
    raise KeyError("driver")


crashing = target("crash", crash)
hanging = target("hang", hang, seconds=2)
waiting = target("wait", hang)
hoarding = target("hoard", hoard, memory=300_000_000)
hoarding_child = target("hoard-child", hoard_in_a_child, memory=300_000_000)
orphaning = target("orphan", leave_a_child)
failing = target("raise", raising)
marking = target("mark", mark)
driverless = target("driver", crash, files=((None, "the driver", "apt-get install driver"),))
needless = target("needs", crash)
needless.needs = confused
nameless = SimpleNamespace(NAME="onnx:part", needs=Needs)
'''
BROKEN = 'raise OSError("libnpu.so: cannot open shared object file")\n'
ENTRIES = {
    "crash": "crashing",
    "hang": "hanging",
    "wait": "waiting",
    "hoard": "hoarding",
    "hoard-child": "hoarding_child",
    "orphan": "orphaning",
    "raise": "failing",
    "mark": "marking",
    "driver": "driverless",
    "needs": "needless",
    "part": "nameless",
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with one that adds these targets."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "bad_targets.py").write_text(TARGETS)
    (folder / "broken_target_module.py").write_text(BROKEN)
    distribution = folder / "bad_targets-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-targets\nVersion: 1.0\n")
    lines = [f"onnx-{name} = bad_targets:{attribute}" for name, attribute in ENTRIES.items()]
    lines.append("onnx-import = broken_target_module")
    (distribution / "entry_points.txt").write_text("[fastserve.targets]\n" + "\n".join(lines) + "\n")
    return folder


@pytest.fixture
def environment(packages: Path, tmp_path: Path) -> dict[str, str]:
    python = FASTSERVE[0]
    python_path = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": python_path, "PIDS": str(tmp_path / "pids"), "PYTHON": python}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "text.fsb", *text_bundle())


def command(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FASTSERVE, *map(str, words)], capture_output=True, text=True, check=False, timeout=120, env=environment
    )


def test_each_failure_is_a_verdict_and_the_others_are_checked(bundle: Path, environment: dict[str, str]) -> None:
    names = ["crash", "hang", "hoard", "hoard-child", "orphan", "raise", "driver", "import", "needs", "part"]
    done = command(environment, "conform", bundle, "--json", "--target", ",".join(f"onnx:{n}" for n in (*names, "cpu")))
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    verdicts = json.loads(done.stdout)["verdicts"]
    found = {v["target"]: (v["check"], v["outcome"], v["message"]) for v in verdicts if v["target"] != "onnx:cpu"}
    memory = "GiB of memory and was ended; 0.3 GiB are allowed"
    for name in ("hoard", "hoard-child"):
        check, outcome, message = found.pop(f"onnx:{name}")
        assert (check, outcome) == ("run", "RUN_FAILED")
        assert message.endswith(memory)
    mend = "Update the package that brings it, or uninstall it."
    assert found == {
        "onnx:crash": ("run", "RUN_FAILED", "the process crashed with SIGABRT"),
        "onnx:hang": ("run", "RUN_FAILED", "the process gave no answer in 2 s and was ended"),
        "onnx:orphan": ("run", "RUN_FAILED", "the process crashed with SIGKILL"),
        "onnx:raise": (
            "run",
            "RUN_FAILED",
            "the process ended with exit code 1: RuntimeError: the compiler is confused",
        ),
        "onnx:driver": ("load", "NOT_RUN", "the driver is missing: apt-get install driver"),
        "onnx:import": (
            "load",
            "NOT_RUN",
            "The target 'onnx:import' cannot be imported: OSError: libnpu.so: cannot open shared object file. " + mend,
        ),
        "onnx:needs": (
            "load",
            "NOT_RUN",
            f"The target 'onnx:needs' cannot tell what it needs: KeyError: 'driver'. {mend}",
        ),
        "onnx:part": (
            "load",
            "NOT_RUN",
            f"The target 'onnx:part' lacks PROCESSOR, EXECUTED_BY, FORMAT, BACKEND, PRECISIONS, engine. {mend}",
        ),
    }
    good = [(v["check"], v["outcome"]) for v in verdicts if v["target"] == "onnx:cpu"]
    assert good == [(check, "PASS") for check in CHECKS]


def test_what_a_process_leaves_is_ended_with_it(bundle: Path, environment: dict[str, str]) -> None:
    done = command(environment, "conform", bundle, "--target", "onnx:orphan")
    assert done.returncode == 4, done.stderr
    wait_until_gone(Path(environment["PIDS"]))


def test_a_broken_target_is_told_and_does_not_hide_the_others(environment: dict[str, str]) -> None:
    done = command(environment, "targets", "--json")
    assert done.returncode == 0, done.stderr
    found = {t["name"]: t for t in json.loads(done.stdout)["targets"]}
    assert found["onnx:cpu"]["runs_here"] is True
    assert found["onnx:import"]["runs_here"] is False
    (missing,) = found["onnx:import"]["missing"]
    assert missing["what"].startswith("a module that can be used (The target 'onnx:import' cannot be imported: OSError")
    shown = command(environment, "targets")
    assert shown.returncode == 0, shown.stderr
    assert "onnx:import lacks a module that can be used" in shown.stdout


def test_targets_that_are_chosen_by_no_name_are_not_hindered(bundle: Path, environment: dict[str, str]) -> None:
    done = command(environment, "conform", bundle, "--json")
    assert done.returncode == 0, done.stderr
    assert "PASS" in {v["outcome"] for v in json.loads(done.stdout)["verdicts"] if v["target"] == "onnx:cpu"}


def test_an_unknown_target_ends_with_2_and_the_nearest_name(bundle: Path, environment: dict[str, str]) -> None:
    done = command(environment, "conform", bundle, "--target", "onnx:mark,onnx:cqu")
    assert done.returncode == 2
    assert "There is no target 'onnx:cqu'. Did you mean 'onnx:cpu'?" in " ".join(done.stderr.split())
    assert not Path(environment["PIDS"]).exists()


def test_an_altered_bundle_ends_with_5_before_any_verdict(bundle: Path, environment: dict[str, str]) -> None:
    content = bytearray((bundle / MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / MODEL).write_bytes(content)
    done = command(environment, "conform", bundle, "--target", "onnx:mark", "--json", "--save")
    assert done.returncode == 5
    assert "verdicts" not in done.stdout
    assert not Path(environment["PIDS"]).exists(), "a target was started"
    assert not (bundle / "evidence").exists()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["Ctrl-C", "end", "kill"])
def test_a_stopped_run_leaves_no_process(bundle: Path, environment: dict[str, str], kind: signal.Signals) -> None:
    # Whoever starts the tests in the background may have Ctrl-C ignored, and children inherit that.
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*FASTSERVE, "conform", str(bundle), "--target", "onnx:wait"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )
    finally:
        signal.signal(signal.SIGINT, was)
    pids = Path(environment["PIDS"])
    for _ in range(600):
        if pids.exists() and len(pids.read_text().split()) == 2:
            break
        time.sleep(0.1)
    os.killpg(process.pid, kind)
    _, message = process.communicate(timeout=60)
    assert process.returncode == (130 if kind is signal.SIGINT else -kind)
    assert "Traceback" not in message
    assert ("Interrupted." in message) == (kind is signal.SIGINT)
    wait_until_gone(pids)


def wait_until_gone(pids: Path) -> None:
    """Wait for the end of all processes that this file names."""
    for pid in map(int, pids.read_text().split()):
        for _ in range(100):
            if not is_running(pid):
                break
            time.sleep(0.1)
        assert not is_running(pid), f"process {pid} still runs"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
