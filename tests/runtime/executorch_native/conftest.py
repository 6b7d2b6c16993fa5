"""Small programs, made once per test session by the official ExecuTorch package in a child process."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock


def pytest_collection_modifyitems(items):
    """Put these tests first: the official runtime, once a test has loaded it, brings backends into the process."""
    items.sort(key=lambda item: "executorch_native" not in item.path.parts)


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")


def made(tmp_path_factory, script, *arguments):
    """The folder with the programs that a script beside this file makes: once for all processes that run tests."""
    if importlib.util.find_spec("executorch") is None:
        pytest.skip("the official executorch package, which makes the programs, is not installed")
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / Path(script).stem
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(dir=folder.parent))  # another process may have failed in one
            command = [sys.executable, str(Path(__file__).with_name(script)), str(unfinished), *arguments]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-4000:]
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    return made(tmp_path_factory, "make_programs.py")


@pytest.fixture(scope="session")
def lookups(tmp_path_factory):
    return made(tmp_path_factory, "make_lookups.py")


# Heads, heads of keys, size of a head, and the scale if it is given.
GENERATION_SHAPES = ["2_2_8", "9_3_64", "8_1_80", "4_2_27", "6_2_64_0.3"]


@pytest.fixture(params=GENERATION_SHAPES)
def shape(request):
    return request.param


@pytest.fixture(scope="session")
def generation(tmp_path_factory):
    return made(tmp_path_factory, "make_generation_programs.py", *GENERATION_SHAPES)
