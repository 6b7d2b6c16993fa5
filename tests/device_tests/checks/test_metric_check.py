"""The task's metric, on a classifier whose errors are counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastserve_device_tests.checks.metric_check import FEW, METRIC, check_metric
from fastserve_device_tests.checks.subject import Subject
from fastserve_runtime.bundle.evaluation import Evaluation
from fastserve_runtime.conformance.verdict import Outcome, Verdict

SAMPLES = 200
HARDWARE = SimpleNamespace(NAME="onnx:cpu", EXECUTED_BY="hardware")
SIMULATOR = SimpleNamespace(NAME="onnx:qnn-htp", EXECUTED_BY="simulator")


class Table:
    """Gives class 0 for even ids and class 1 for odd ones, and for the first `wrong` ids the other one."""

    def __init__(self, wrong: int) -> None:
        self.wrong = wrong
        self.calls = 0
        dims = (1, 1)
        spec = SimpleNamespace(name="input_ids", dtype="int32", dims=dims, axes=("batch", "tokens"))
        self.graphs = {"main": SimpleNamespace(inputs=(spec,), outputs=())}

    def run(self, inputs: Any, *, graph: str | None = None) -> dict[str, np.ndarray]:
        self.calls += 1
        ids = inputs["input_ids"][:, 0]
        return {"logits": logits((ids % 2) ^ (ids < self.wrong))}


def logits(classes: np.ndarray) -> np.ndarray:
    """So sure of the class that another one is right once in 50,000 times."""
    return np.eye(2, dtype=np.float32)[classes.astype(int)] * 10


def verdicts_of(
    wrong: int, *, precision: str = "int8-dynamic", target: Any = HARDWARE, task: str = "text-classification"
) -> list[Verdict]:
    ids = np.arange(SAMPLES, dtype=np.int32)[:, None]
    evaluation = Evaluation({"input_ids": ids}, {"logits": logits(ids[:, 0] % 2)})
    variant: Any = SimpleNamespace(id="first", precision=precision, recipe={})
    golden: Any = None
    session: Any = Table(wrong)
    subject = Subject(task, variant, golden, session, target, evaluation)
    return list(check_metric(subject))


def test_a_model_that_does_as_the_reference_passes() -> None:
    (verdict,) = verdicts_of(0)
    assert (verdict.check, verdict.outcome, verdict.message) == (METRIC, Outcome.PASS, "")
    assert verdict.figures == {"value": 1.0, "low": 1.0, "high": 1.0, "samples": float(SAMPLES)}


def test_one_that_is_surely_below_the_rule_fails() -> None:
    (verdict,) = verdicts_of(20)
    assert verdict.outcome is Outcome.OUTPUT_MISMATCH
    assert verdict.message.startswith("expected accuracy ÷ reference's is 0.9000 (0.8")
    assert verdict.message.endswith("200 samples), at least 0.99 is wanted")


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_where_few_samples_could_be_luck_nothing_is_decided(wrong: int) -> None:
    (verdict,) = verdicts_of(wrong)
    assert verdict.outcome is Outcome.NOT_RUN
    assert "at least 0.99 is wanted: so few samples do not decide" in verdict.message


def test_four_bits_are_held_to_less_than_floats() -> None:
    assert verdicts_of(20, precision="int4")[0].outcome is Outcome.PASS
    assert verdicts_of(4, precision="int8-dynamic")[0].outcome is Outcome.NOT_RUN
    assert verdicts_of(4, precision="fp32")[0].outcome is Outcome.OUTPUT_MISMATCH


def test_what_only_a_simulator_runs_gets_few_samples() -> None:
    (verdict,) = verdicts_of(0, target=SIMULATOR)
    assert verdict.figures["samples"] == FEW


def test_a_bundle_without_samples_and_a_task_without_metric_have_no_verdict() -> None:
    assert verdicts_of(0, task="text-generation") == []
    variant: Any = SimpleNamespace(id="first", precision="fp32", recipe={})
    anything: Any = None
    assert list(check_metric(Subject("text-classification", variant, anything, anything, HARDWARE))) == []
