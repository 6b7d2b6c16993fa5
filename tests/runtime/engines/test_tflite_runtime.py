"""tflite-runtime 2.14.0, which needs numpy below 2, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fastserve_runtime.bundle.manifest import OperatorCount, Variant, parse_manifest
from fastserve_runtime.engines import tflite_runtime
from manifests import valid_manifest

ROOT = Path(__file__).parents[3]

RUN = """
import json, sys
import numpy as np
from fastserve_runtime import open_model
with open_model(sys.argv[1], threads=2) as session:
    inputs = {"features": np.array([[1, -2, 0.5, 3]], np.float32), "ids": np.array([[4, 5]], np.int64)}
    session.warm_up()
    outputs = session.run(inputs, graph="score")
    binding = session.bind({"features": inputs["features"]}, graph="score")
    binding.inputs["ids"][:] = inputs["ids"]
    bound = {name: value.tolist() for name, value in binding.run().items()}
    print(json.dumps({
        "engine": session.engine,
        "outputs": {name: value.tolist() for name, value in outputs.items()},
        "bound": bound,
        "placement": dict(session.placement().operators),
        "graphs": list(session.graphs),
    }))
"""

PROBE = """
import json, sys
from pathlib import Path
from tflite_runtime.interpreter import Interpreter
loaded = {}
for file in sorted(Path(sys.argv[1]).iterdir()):
    try:
        Interpreter(model_path=str(file))
        loaded[file.name] = True
    except ValueError as error:
        loaded[file.name] = "Didn't find op" not in str(error)
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with tflite-runtime and a numpy that it takes."""
    folder = tmp_path_factory.mktemp("tflite-runtime")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    found = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", found, "install", "-q", "--no-compile", "--only-binary=:all:"]
    done = subprocess.run([*install, "tflite-runtime==2.14.0", "numpy<2"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"tflite-runtime 2.14.0 cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return found


def answer(python: Path, script: str, argument: Path) -> dict[str, object]:
    command = [python, "-c", script, argument]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtimes")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_it_stands_in_for_litert_and_computes_the_same(python: Path, score_models: Path, scores) -> None:
    found = answer(python, RUN, score_models / "model.tflite")
    assert found["engine"] == "tflite-runtime"
    assert found["graphs"] == ["score", "twice"]
    expected = scores(np.array([[1, -2, 0.5, 3]], np.float32), np.array([[4, 5]], np.int32))
    for outputs in (found["outputs"], found["bound"]):
        for name, value in expected.items():
            np.testing.assert_allclose(outputs[name], value, rtol=1e-5)
    assert sum(found["placement"].values()) == 5


def of_operators(*operators: OperatorCount, precision: str = "fp32") -> Variant:
    return replace(parse_manifest(valid_manifest()).variants[0], operators=operators, precision=precision)


def one_operator(number: int, version: int) -> bytes:
    """Return a model of one operator without tensors: loading it shows whether the operator is known."""
    model = schema.ModelT()
    model.version = 3
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs = [], [], []
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [], []
    graph.operators = [operator]
    model.operatorCodes, model.subgraphs, model.buffers = [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_the_operators_it_is_said_to_have_are_those_that_it_has(python: Path, tmp_path: Path) -> None:
    numbers = {n: v for n, v in vars(schema.BuiltinOperator).items() if not n.startswith("_") and v < 162}
    said = {}
    for name in sorted(numbers.keys() - {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}):
        for version in range(1, 12):
            (tmp_path / f"{name}.{version}").write_bytes(one_operator(numbers[name], version))
            said[f"{name}.{version}"] = not tflite_runtime.lacking(
                of_operators(OperatorCount("tflite", name, version, 1))
            )
    has = answer(python, PROBE, tmp_path)
    assert {name for name in has if has[name] != said[name]} == {"BROADCAST_TO.1"}  # which no converter writes
    assert sum(said.values()) > 300


def test_custom_and_later_operators_are_missing() -> None:
    operators = [
        OperatorCount("custom", "odml.rms_norm", 1, 2),
        OperatorCount("tflite", "STABLEHLO_ADD", 1, 1),
        OperatorCount("tflite", "ADD", 5, 1),
        OperatorCount("tflite", "ADD", 6, 1),
    ]
    missing = ["odml.rms_norm version 1", "STABLEHLO_ADD version 1", "ADD version 6"]
    assert tflite_runtime.lacking(of_operators(*operators)) == missing


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of a linear layer and a convolution in dynamic int8, whose channels differ much in scale."""
    import litert_torch
    import torch
    from ai_edge_quantizer import quantizer, recipe

    folder = tmp_path_factory.mktemp("quantized")
    torch.manual_seed(0)
    linear, convolution = torch.nn.Linear(64, 64), torch.nn.Conv2d(8, 16, 3)
    for module, sample in ((linear, torch.randn(1, 64)), (convolution, torch.randn(1, 8, 10, 10))):
        module.weight.data *= torch.linspace(0.1, 10, len(module.weight)).reshape(-1, *[1] * (module.weight.ndim - 1))
        name = type(module).__name__
        litert_torch.convert(module.eval(), (sample,)).export(str(folder / "plain.tflite"))
        tool = quantizer.Quantizer(str(folder / "plain.tflite"))
        tool.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        tool.quantize().export_model(str(folder / f"{name}.tflite"))
        np.savez(folder / f"{name}.npz", x=sample.numpy(), y=module(sample).detach().numpy())
    return folder


QUANTIZED = """
import json, sys
from pathlib import Path
import numpy as np
from fastserve_runtime import BundleError, open_model
found = {}
for name in ("Linear", "Conv2d"):
    arrays = np.load(Path(sys.argv[1], f"{name}.npz"))
    try:
        with open_model(Path(sys.argv[1], f"{name}.tflite")) as session:
            ((graph, signature),) = session.graphs.items()
            (output,) = session.run({signature.inputs[0].name: arrays["x"]}).values()
            found[name] = float(np.abs(output - arrays["y"]).max() / np.abs(arrays["y"]).max())
    except BundleError as error:
        found[name] = error.problem
print(json.dumps(found))
"""


def test_models_that_it_would_compute_wrongly_are_refused_and_others_are_right(python: Path, quantized: Path) -> None:
    """2.14.0 loads a linear layer with a scale for each channel, and takes the first scale for all."""
    found = answer(python, QUANTIZED, quantized)
    assert found["Linear"] == (
        "tflite-runtime 2.14.0 would compute wrong numbers: the model's FULLY_CONNECTED has int8 weights with a scale "
        "for each channel beside float activations."
    )
    assert found["Conv2d"] < 0.02


def test_dynamic_int8_of_an_encoder_is_known_to_be_wrong_before_it_is_loaded() -> None:
    operators = OperatorCount("tflite", "FULLY_CONNECTED", 5, 36), OperatorCount("tflite", "ADD", 1, 3)
    assert tflite_runtime.lacking(of_operators(*operators)) == []
    assert tflite_runtime.lacking(of_operators(*operators, precision="int8-dynamic")) == [
        "int8 weights with a scale for each channel beside float activations"
    ]
    assert tflite_runtime.lacking(of_operators(operators[1], precision="int8-dynamic")) == []


def test_where_it_is_not_installed_it_says_what_to_install() -> None:
    assert tflite_runtime.version() is None
    assert "numpy<2" in tflite_runtime.INSTALL
