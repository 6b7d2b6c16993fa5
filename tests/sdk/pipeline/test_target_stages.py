"""Lowerings: in the converter process that is there, or in one with the variables that the target needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastserve.cache.cache import Cache, Entry
from fastserve.pipeline.progress import SilentReporter
from fastserve.pipeline.stages import Stages
from fastserve.pipeline.target_stages import TargetStages
from fastserve_converters.precisions import FP32
from fastserve_device_tests.needs import Needs

LOWERING: Any = SimpleNamespace(TARGET="pt2:chip", FORMAT="pt2", TOOLS=("numpy",), PRECISIONS={"fp32": FP32})


class Process:
    """A converter process that writes down what it is asked."""

    made: list[Process] = []  # noqa: RUF012 -- emptied by the fixture

    def __init__(self, *, debug: bool = False, environment: Mapping[str, str] | None = None) -> None:
        self.environment, self.debug = dict(environment or {}), debug
        self.jobs: list[Mapping[str, Any]] = []
        self.is_closed = False
        self.made.append(self)

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        self.jobs.append(job)
        return {"files": []}

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    monkeypatch.setattr(Process, "made", [])
    monkeypatch.setattr("fastserve.pipeline.target_stages.ConverterProcess", Process)
    checkpoint = SimpleNamespace(
        files=tuple, root=tmp_path, gguf=None, truncate_dim=None, takes_pairs=False, task="feature-extraction"
    )
    device: Any = SimpleNamespace()
    return Stages(Cache(tmp_path / "cache"), Process(), device, SilentReporter(), checkpoint, 16)  # type: ignore[arg-type]


@pytest.fixture
def target_stages(stages: Stages) -> TargetStages:
    return TargetStages(stages)


def lower(stages: TargetStages, tmp_path: Path, **environment: str) -> Entry:
    entry = Entry("key", tmp_path, {}, {"inputs.npz": "0" * 64}, 0.0)
    target: Any = SimpleNamespace(needs=lambda: Needs(environment=environment))
    return stages.lowering(entry, LOWERING, target, "fp32", range_method="min-max")


def test_a_lowering_without_variables_shares_the_converter_and_is_done_once(
    stages: Stages, target_stages: TargetStages, tmp_path: Path
) -> None:
    lower(target_stages, tmp_path)
    lower(target_stages, tmp_path)
    (shared,) = Process.made
    (job,) = shared.jobs
    assert (job["job"], job["target"], job["precision"]) == ("lowering", "pt2:chip", "fp32")
    assert [(s.stage, s.cached) for s in stages.times] == [
        ("Compile fp32 for pt2:chip", False),
        ("Compile fp32 for pt2:chip", True),
    ]


def test_variables_bring_a_process_of_its_own_which_is_ended_with_the_export(
    target_stages: TargetStages, tmp_path: Path
) -> None:
    lower(target_stages, tmp_path, QNN_SDK_ROOT="/sdk")
    shared, own = Process.made
    assert shared.jobs == []
    assert (own.environment, len(own.jobs)) == ({"QNN_SDK_ROOT": "/sdk"}, 1)
    assert not own.is_closed
    target_stages.close()
    assert own.is_closed
    assert not shared.is_closed, "it belongs to the one who gave it"
    target_stages.close()
