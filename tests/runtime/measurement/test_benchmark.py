import json

import pytest

from fastserve_runtime.bundle.golden import read_golden, write_golden
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.measurement.benchmark import benchmark_document, benchmarked
from fastserve_runtime.measurement.thermal import ThermalReading
from manifests import GOLDEN, MODEL, file_entries, text_bundle, write_directory, write_zip

SHORT = {"min_seconds": 0.0, "max_seconds": 0.2}


@pytest.fixture
def bundle_of(tmp_path):
    """Write a bundle of text after changes to its manifest and files, as a directory or as a zip file."""

    def bundle_of(manifest=None, write=write_directory, **files):
        document, contents = text_bundle()
        contents |= {{"golden": GOLDEN, "model": MODEL}[name]: content for name, content in files.items()}
        document["files"] = file_entries(contents)
        if manifest:
            manifest(document)
        return open_bundle(write(tmp_path / "text.fsb", document, contents))

    return bundle_of


def without_golden(document):
    document["variants"][0]["golden"] = None


@pytest.mark.parametrize("write", [write_directory, write_zip])
def test_a_variant_is_measured_on_its_realistic_golden_texts(bundle_of, write):
    bundle = bundle_of(write=write)
    started = []
    with benchmarked(bundle, on_start=started.append, **SHORT) as benchmark:
        document = json.loads(json.dumps(benchmark_document(bundle, benchmark, None), allow_nan=False))
    assert document["variant"] == "first"
    assert document["digest"] == bundle.manifest.digest
    assert document["inputs"] == {"source": "golden", "samples": 2}
    assert document["sustained"] is None
    measurement = document["measurement"]
    assert measurement["engine"] == "onnxruntime"
    assert measurement["items_per_second"] == pytest.approx(1 / measurement["latency"]["mean"])
    assert measurement["load_seconds"] > 0
    assert measurement["first_inference_seconds"] > 0
    assert measurement["import_seconds"] > 0
    assert len(started) == 1
    assert "first with onnxruntime" in started[0]


def test_a_golden_of_degenerate_texts_alone_is_measured_all_the_same(bundle_of):
    golden = read_golden(text_bundle()[1][GOLDEN])
    golden.realistic[:] = False
    with benchmarked(bundle_of(golden=write_golden(golden)), **SHORT) as benchmark:
        assert benchmark.samples == 3


def test_the_model_can_be_kept_running(bundle_of):
    bundle = bundle_of()
    seen = []
    with benchmarked(bundle, **SHORT) as benchmark:
        run = benchmark.sustain(0.2, read=lambda: ThermalReading(temperature_celsius=50.0), on_window=seen.append)
        document = benchmark_document(bundle, benchmark, run)
    sustained = json.loads(json.dumps(document, allow_nan=False))["sustained"]
    assert sustained["asked_seconds"] == 0.2
    assert sustained["interrupted"] is False
    assert sustained["judgement"]["pace"] == "too short to tell"
    assert len(sustained["windows"]) == len(seen) == 1
    assert sustained["windows"][0]["temperature_celsius"] == 50
    assert sustained["windows"][0]["items"] > 10
    assert set(sustained["not_shown"]) == {k for k, v in sustained["before"].items() if v is None}


def test_a_variant_without_golden_is_refused_with_what_to_do(bundle_of):
    with (
        pytest.raises(UsageError, match=r"no golden for variant 'first'.*Export the bundle again"),
        benchmarked(bundle_of(without_golden)),
    ):
        pass


def test_a_damaged_model_is_refused_before_it_is_measured(bundle_of):
    bundle = bundle_of()
    file = bundle.location / MODEL
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(BundleError, match="altered or damaged"), benchmarked(bundle):
        pass


def test_a_model_that_the_engine_refuses_is_told(bundle_of):
    with pytest.raises(BundleError, match="cannot load the model"), benchmarked(bundle_of(model=b"no model")):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": 0}, "0 threads"),
        ({"variant": "third"}, "no variant 'third'"),
        ({"engine": "litert"}, "executes tflite"),
        ({"engine": "magic"}, "no engine 'magic'"),
    ],
)
def test_what_cannot_be_measured_is_named(bundle_of, arguments, message):
    with pytest.raises(UsageError, match=message), benchmarked(bundle_of(), **arguments):
        pass


def test_an_engine_that_is_too_old_is_told(bundle_of):
    def in_the_future(document):
        document["variants"][0]["requires"]["min_version"] = "999"

    with pytest.raises(EnvironmentFailure, match="needs onnxruntime 999"), benchmarked(bundle_of(in_the_future)):
        pass
