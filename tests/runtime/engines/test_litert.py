import threading
from functools import partial

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import OpResolverType

from fastserve_converters.formats.tflite.writing import ModelWriter
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.engines import litert
from fastserve_runtime.engines._tflite import TFLiteSession
from fastserve_runtime.engines.litert import FORMAT, open_session, placed_operators
from fastserve_runtime.errors import BundleError, EnvironmentFailure, InputError, UsageError
from fastserve_runtime.loading import open_model

FEATURES = np.array([[1, -2, 0.5, 3]], np.float32)
IDS = np.array([[4, 5]], np.int32)


@pytest.fixture
def model(score_models):
    return score_models / "model.tflite"


@pytest.fixture
def changed(model):
    """The model's content after a change to its parts."""

    def changed(change):
        parts = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model.read_bytes()))
        change(parts)
        builder = flatbuffers.Builder()
        builder.Finish(parts.Pack(builder), b"TFL3")
        return memoryview(bytes(builder.Output()))

    return changed


def signature_of(parts, name):
    return next(s for s in parts.signatureDefs if s.signatureKey == name)


def test_every_signature_is_a_graph(model):
    with open_model(model) as session:
        assert list(session.graphs) == ["score", "twice"]
        assert session.graphs["twice"] == Signature(
            (TensorSpec("x", "float32", (2, 2)),), (TensorSpec("y", "float32", (2, 4)),)
        )
        x = np.arange(4, dtype=np.float32).reshape(2, 2)
        np.testing.assert_array_equal(session.run({"x": x}, graph="twice")["y"], np.hstack([x, x]))
        with pytest.raises(UsageError, match=r"has 2 graphs. Name one of: score, twice"):
            session.run({"x": x})


def test_a_file_without_the_mark_of_tflite_is_refused_before_litert_sees_it(model, tmp_path):
    content = model.read_bytes()
    (tmp_path / "model.tflite").write_bytes(content[:4] + b"TFL2" + content[8:])
    with pytest.raises(BundleError, match="lacks the identifier 'TFL3'"):
        open_model(tmp_path / "model.tflite")


def test_a_model_without_signatures_is_refused(changed):
    with pytest.raises(BundleError, match=r"The TFLite model has no signature. Export it with named signatures"):
        open_session(changed(lambda parts: setattr(parts, "signatureDefs", [])), None, threads=1)


def test_a_signature_of_tensors_that_are_not_there_is_a_bundle_error(changed):
    def lose_a_tensor(parts):
        signature_of(parts, b"score").inputs[0].tensorIndex = 99

    with pytest.raises(BundleError, match=r"cannot load the model: .*[Tt]ensor"):
        open_session(changed(lose_a_tensor), None, threads=1)


def test_dimensions_left_open_become_symbols_and_take_any_size(changed):
    def leave_open(parts):
        twice = signature_of(parts, b"twice")
        tensors = parts.subgraphs[twice.subgraphIndex].tensors
        for entry in (*twice.inputs, *twice.outputs):
            tensor = tensors[entry.tensorIndex]
            tensor.shapeSignature = [-1, tensor.shape[1]]

    with open_session(changed(leave_open), None, threads=1) as session:
        assert session.graphs["twice"].inputs[0].dims == (SymbolicDim("x_0", 0, 2**31 - 1), 2)
        for size in (3, 1, 5):
            x = np.arange(2 * size, dtype=np.float32).reshape(size, 2)
            np.testing.assert_array_equal(session.run({"x": x}, graph="twice")["y"], np.hstack([x, x]))
        with pytest.raises(InputError, match=r"shape \[2, 3\]; the model takes \[x_0 0..2147483647, 2\]"):
            session.run({"x": np.ones((2, 3), np.float32)}, graph="twice")


def test_operators_are_told_apart_by_what_executes_them(model):
    with open_model(model) as session:
        placement = session.placement()
    assert placement.source == "litert's execution plan"
    assert set(placement.operators) == {"XNNPACK", "LiteRT kernels"}
    assert placement.operators["XNNPACK"] >= 1
    assert sum(placement.operators.values()) == 5


def linear_model(groups):
    """A linear layer of 64 inputs, whose rows have so many blocks."""
    values = np.random.default_rng(0).integers(-7, 8, (8, 64)).astype(np.int8)
    scale = np.linspace(0.01, 0.02, 8 * groups, dtype=np.float32).reshape(8, groups)
    weight = QuantizedWeight(
        values, scale, np.zeros_like(scale, np.int8), WeightScheme(4, group=64 // groups, scale="bfloat16")
    )
    writer = ModelWriter()
    graph = writer.graph("serving_default")
    given = graph.input("x", (1, 64))
    weights = graph.quantized_weight("weights", weight)
    made = graph.operator("FULLY_CONNECTED", [given, weights, None], (1, 8), "FullyConnectedOptions", version=12)
    graph.output("y", made)
    return memoryview(writer.content())


@pytest.mark.parametrize("groups", [1, 2])
def test_layers_that_litert_s_own_kernels_compute_wrong_are_refused_where_xnnpack_does_not_start(groups, monkeypatch):
    def opened():
        return open_session(linear_model(groups), None, threads=1)

    x = {"x": np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)}
    with opened() as session:
        right = session.run(x)["y"]
    alone = partial(litert.import_library(), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    monkeypatch.setattr(litert, "import_library", lambda: alone)
    if groups == 1:
        with opened() as session:
            np.testing.assert_allclose(session.run(x)["y"], right, atol=0.02)
        return
    with pytest.raises(
        EnvironmentFailure, match=r"XNNPACK did not start, .* which 1 of the model's linear layers"
    ) as seen:
        opened()
    assert "/sys" in seen.value.remedy
    monkeypatch.setattr(litert, "_wrongly_computed", lambda _: 0)
    with opened() as session:
        assert not np.allclose(session.run(x)["y"], right, atol=0.1)


class TestPlacedOperators:
    @staticmethod
    def operator(name, inputs, outputs):
        return {"op_name": name, "inputs": np.array(inputs), "outputs": np.array(outputs)}

    def test_without_a_delegate_all_are_litert_s_own(self):
        operators = [self.operator("ADD", [0, 1], [2]), self.operator("MUL", [2, 0], [3])]
        assert placed_operators(operators) == {"XNNPACK": 0, "LiteRT kernels": 2}

    def test_a_delegate_has_what_lies_between_its_inputs_and_outputs(self):
        operators = [
            self.operator("CAST", [0], [1]),
            self.operator("ADD", [1, 9], [2]),
            self.operator("MUL", [2, 2], [3]),
            self.operator("GATHER", [3], [4]),
            self.operator("DELEGATE", [1], [3]),
        ]
        assert placed_operators(operators) == {"XNNPACK": 2, "LiteRT kernels": 2}

    def test_an_operator_of_several_outputs_and_of_several_delegates_is_counted_once(self):
        operators = [
            self.operator("SPLIT", [0], [1, 2]),
            self.operator("ADD", [1, 2], [3]),
            self.operator("DELEGATE", [0], [3, 1, 2]),
            self.operator("NEG", [3], [4]),
            self.operator("DELEGATE", [3], [4]),
        ]
        assert placed_operators(operators) == {"XNNPACK": 3, "LiteRT kernels": 0}

    def test_an_empty_model_has_none(self):
        assert placed_operators([]) == {"XNNPACK": 0, "LiteRT kernels": 0}


class Waiting:
    """An interpreter whose one signature waits until it is let go."""

    def __init__(self):
        self.started = threading.Event()
        self.let_go = threading.Event()

    def get_signature_runner(self, entry):
        def runner(x):
            self.started.set()
            assert self.let_go.wait(60)
            return {"y": x}

        return runner


def test_a_second_thread_is_refused_while_the_first_is_at_work():
    spec = TensorSpec("x", "float32", (1,))
    interpreter = Waiting()
    session = TFLiteSession(
        "litert", interpreter, {"main": "entry"}, {"main": Signature((spec,), (TensorSpec("y", "float32", (1,)),))}, 1
    )
    x = np.ones(1, np.float32)
    results = []
    thread = threading.Thread(target=lambda: results.append(session.run({"x": x})))
    thread.start()
    assert interpreter.started.wait(60)
    with pytest.raises(UsageError, match=r"called from two threads at once. Open one session a thread"):
        session.run({"x": x})
    interpreter.let_go.set()
    thread.join(60)
    assert [r["y"].tolist() for r in results] == [[1.0]]
    assert session.run({"x": x})["y"].tolist() == [1.0]


def test_a_session_is_free_again_after_a_failure(changed, model):
    with open_model(model) as session:
        with pytest.raises(InputError):
            session.run({"features": FEATURES}, graph="score")
        assert session.run({"features": FEATURES, "ids": IDS}, graph="score")["scores"].shape == (1, 3)


def test_the_engine_is_for_tflite():
    assert FORMAT == "tflite"
