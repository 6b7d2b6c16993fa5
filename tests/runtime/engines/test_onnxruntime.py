import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper, save_model

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.bundle.signatures import check_stated, parse_signature
from fastserve_runtime.bundle.tensor_specs import SymbolicDim, TensorSpec
from fastserve_runtime.errors import BundleError, EnvironmentFailure, InputError
from fastserve_runtime.loading import open_model
from fastserve_runtime.parsing import Fields
from fastserve_runtime.pipelines.feature_extraction import SENTENCE_EMBEDDING
from fastserve_runtime.variants import choose_variant, open_variant
from manifests import (
    LENGTH,
    TOKENIZER,
    file_entries,
    tensor,
    text_bundle,
    text_model,
    variant,
    write_directory,
    write_zip,
)


@pytest.fixture
def opened(tmp_path):
    """Save and open a model of one node from `x` to `y`."""
    sessions = []

    def opened(operator, dtype, dims, *, constants=(), opset=17, output_dims=None, **attributes):
        inputs = ["x", *(c.name for c in constants)]
        graph = helper.make_graph(
            [helper.make_node(operator, inputs, ["y"], **attributes)],
            "graph",
            [helper.make_tensor_value_info("x", dtype, dims)],
            [helper.make_tensor_value_info("y", dtype, dims if output_dims is None else output_dims)],
            list(constants),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        sessions.append(open_model(tmp_path / "model.onnx"))
        return sessions[-1]

    yield opened
    for session in sessions:
        session.close()


def test_named_dimensions_become_symbols_and_take_any_size(opened):
    session = opened("Identity", TensorProto.FLOAT, ["batch", 3])
    largest = 2**31 - 1
    assert session.graphs["main"].inputs == (TensorSpec("x", "float32", (SymbolicDim("batch", 0, largest), 3)),)
    for size in (0, 1, 5):
        assert session.run({"x": np.ones((size, 3), np.float32)})["y"].shape == (size, 3)
    with pytest.raises(InputError, match=r"shape \[2, 4\]; the model takes \[batch 0..2147483647, 3\]"):
        session.run({"x": np.ones((2, 4), np.float32)})


def test_dimensions_without_a_name_get_one(opened):
    dims = opened("Identity", TensorProto.FLOAT, [None, 2]).graphs["main"].inputs[0].dims
    assert dims == (SymbolicDim("x_0", 0, 2**31 - 1), 2)


def test_a_scalar_is_given_as_one(opened):
    session = opened("Neg", TensorProto.FLOAT, [])
    assert session.graphs["main"].inputs[0].dims == ()
    outputs = session.run({"x": np.float32(2)})
    assert outputs["y"].shape == ()
    assert outputs["y"] == -2


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "float16", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"],
)
def test_every_type_of_numbers_keeps_its_name(opened, dtype):
    session = opened("Identity", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [3])
    assert session.graphs["main"].inputs[0].dtype == dtype
    given = np.array([0, 1, 1], dtype)
    result = session.run({"x": given})["y"]
    assert result.dtype == given.dtype
    np.testing.assert_array_equal(result, given)


def test_texts_as_inputs_are_refused(opened):
    session = opened("Identity", TensorProto.STRING, [2])
    with pytest.raises(InputError, match=r"of the type tensor\(string\), which numpy does not have"):
        session.run({"x": np.array(["a", "b"])})


def test_an_error_inside_the_model_is_a_failure_of_the_engine(opened):
    table = numpy_helper.from_array(np.arange(3), "table")
    # Gather takes the table first; the table is the input here.
    session = opened("Gather", TensorProto.INT64, [3], constants=[numpy_helper.from_array(np.array([7]), "i")])
    with pytest.raises(EnvironmentFailure, match=r"onnxruntime failed while running: .*idx=7") as caught:
        session.run({"x": numpy_helper.to_array(table)})
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("changes", [{"operator": "Unheard"}, {"opset": 9999}, {"axis": "text"}])
def test_a_model_that_onnx_runtime_does_not_know_is_a_bundle_error(opened, changes):
    arguments = {"operator": "Softmax", "dtype": TensorProto.FLOAT, "dims": [2]} | changes
    with pytest.raises(BundleError, match=r"^ONNX Runtime [\d.]+ cannot load the model: .*[^.]\.$") as caught:
        opened(**arguments)
    assert "\n" not in str(caught.value)


def test_everything_runs_on_the_processor(opened):
    placement = opened("Neg", TensorProto.FLOAT, [1]).placement()
    assert placement.operators is None
    assert placement.source == "registered execution providers: CPUExecutionProvider"


def test_one_session_serves_several_threads_at_once(tmp_path):
    (tmp_path / "model.onnx").write_bytes(text_model())
    mask = np.ones((1, 8), np.float32)
    with open_model(tmp_path / "model.onnx") as session, ThreadPoolExecutor(4) as pool:

        def run(token):
            return session.run({"input_ids": np.full((1, 8), token), "attention_mask": mask})["sentence_embedding"]

        alone = [run(token) for token in range(10)]
        together = list(pool.map(run, [token for token in range(10) for _ in range(20)]))
    for i, result in enumerate(together):
        np.testing.assert_array_equal(result, alone[i // 20])


def test_a_model_opens_the_same_when_debugging(opened, caplog):
    with caplog.at_level(logging.DEBUG, "fastserve_runtime.engines.onnxruntime"):
        assert opened("Neg", TensorProto.FLOAT, [1]).run({"x": np.ones(1, np.float32)})["y"] == -1


def test_weights_in_a_file_of_their_own_are_found_in_a_directory_and_refused_in_a_zip_file(tmp_path):
    """A bundle whose ONNX model keeps its weights beside it."""
    weights = np.arange(3 * LENGTH, dtype=np.float32).reshape(LENGTH, 3)
    initializer = numpy_helper.from_array(weights, "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["attention_mask", "weights"], [SENTENCE_EMBEDDING])],
        "graph",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT32, [1, LENGTH]),
            helper.make_tensor_value_info("attention_mask", TensorProto.FLOAT, [1, LENGTH]),
        ],
        [helper.make_tensor_value_info(SENTENCE_EMBEDDING, TensorProto.FLOAT, [1, 3])],
        [initializer],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    external_data_helper.convert_model_to_external_data(model, location="model.onnx.data", size_threshold=0)
    save_model(model, str(tmp_path / "model.onnx"))
    contents = {f"variants/first/{n}": (tmp_path / n).read_bytes() for n in ("model.onnx", "model.onnx.data")}
    assert len(contents["variants/first/model.onnx.data"]) == weights.nbytes
    graphs = {
        "main": {
            "file": "variants/first/model.onnx",
            "entry": "main",
            "inputs": [tensor("input_ids", "int32", 1, LENGTH), tensor("attention_mask", "float32", 1, LENGTH)],
            "outputs": [tensor(SENTENCE_EMBEDDING, "float32", 1, 3)],
        }
    }
    document, rest = text_bundle()
    document["variants"] = [variant(files=list(contents), golden=None, graphs=graphs)]
    contents = {name: content for name, content in rest.items() if name == TOKENIZER} | contents
    document["files"] = file_entries(contents)
    inputs = {"input_ids": np.zeros((1, LENGTH), np.int32), "attention_mask": np.ones((1, LENGTH), np.float32)}
    with open_bundle(write_directory(tmp_path / "b.fsb", document, contents)) as bundle:
        chosen, engine = choose_variant(bundle)
        with open_variant(bundle, chosen, engine) as session:
            np.testing.assert_allclose(session.run(inputs)[SENTENCE_EMBEDDING], inputs["attention_mask"] @ weights)
    with (
        open_bundle(write_zip(tmp_path / "b.fsb.zip", document, contents)) as bundle,
        pytest.raises(EnvironmentFailure, match=r"weights in a file of their own.*Unpack the bundle"),
    ):
        open_variant(bundle, *choose_variant(bundle))


def test_a_manifest_that_leaves_out_an_input_of_the_model_is_refused():
    named = (tensor("input_ids", "int32", 1, LENGTH), tensor("attention_mask", "float32", 1, LENGTH))
    whole = parse_signature(Fields({"inputs": list(named), "outputs": []}, "main"))
    less = parse_signature(Fields({"inputs": [named[0]], "outputs": []}, "main"))
    check_stated(whole, whole)
    with pytest.raises(BundleError, match="leaves out the input 'attention_mask', which the model has"):
        check_stated(less, whole)
