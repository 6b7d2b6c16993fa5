import errno
import json
from pathlib import Path

import numpy as np
import pytest

from fastserve_runtime.bundle.manifest import parse_manifest
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.measurement.latency import summarize
from fastserve_runtime.measurement.machine import this_machine
from fastserve_runtime.measurement.measurement import measurement_document, parse_measurement
from fastserve_runtime.measurement.measuring import (
    answer,
    import_seconds,
    measure,
    measured_first_token,
    measured_model,
)
from fastserve_runtime.processes.child import Child, Program
from fastserve_runtime.sessions.workload import FirstTokenCall
from manifests import MODEL, expected_embeddings, text_model, token_ids, valid_manifest, variant

TEXTS = ["a b", "c", "d e f", "a"]


@pytest.fixture
def request_of(tmp_path):
    """Write a model and its inputs and return the request to measure them in a moment."""

    def request_of(**changes):
        ids = np.array([token_ids(text) for text in TEXTS], np.int32)
        (tmp_path / "model.onnx").write_bytes(text_model())
        np.savez(tmp_path / "inputs.npz", input_ids=ids, attention_mask=(ids != 0).astype(np.float32))
        return {
            "task": "feature-extraction",
            "model": str(tmp_path / "model.onnx"),
            "graphs": variant()["graphs"],
            "inputs": str(tmp_path / "inputs.npz"),
            "outputs": str(tmp_path / "outputs.npz"),
            "result": str(tmp_path / "result.json"),
            "format": "onnx",
            "engine": None,
            "threads": 1,
            "timed_samples": 2,
            "max_seconds": 0.02,
            **changes,
        }

    return request_of


def written(tmp_path, request):
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    return str(file)


def test_a_measurement_tells_machine_engine_memory_latency_and_placement(request_of):
    result = measure(request_of())
    assert result.machine == this_machine()
    assert (result.engine, result.threads, result.status) == ("onnxruntime", 1, "measured")
    assert result.engine_version[0].isdigit()
    assert result.load_seconds > 0
    assert result.first_inference_seconds > 0
    assert result.import_seconds > 0
    assert result.items_per_second == pytest.approx(1 / result.latency.mean)
    assert result.latency.queries >= 1
    assert result.latency.minimum <= result.latency.mean <= result.latency.maximum
    assert result.sample_latency.samples == len(TEXTS)
    assert "CPUExecutionProvider" in result.placement.source
    document = json.loads(json.dumps(measurement_document(result), allow_nan=False))
    assert parse_measurement(document) == result


@pytest.mark.parametrize("timed", [0, 1, 3, 100])
def test_every_sample_is_run_however_many_are_timed(request_of, timed):
    request = request_of(timed_samples=timed)
    measure(request)
    with np.load(request["outputs"]) as outputs:
        assert outputs.files == ["sentence_embedding"]
        np.testing.assert_allclose(outputs["sentence_embedding"], expected_embeddings(TEXTS), rtol=1e-6)


def test_inputs_that_the_model_does_not_take_are_left_out(request_of):
    request = request_of()
    with np.load(request["inputs"]) as file:
        np.savez(request["inputs"], extra=np.ones((9, 2)), **file)
    measure(request)
    with np.load(request["outputs"]) as outputs:
        assert len(outputs["sentence_embedding"]) == len(TEXTS)


def test_the_named_engine_is_used(request_of):
    assert measure(request_of(engine="onnxruntime")).engine == "onnxruntime"
    with pytest.raises(UsageError, match="executes tflite, not onnx"):
        measure(request_of(engine="litert"))


def test_a_graph_that_is_not_described_whole_is_refused(request_of):
    graphs = {"main": {"file": MODEL, "entry": "main", "inputs": []}}
    with pytest.raises(BundleError, match="main has no field 'outputs'"):
        measure(request_of(graphs=graphs))


def test_a_measured_model_stays_open_inside_the_block(request_of):
    request = request_of()
    with np.load(request["inputs"]) as file:
        inputs = dict(file)
    graphs = parse_manifest({**valid_manifest(), "variants": [variant()]}).variants[0].graphs
    engine = installed_engine("onnx")
    with measured_model(
        request["task"], engine, Path(request["model"]), graphs, inputs, threads=1, max_seconds=0.02
    ) as measured:
        measured.workload.run(5)
        assert measured.measurement.sample_latency is None
    with pytest.raises(UsageError, match="closed"):
        measured.workload.run(0)


def test_the_import_of_an_engine_is_timed_once():
    class Engine:
        NAME = "an engine of this test"
        imports = 0

        def import_library(self):
            self.imports += 1

    engine = Engine()
    assert import_seconds(engine) == import_seconds(engine) >= 0
    assert engine.imports == 1


def test_the_answer_is_the_measurement(request_of):
    fields, arrays = answer(request_of(), {})
    assert (list(fields), arrays) == (["measurement"], {})
    assert fields["measurement"]["engine"] == "onnxruntime"


def test_a_full_disk_is_answered_as_such(request_of, monkeypatch):
    def full(*_arguments, **_arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    request = request_of()
    monkeypatch.setattr(np, "savez", full)
    assert answer(request, {}) == ({"is_disk_full": True}, {})


def test_a_model_that_cannot_be_loaded_is_a_failure(request_of, tmp_path):
    request = request_of()
    (tmp_path / "model.onnx").write_bytes(b"this is no model")
    with pytest.raises(BundleError, match="cannot load the model"):
        answer(request, {})


def test_a_process_of_its_own_has_the_runtime_alone(request_of):
    with Child(Program("fastserve_runtime.measurement.measuring")) as child:
        measurement = child.ask(request_of())[0]["measurement"]
    assert measurement["brings_pytorch"] is False


def test_the_time_to_the_first_token_is_given_more_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, float]] = []

    def measure(call, **limits):
        seen.append(limits)
        return summarize([0.5] * 70)

    monkeypatch.setattr("fastserve_runtime.measurement.measuring.measure_latency", measure)
    first = measured_first_token(FirstTokenCall(4, print), 2.0, 10.0)
    assert seen == [{"min_seconds": 2.0, "max_seconds": 20.0}]
    assert (first.prompt_tokens, first.latency.p90, first.latency.is_trustworthy) == (4, 0.5, True)
