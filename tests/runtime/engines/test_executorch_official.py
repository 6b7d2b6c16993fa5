import sys

import numpy as np
import pytest

from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.engines import executorch_official
from fastserve_runtime.engines.executorch_official import open_session
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.loading import open_model

FEATURES = np.array([[1, -2, 0.5, 3]], np.float32)
IDS = np.array([[4, 5]], np.int32)
TWICE = Signature((TensorSpec("x", "float32", (2, 2)),), (TensorSpec("y", "float32", (2, 4)),))


@pytest.fixture
def model(score_models):
    return score_models / "model.pte"


def test_every_method_is_a_graph_with_numbered_inputs_and_outputs(model):
    with open_model(model, engine=executorch_official.NAME) as session:
        assert sorted(session.graphs) == ["score", "twice"]
        assert session.graphs["twice"] == Signature(
            (TensorSpec("input_0", "float32", (2, 2)),), (TensorSpec("output_0", "float32", (2, 4)),)
        )
        x = np.arange(4, dtype=np.float32).reshape(2, 2)
        np.testing.assert_array_equal(session.run({"input_0": x}, graph="twice")["output_0"], np.hstack([x, x]))
        with pytest.raises(UsageError, match="has 2 graphs"):
            session.run({"input_0": x})


def test_the_manifest_names_methods_inputs_and_outputs(model):
    with open_session(model, {"double it": Graph("model.pte", "twice", TWICE)}, threads=1) as session:
        x = np.arange(4, dtype=np.float32).reshape(2, 2)
        np.testing.assert_array_equal(session.run({"x": x}, graph="double it")["y"], np.hstack([x, x]))


def test_a_file_without_the_mark_of_executorch_is_refused_before_pytorch_is_imported(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)
    content = model.read_bytes()
    with pytest.raises(BundleError, match="lacks the identifier 'ET12'"):
        open_session(memoryview(content[:4] + b"ET99" + content[8:]), None, threads=1)


def test_where_operators_run_is_not_told(model):
    with open_model(model, engine=executorch_official.NAME) as session:
        placement = session.placement()
    assert placement.operators is None
    assert placement.source == "the official Python runtime does not tell"


def test_sessions_stay_apart_from_their_inputs(model):
    with open_model(model, engine=executorch_official.NAME) as session:
        features = FEATURES.copy()
        outputs = session.run({"input_0": features, "input_1": IDS}, graph="score")
        before = {name: value.copy() for name, value in outputs.items()}
        features[:] = 100
        for name, value in before.items():
            np.testing.assert_array_equal(outputs[name], value)


def test_executorch_without_pytorch_counts_as_not_installed(monkeypatch):
    assert executorch_official.version()
    monkeypatch.setattr(executorch_official, "find_spec", lambda name: None)
    assert executorch_official.version() is None
