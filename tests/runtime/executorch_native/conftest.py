"""Small programs, made once per test session by the official ExecuTorch package in a child process."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    """Put these tests first: the official runtime, once a test has loaded it, brings backends into the process."""
    items.sort(key=lambda item: "executorch_native" not in item.path.parts)


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    if importlib.util.find_spec("executorch") is None:
        pytest.skip("the official executorch package, which makes the programs, is not installed")
    folder = tmp_path_factory.mktemp("programs")
    script = Path(__file__).with_name("make_programs.py")
    made = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-4000:]
    return folder
