"""A model in a process of its own: what goes wrong there is an error here."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from fastserve_runtime.errors import BundleError, EnvironmentFailure, InputError, UsageError
from fastserve_runtime.loading import open_model
from fastserve_runtime.processes.child import ChildEnded
from fastserve_runtime.processes.isolation import engine_child, open_request
from fastserve_runtime.processes.limits import Limits

FEATURES = np.array([[1, -2, 0.5, 3]], np.float32)
IDS = np.array([[4, 5]], np.int32)
INPUTS = {"features": FEATURES, "ids": IDS}


@pytest.fixture
def session(score_models: Path):
    with open_model(score_models / "model.onnx", isolate=True) as session:
        yield session


def test_it_is_a_session_like_any_other(session, scores):
    expected = scores(FEATURES, IDS)
    for name, value in session.run(INPUTS).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)
    binding = session.bind(INPUTS)
    np.testing.assert_allclose(binding.run()["scores"], expected["scores"], rtol=1e-5)
    session.warm_up()
    session.reset_state()
    assert "CPUExecutionProvider" in session.placement().source
    assert [spec.name for spec in session.graphs["main"].inputs] == ["features", "ids"]
    with pytest.raises(InputError, match="The inputs given are features"):
        session.run({"features": FEATURES})


def test_the_engine_is_not_in_this_process(session):
    pid = session._process._process.pid
    assert pid != os.getpid()
    assert "onnxruntime" in Path(f"/proc/{pid}/maps").read_text() if sys.platform == "linux" else True


def test_closing_ends_the_process(score_models):
    session = open_model(score_models / "model.onnx", isolate=True)
    process = session._process._process
    session.close()
    session.close()
    assert process.returncode == 0
    with pytest.raises(UsageError, match="The session is closed"):
        session.run(INPUTS)


def test_a_crash_while_running_is_an_error_that_names_it(session):
    os.kill(session._process._process.pid, signal.SIGSEGV)
    with pytest.raises(EnvironmentFailure, match="process of onnxruntime crashed with SIGSEGV while running the model"):
        session.run(INPUTS)
    with pytest.raises(EnvironmentFailure):
        session.run(INPUTS)


def test_an_engine_that_refuses_the_model_says_why_through_the_process(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"ONNX Runtime .* cannot load the model"):
        open_model(tmp_path / "bad.onnx", isolate=True)


CRASHING = """
import os, signal, time
from fastserve_runtime.engines import onnxruntime
NAME, FORMAT, FAMILY, INSTALL = "crashing", "onnx", "crashing", "pip install crashing"
version = lambda: "1"
def open_session(model, graphs, *, threads):
    if model.read_bytes() == b"hang":
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGABRT)
"""


@pytest.fixture
def crashing(tmp_path, monkeypatch):
    """Install an engine that crashes or hangs on loading, for this process and its children."""
    site = tmp_path / "site"
    info = site / "crashing-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fastserve_runtime.engines]\ncrashing = crashing_engine\n")
    (site / "crashing_engine.py").write_text(CRASHING)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.usefixtures("crashing")
def test_a_crash_or_a_hang_while_loading_is_a_damaged_file(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"crash")
    with pytest.raises(BundleError, match=r"process of crashing crashed with SIGABRT while loading .*model.onnx"):
        open_model(tmp_path / "model.onnx", engine="crashing", isolate=True)
    (tmp_path / "model.onnx").write_bytes(b"hang")
    started = time.monotonic()
    with pytest.raises(BundleError, match=r"gave no answer in 2 s and was ended while loading"):
        open_model(tmp_path / "model.onnx", engine="crashing", isolate=Limits(seconds=2.0))
    assert time.monotonic() - started < 60


def zeros_model(count: int) -> bytes:
    """An ONNX model whose one output is `count` float32 zeros: a few bytes of file, `4 * count` bytes in memory."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [count])
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
    ]
    output = helper.make_tensor_value_info("zeros", TensorProto.FLOAT, [count])
    graph = helper.make_graph(nodes, "zeros", [], [output])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory reliably")
def test_a_model_that_needs_more_memory_than_allowed_is_refused(tmp_path):
    (tmp_path / "small.onnx").write_bytes(zeros_model(1_000))
    (tmp_path / "large.onnx").write_bytes(zeros_model(500_000_000))

    def run(name: str) -> None:
        process.ask(open_request(tmp_path / name, "onnxruntime"))
        process.ask({"ask": "run", "graph": "main"})

    with engine_child(Limits(seconds=120, memory=2**30)) as process:
        run("small.onnx")
        with pytest.raises((BundleError, EnvironmentFailure, ChildEnded)):
            run("large.onnx")
