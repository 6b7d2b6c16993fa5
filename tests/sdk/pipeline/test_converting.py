"""Jobs of the converter process: in the one that is there, or in one with the variables that a target needs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastserve.cache.cache import Cache
from fastserve.cache.records import Entry
from fastserve.pipeline.steps import ModelSteps
from fastserve.pipeline.workshop import Workshop
from fastserve_converters.precisions import FP32
from fastserve_converters.recipe import Recipe
from fastserve_device_tests.needs import Needs

LOWERING: Any = SimpleNamespace(
    TARGET="pt2:chip", FORMAT="pt2", TOOLS=("numpy",), PRECISIONS={"fp32": FP32}, __module__=__name__
)
MADE = {"reference": Entry("key", Path("/nowhere"), {}, {"inputs.npz": "0" * 64, "calibration.npz": "1" * 64}, 0.0)}


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


class Nothing:
    """A subject without files."""

    task = "feature-extraction"
    inputs = "tokenizer"

    def key(self) -> dict[str, Any]:
        return {"model": "none"}

    def lent(self, _: object) -> nullcontext[dict[str, Any]]:
        return nullcontext({"path": "/nowhere"})


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setattr(Process, "made", [])
    monkeypatch.setattr("fastserve.pipeline.workshop.ConverterProcess", Process)
    device: Any = None
    return Workshop(Cache(tmp_path / "cache"), device)


def lower(workshop: Workshop, out: Path, **environment: str) -> None:
    target: Any = SimpleNamespace(needs=lambda: Needs(environment=environment))
    subject: Any = Nothing()
    step = ModelSteps(subject).lowering(Recipe("pt2:chip", "fp32"), LOWERING, target)
    assert step.title == "Compile fp32 for pt2:chip"
    key = step.work.key(MADE)
    assert key["reads"] == {"reference": {"inputs.npz": "0" * 64}}
    assert key["job"]["target"] == "pt2:chip"
    step.work.do(MADE, out, workshop)


def test_a_lowering_without_variables_shares_the_converter(workshop: Workshop, tmp_path: Path) -> None:
    lower(workshop, tmp_path)
    lower(workshop, tmp_path)
    (shared,) = Process.made
    assert shared is workshop.converter()
    job = shared.jobs[0]
    assert (job["job"], job["target"], job["precision"]) == ("lowering", "pt2:chip", "fp32")
    assert job["source"] == {"path": "/nowhere"}


def test_variables_bring_a_process_of_its_own_which_is_ended_with_the_others(
    workshop: Workshop, tmp_path: Path
) -> None:
    lower(workshop, tmp_path)
    lower(workshop, tmp_path, QNN_SDK_ROOT="/sdk")
    shared, own = Process.made
    assert (own.environment, len(own.jobs), len(shared.jobs)) == ({"QNN_SDK_ROOT": "/sdk"}, 1, 1)
    assert not own.is_closed
    workshop.close()
    assert own.is_closed
    assert shared.is_closed
    workshop.close()
