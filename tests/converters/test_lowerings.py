"""A lowering as its job runs it: a real program, saved as it is, with the model itself as the trusted executor."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fastserve_converters.artifact import Artifact
from fastserve_converters.formats import ExportJob
from fastserve_converters.lowerings import (
    LOWERINGS,
    Lowered,
    check_lowering_installed,
    load_lowering,
    lowering_targets,
)
from fastserve_converters.models.reference import INPUTS
from fastserve_converters.models.sources.encoder import open_source
from fastserve_converters.precisions import FP32
from fastserve_converters.worker.lowering_job import REPORT, TRUSTED_OUTPUTS
from fastserve_converters.worker.model_jobs import ModelJobs
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, Requirement
from fastserve_runtime.errors import EnvironmentFailure, UsageError

LENGTH = 12
FILE = "model.pt2"


def lower(job: ExportJob) -> Lowered:
    import torch

    torch.export.save(job.part.program, job.out / FILE)

    def trusted(sample: Any) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = job.part.module(**{name: torch.from_numpy(value) for name, value in sample.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    placed = ExpectedPlacement("npu", "chip", 3, 3)
    graphs = {"main": Graph(FILE, "forward", job.part.signature)}
    artifact = Artifact((FILE,), graphs, (), placed, Requirement("chip", "1", (), ()))
    return Lowered(artifact, trusted, "PyTorch", {"cycles": 7})


@pytest.fixture
def lowering(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A third party's lowering for `pt2:chip`."""
    module = ModuleType("chip_lowering")
    module.__dict__.update(
        TARGET="pt2:chip", FORMAT="pt2", TOOLS=("torch",), MODULES=("torch",), PRECISIONS={"fp32": FP32}, lower=lower
    )
    monkeypatch.setitem(sys.modules, "chip_lowering", module)
    entries = EntryPoints([EntryPoint("pt2-chip", "chip_lowering", LOWERINGS.group)])
    monkeypatch.setattr("fastserve_runtime.plugins.entry_points", lambda group: entries.select(group=group))
    return module


def test_lowerings_are_found_by_the_names_of_their_targets(lowering: ModuleType) -> None:
    assert "pt2:chip" in lowering_targets()
    assert load_lowering("pt2:chip") is lowering
    assert check_lowering_installed("pt2:chip") is lowering


@pytest.mark.parametrize("target", [t for t in lowering_targets() if t])
def test_a_built_in_lowering_is_what_its_name_says(target: str) -> None:
    lowering = load_lowering(target)
    assert target == lowering.TARGET
    assert lowering.PRECISIONS
    assert lowering.TOOLS
    assert lowering.MODULES


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(UsageError, match="There is no lowering 'onnx-cpu'"):
        load_lowering("onnx:cpu")


def test_what_it_needs_is_told(lowering: ModuleType) -> None:
    lowering.MODULES = ("torch", "no_such_module")  # type: ignore[attr-defined]
    with pytest.raises(EnvironmentFailure, match="compiler for pt2:chip is not installed: no_such_module") as failure:
        check_lowering_installed("pt2:chip")
    assert failure.value.remedy == "Install what brings it: torch."


@pytest.mark.usefixtures("lowering")
def test_its_job_writes_the_artifact_and_what_the_trusted_executor_gives_for_every_sample(
    tiny_bert: Path, tmp_path: Path
) -> None:
    source = {
        "path": str(tiny_bert),
        "task": "feature-extraction",
        "length": LENGTH,
        "allow_pickle": False,
        "trust_remote_code": False,
    }
    jobs = ModelJobs(open_source(source))
    rows = np.random.default_rng(0).integers(5, 700, (3, LENGTH)).astype(np.int32)
    mask = np.ones((3, LENGTH), np.float32)
    mask[1, 5:] = 0
    np.savez(tmp_path / INPUTS, input_ids=rows, attention_mask=mask)
    request = {
        "target": "pt2:chip",
        "precision": "fp32",
        "reference": str(tmp_path),
        "assignment": None,
        "range_method": "min-max",
    }
    document = jobs.handlers["lowering"](request, tmp_path)
    assert document == json.loads((tmp_path / "artifact.json").read_text())
    assert (document["files"], document["trusted_executor"], document["report"]) == ([FILE], "PyTorch", {"cycles": 7})
    assert document["recipe"]["activations"] == "float32"
    assert json.loads((tmp_path / REPORT).read_text()) == {"cycles": 7}
    with np.load(tmp_path / TRUSTED_OUTPUTS) as outputs:
        (found,) = outputs.values()
    assert found.shape == (3, 32)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5), "sentence embeddings are normalised"
    assert not np.allclose(found[0], found[1])
    with pytest.raises(UsageError, match="pt2:chip has no precision 'int8'"):
        jobs.handlers["lowering"]({**request, "precision": "int8"}, tmp_path)
