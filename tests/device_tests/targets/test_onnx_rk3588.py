"""Rockchip's RK3588 in the simulator, where its environment has been made (`scripts/setup_rknn.sh`)."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.suite import run_suite
from fastserve_device_tests.suite.target_process import LOAD
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.golden import read_golden, write_golden
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from manifests import CHECKS, GOLDEN, MODEL, WIDTH, file_entries, text_bundle, write_directory, write_zip

NAME = "onnx:rk3588"
NEEDS: Needs = load_target(NAME).needs()
PACKAGES = ("fastserve_runtime", "fastserve_device_tests")
NUMBERS = [check for check in CHECKS if check != "placement"]
installed = pytest.mark.skipif(
    bool(NEEDS.missing()), reason="the environment of Rockchip's RKNN toolkit is missing: bash scripts/setup_rknn.sh"
)


def encoder_model() -> bytes:
    """A text encoder of one layer, in the newest operator set that the exporter writes."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(text_bundle()[1][MODEL])
    model.opset_import[0].version = 20
    random = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "scale": np.ones(WIDTH),
        "shift": np.full(WIDTH, 0.1),
        "up": random.normal(size=(WIDTH, 4 * WIDTH)),
        "down": random.normal(size=(4 * WIDTH, WIDTH)),
        "one": np.array(1.0),
        "far": np.array(50.0),
    }
    layer = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["words"]),
        helper.make_node("LayerNormalization", ["words", "scale", "shift"], ["normal"], axis=-1, epsilon=1e-5),
        helper.make_node("Transpose", ["normal"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["normal", "turned"], ["scores"]),
        helper.make_node("Sub", ["attention_mask", "one"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "far"], ["bias"]),
        helper.make_node("Unsqueeze", ["bias", "middle"], ["row"]),
        helper.make_node("Add", ["scores", "row"], ["masked_scores"]),
        helper.make_node("Softmax", ["masked_scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "normal"], ["attended"]),
        helper.make_node("MatMul", ["attended", "up"], ["wide"]),
        helper.make_node("Gelu", ["wide"], ["bent"]),
        helper.make_node("MatMul", ["bent", "down"], ["rows"]),
    ]
    rest = [n for n in model.graph.node if n.op_type != "Gather"]
    graph = helper.make_graph(
        [*layer, *rest],
        "encoder",
        model.graph.input,
        model.graph.output,
        [*model.graph.initializer, *(numpy_helper.from_array(v.astype("f"), n) for n, v in constants.items())],
    )
    content: bytes = helper.make_model(graph, opset_imports=model.opset_import, ir_version=10).SerializeToString()
    return content


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with it, whose golden is ONNX Runtime's."""
    import onnxruntime

    document, contents = text_bundle()
    golden = read_golden(contents[GOLDEN])
    session = onnxruntime.InferenceSession(encoder_model())
    rows = [session.run(None, {n: a[i : i + 1] for n, a in golden.inputs.items()})[0] for i in range(len(golden.texts))]
    outputs = {"sentence_embedding": np.concatenate(rows)}
    contents |= {MODEL: encoder_model(), GOLDEN: write_golden(replace(golden, reference=outputs, artifact=outputs))}
    document["files"] = file_entries(contents)
    return write_directory(tmp_path_factory.mktemp("rknn") / "encoder.fsb", document, contents)


def checked(verdicts: list[Verdict]) -> dict[str, Outcome]:
    return {v.check: v.outcome for v in verdicts}


def test_without_its_environment_it_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSERVE_RKNN_HOME", str(tmp_path / "none"))
    bundle = write_directory(tmp_path / "text.fsb", *text_bundle())
    verdicts = run_suite(bundle, [NAME])
    assert checked(verdicts) == {LOAD: Outcome.NOT_RUN}
    assert verdicts[0].message.endswith("RKNN toolkit is missing: bash scripts/setup_rknn.sh")


def test_its_own_packages_come_before_those_beside_fastserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSERVE_RKNN_HOME", str(tmp_path))
    needs = load_target(NAME).needs()
    first, *others = map(Path, needs.environment["PYTHONPATH"].split(os.pathsep))
    assert first.is_relative_to(tmp_path)
    assert [(folder / name).is_dir() for folder, name in zip(others, PACKAGES, strict=True)] == [True, True]
    assert needs.python == str(tmp_path / "bin" / "python")


@installed
def test_an_encoder_computes_what_it_should_in_fp16(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    verdicts = run_suite(encoder, [NAME])
    found = checked(verdicts)
    assert [found[check] for check in NUMBERS] == [Outcome.PASS] * len(NUMBERS)
    figures = {v.check: v.figures for v in verdicts}
    assert 50 < figures["executor"]["sqnr_db"] < 80  # worse than the file's own fp32: it is fp16
    # The compiler gives the lookup of the token ids to the CPU, and that is told.
    assert found["placement"] is Outcome.FELL_BACK
    assert "in CPU (Gather, Reshape)" in verdicts[-1].message
    assert figures["placement"]["found"] > 10
    assert list(tmp_path.iterdir()) == []


@installed
@pytest.mark.parametrize("output", ["last_hidden_state", "logits"])
def test_bundles_of_each_task_run_from_a_zip_file(tmp_path: Path, output: str) -> None:
    verdicts = run_suite(write_zip(tmp_path / "text.fsb", *text_bundle(output)), [NAME])
    assert [checked(verdicts)[check] for check in NUMBERS] == [Outcome.PASS] * len(NUMBERS)


@installed
def test_other_precisions_are_not_run(tmp_path: Path) -> None:
    document, contents = text_bundle()
    document["variants"][0]["precision"] = "int8-static"
    verdicts = run_suite(write_directory(tmp_path / "text.fsb", document, contents), [NAME])
    assert {v.outcome for v in verdicts} == {Outcome.NOT_RUN}
    assert verdicts[0].message == "it takes fp32, not int8-static"


def bundle_of(tmp_path: Path, content: bytes) -> Path:
    document, contents = text_bundle()
    contents |= {MODEL: content}
    document["files"] = file_entries(contents)
    return write_directory(tmp_path / "text.fsb", document, contents)


def model_of_any_length() -> bytes:
    import onnx

    model = onnx.load_from_string(text_bundle()[1][MODEL])
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[1].dim_param = "length"
    return model.SerializeToString()


def model_for_onnx_runtime() -> bytes:
    import onnx

    model = onnx.load_from_string(text_bundle()[1][MODEL])
    model.graph.node[0].domain = "com.microsoft"
    return model.SerializeToString()


@installed
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no model", "cannot be read"),
        (model_of_any_length(), "cannot compile the model for rk3588: "),
        (model_for_onnx_runtime(), "lacks: com.microsoft.Gather."),
    ],
)
def test_a_model_that_cannot_be_compiled_is_a_failed_load(tmp_path: Path, content: bytes, message: str) -> None:
    verdicts = run_suite(bundle_of(tmp_path, content), [NAME])
    assert checked(verdicts) == {LOAD: Outcome.LOAD_FAILED}
    assert message in verdicts[0].message
    assert "\n" not in verdicts[0].message


COMPARE = """
import json, sys
import numpy as np, onnx, onnxruntime
from fastserve_device_tests.compilers.onnx_opset import lower_opset
model = onnx.load(sys.argv[1])
lowered = lower_opset(model, 19)
onnx.checker.check_model(lowered, full_check=True)
golden = np.load(sys.argv[2])
names = [i.name for i in model.graph.input]
worst = []
options = onnxruntime.SessionOptions()  # as the operators stand: fused, they would be a Gelu again
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
sessions = [onnxruntime.InferenceSession(m.SerializeToString(), options) for m in (model, lowered)]
for row in range(len(golden["inputs/input_ids"])):
    inputs = {n: golden["inputs/" + n][row : row + 1] for n in names}
    first, second = (s.run(None, inputs)[0] for s in sessions)
    worst.append(float(np.abs(first - second).max() / np.abs(first).max()))
versions = [m.opset_import[0].version for m in (model, lowered)]
print(json.dumps({"versions": versions, "worst": max(worst), "gelus": [sum(n.op_type == "Gelu" for n in m.graph.node)
    for m in (model, lowered)], "library": onnx.__version__}))
"""


@installed
def test_the_older_operator_set_gives_the_same_there(encoder: Path) -> None:
    """With the environment's own onnx and ONNX Runtime, which are older than FastServe's."""
    command = [NEEDS.python, "-c", COMPARE, str(encoder / MODEL), str(encoder / GOLDEN)]
    result = subprocess.run(command, env={**os.environ, **NEEDS.environment}, capture_output=True, check=True)
    told: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert told["library"] == "1.18.0"
    assert told["versions"] == [20, 19]
    assert told["gelus"] == [1, 0]
    assert told["worst"] < 1e-5
