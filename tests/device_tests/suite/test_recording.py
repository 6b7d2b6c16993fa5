"""Recording what is inside a file: further outputs of real engines, and what happens where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastserve_device_tests.intermediates import Output
from fastserve_device_tests.intermediates import onnx as onnx_inside
from fastserve_device_tests.intermediates import tflite as tflite_inside
from fastserve_device_tests.suite.recording import Run, record
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.golden import read_golden
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.recorded_samples import sample_files
from fastserve_runtime.errors import BundleError
from manifests import GOLDEN, text_bundle, write_directory
from tflite_bundles import SIGNATURE, int8_end, text_model, tflite_bundle


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    golden = read_golden(text_bundle()[1][GOLDEN])
    place = tmp_path / "samples.npz"
    np.savez(place, **golden.inputs)  # type: ignore[arg-type]
    return place


def arrays(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def test_tensors_of_an_onnx_file_are_recorded_beside_its_output(tmp_path: Path, samples: Path) -> None:
    import onnx

    bundle = write_directory(tmp_path / "text.fsb", *text_bundle())
    with open_bundle(bundle) as opened:
        (file,) = opened.manifest.variants[0].files
    nodes = onnx.load(str(bundle / file)).graph.node
    inner = [name for node in nodes[:-1] for name in node.output]
    runs = [Run("plain"), Run("inside", (*inner, "no such tensor")), Run("few", (), only=(1,))]
    plain, inside, few = record(bundle, "first", load_target("onnx:cpu"), samples, runs, tmp_path / "out")
    assert [r.failure for r in (plain, inside, few)] == ["", "", ""]
    assert list(inside.tensors.values()) == inner
    assert inside.peak is None or inside.peak > 10_000_000
    count = len(np.load(samples)["input_ids"])
    assert list(sample_files(inside.folder)) == list(range(count))
    assert list(sample_files(few.folder)) == [1]
    for number, file_ in sample_files(inside.folder).items():
        found, alone = arrays(file_), arrays(sample_files(plain.folder)[number])
        np.testing.assert_array_equal(found["output/sentence_embedding"], alone["output/sentence_embedding"])
        assert {f"tensor/{n}" for n in inside.tensors} <= found.keys()
        assert found["tensor/0"].dtype == np.float32
        assert found["input/input_ids"].shape[0] == 1


def test_integers_of_a_tflite_file_are_recorded_as_the_numbers_they_stand_for(tmp_path: Path, samples: Path) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    content = text_model(int8_end)
    bundle = tflite_bundle(tmp_path / "text.fsb", content)
    (graph,) = flatbuffer_utils.read_model_from_bytearray(bytearray(content)).subgraphs
    kinds = {op.outputs[0]: graph.tensors[op.outputs[0]].name.decode() for op in graph.operators}
    total = next(name for name in kinds.values() if name.startswith("sum"))
    rounded = next(name for name in kinds.values() if name.startswith("quantize"))
    (inside,) = record(
        bundle, "first", load_target("tflite:xnnpack"), samples, [Run("in", (total, rounded))], tmp_path / "out"
    )
    assert inside.failure == ""
    for file in sample_files(inside.folder).values():
        found = arrays(file)
        np.testing.assert_allclose(found["tensor/1"], found["tensor/0"], atol=8 / 127)
        assert not np.array_equal(found["tensor/1"], found["tensor/0"])


def test_a_file_that_the_engine_refuses_is_a_failure_of_its_run_alone(tmp_path: Path, samples: Path) -> None:
    bundle = write_directory(tmp_path / "text.fsb", *text_bundle())
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing of the kind")
    runs = [Run("broken", model=broken), Run("whole")]
    first, second = record(bundle, "first", load_target("onnx:cpu"), samples, runs, tmp_path / "out")
    assert "cannot load the model" in first.failure
    assert not second.failure


def test_integers_without_a_scale_stand_for_themselves() -> None:
    np.testing.assert_array_equal(Output("x", "int32").real(np.array([3, 4])), np.array([3, 4], np.float32))
    np.testing.assert_array_equal(Output("x", "int8", 0.5, 2).real(np.array([3, 4])), np.array([0.5, 1.0], np.float32))


def test_a_file_of_which_nothing_is_wanted_is_not_touched() -> None:
    content = memoryview(text_model())
    assert tflite_inside.instrumented(content, SIGNATURE, ()).model is content
    assert onnx_inside.instrumented(content, "main", ()).model is content


def test_a_signature_that_is_not_there_is_an_error() -> None:
    with pytest.raises(BundleError, match="no signature 'other'"):
        tflite_inside.instrumented(memoryview(text_model()), "other", ("x",))
