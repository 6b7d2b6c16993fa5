"""What is made for targets that nothing here executes: Vulkan's programs and Core ML's packages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastserve_converters.formats import missing_modules
from fastserve_converters.lowerings import load_lowering
from fastserve_device_tests.executors.executorch_program import read_program
from fastserve_device_tests.suite.suite import run_suite
from fastserve_device_tests.targets import COMPILE_ONLY, load_target
from fastserve_runtime.conformance.verdict import Outcome
from lowered_bundles import lowered, lowered_bundle


def needs_compiler(target: str) -> pytest.MarkDecorator:
    missing = missing_modules(load_lowering(target))
    return pytest.mark.skipif(bool(missing), reason=f"the compiler for {target} lacks {', '.join(missing)}")


@pytest.mark.slow
@needs_compiler("executorch:vulkan")
def test_a_program_for_vulkan_tells_what_was_delegated(tmp_path: Path) -> None:
    job, made = lowered("cnn", "executorch:vulkan", "fp32", tmp_path)
    (file,) = made.artifact.files
    placed = made.artifact.expected_placement
    (method,) = read_program((tmp_path / file).read_bytes()).values()
    assert method.calls_of_backends() == {"VulkanBackend": made.report["delegates"]}
    assert sum(method.kernel_calls().values()) == placed.total - placed.delegated
    assert made.report["operators"]["gpu"] == placed.delegated > 5
    assert made.report["bytes"] == (tmp_path / file).stat().st_size
    np.testing.assert_array_equal(made.trusted(sample(job.calibration))["logits"], reference(job))


@needs_compiler("coreml:all")
@pytest.mark.parametrize("precision", ["fp16"])
def test_a_package_for_core_ml_is_whole_and_tells_what_is_in_it(tmp_path: Path, precision: str) -> None:
    import coremltools

    job, made = lowered("cnn", "coreml:all", precision, tmp_path / "made")
    package = tmp_path / "made" / "model.mlpackage"
    listed = {tmp_path / "made" / name for name in made.artifact.files}
    root = json.loads((package / "Manifest.json").read_text())
    assert {package / "Data" / entry["path"] for entry in root["itemInfoEntries"].values()} <= listed | {
        path for file in listed for path in file.parents
    }
    spec = coremltools.utils.load_spec(str(package))
    (taken,), (given,) = spec.description.input, spec.description.output
    floats = coremltools.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    assert (taken.name, given.name) == ("pixels", "logits")
    assert taken.type.multiArrayType.dataType == given.type.multiArrayType.dataType == floats
    assert made.report["specification"] == spec.specificationVersion
    assert made.report["operators"]["conv"] == 2
    assert (made.report["compute_precision"], made.report["operators"]["cast"]) == ("float16", 2)

    location = lowered_bundle(tmp_path / "b.fsb", job, made, "coreml:all")
    (verdict,) = run_suite(location, ["coreml:all"])
    assert (verdict.outcome, load_target("coreml:all").EXECUTED_BY) == (Outcome.NOT_RUN, COMPILE_ONLY)


def sample(samples: object) -> dict[str, np.ndarray]:
    return {name: value[:1] for name, value in samples.items()}


def reference(job: object) -> np.ndarray:
    import torch

    with torch.no_grad():
        return job.part.module(**job.part.example)["logits"].numpy()


@pytest.mark.slow
@needs_compiler("coreml:all")
def test_the_same_model_gives_the_same_package(tmp_path: Path) -> None:
    _, first = lowered("cnn", "coreml:all", "fp32", tmp_path / "first")
    _, again = lowered("cnn", "coreml:all", "fp32", tmp_path / "again")
    assert first.artifact.files == again.artifact.files
    for name in first.artifact.files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
