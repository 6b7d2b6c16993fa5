"""What each check finds, on a model made of numpy whose faults are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastserve_device_tests.checks.model_checks import (
    all_checks,
    check_batch,
    check_determinism,
    check_padding,
    check_placement,
    check_repeated_calls,
)
from fastserve_device_tests.checks.subject import Subject
from fastserve_runtime.bundle.golden import read_golden
from fastserve_runtime.bundle.manifest import ExpectedPlacement, OperatorCount, parse_manifest
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim
from fastserve_runtime.conformance.verdict import EXECUTOR, QUALITY, Outcome, Verdict
from fastserve_runtime.sessions.batching import run_samples
from fastserve_runtime.sessions.session import Placement
from manifests import CHECKS, GOLDEN, text_bundle, word_vectors

Arrays = Mapping[str, np.ndarray]
OUTPUTS = ["sentence_embedding", "last_hidden_state"]
CPU = SimpleNamespace(NAME="onnx:cpu", FORMAT="onnx", BACKEND=None)
XNNPACK = SimpleNamespace(NAME="tflite:xnnpack", FORMAT="tflite", BACKEND="XNNPACK")


class NumpySession:
    """Sums the vectors of the tokens, as the golden of `text_bundle` does; `fault` changes an output."""

    engine = "numpy"
    threads = 1

    def __init__(self, graphs: Mapping[str, Signature], fault: Callable[[np.ndarray, Arrays, int], np.ndarray]) -> None:
        self.graphs = graphs
        self.fault = fault
        self.calls = 0
        self.placed = Placement({"XNNPACK": 7}, "its own words")

    def run(self, inputs: Arrays, *, graph: str | None = None) -> dict[str, np.ndarray]:
        (name,) = [spec.name for spec in self.graphs[graph].outputs]
        hidden = word_vectors()[inputs["input_ids"]] * inputs["attention_mask"][..., None]
        output = hidden.sum(axis=1) if name == "sentence_embedding" else hidden
        self.calls += 1
        return {name: self.fault(output.astype(np.float32), inputs, self.calls)}

    def placement(self) -> Placement:
        return self.placed


def none(output: np.ndarray, _inputs: Arrays, _call: int) -> np.ndarray:
    return output


def drifting(output: np.ndarray, _inputs: Arrays, call: int) -> np.ndarray:
    return output + np.float32(1e-7) * call


def reading_padding(output: np.ndarray, inputs: Arrays, _call: int) -> np.ndarray:
    return output + (inputs["input_ids"] * (inputs["attention_mask"] == 0)).sum()


def rough(output: np.ndarray, inputs: Arrays, _call: int) -> np.ndarray:
    """Off by a thousandth, as int8 may be, and by another sign where other ids stand behind the mask."""
    behind = (inputs["input_ids"] * (inputs["attention_mask"] == 0)).sum()
    return output * np.float32(1.001 if behind else 0.999)


def wrong(output: np.ndarray, _inputs: Arrays, _call: int) -> np.ndarray:
    return -output


def not_a_number(output: np.ndarray, _inputs: Arrays, _call: int) -> np.ndarray:
    return output * np.nan


def stale(output: np.ndarray, inputs: Arrays, _call: int) -> np.ndarray:
    """Keeps something of the last sample that was another one."""
    kept = np.float32(inputs["input_ids"].sum())
    last, stale.last = getattr(stale, "last", kept), kept
    return output + np.float32(1e-6) * (last if last != kept else 0)


def company(output: np.ndarray, inputs: Arrays, _call: int) -> np.ndarray:
    """Takes something from the samples beside one."""
    return output + np.float32(0.3) * (len(inputs["input_ids"]) - 1) * np.arange(output.shape[-1], dtype=np.float32)


def writing_into_padding(output: np.ndarray, inputs: Arrays, _call: int) -> np.ndarray:
    behind = inputs["attention_mask"] == 0
    output[behind] += inputs["input_ids"][behind][..., None]
    return output


def subject_of(
    fault=none, *, output: str = OUTPUTS[0], precision: str = "fp32", target: Any = CPU, **changes: Any
) -> Subject:
    document, contents = text_bundle(output)
    manifest = parse_manifest(document)
    variant = replace(manifest.variants[0], precision=precision, **changes)
    graphs = {name: graph.signature for name, graph in variant.graphs.items()}
    golden = read_golden(contents[GOLDEN])
    return Subject(manifest.task, variant, golden, NumpySession(graphs, fault), target)


def outcomes(verdicts: list[Verdict]) -> dict[str, Outcome]:
    return {v.check: v.outcome for v in verdicts}


def outputs_of(subject: Subject) -> dict[str, np.ndarray]:
    return run_samples(subject.session, subject.golden.inputs)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_a_right_model_passes_every_check(output: str, precision: str) -> None:
    verdicts = list(all_checks(subject_of(output=output, precision=precision)))
    assert [v.check for v in verdicts] == list(CHECKS)
    assert {v.outcome for v in verdicts} == {Outcome.PASS}
    assert {(v.variant, v.target) for v in verdicts} == {("first", "onnx:cpu")}
    assert verdicts[0].figures["largest_error"] < 1e-5


@pytest.mark.parametrize("fault", [wrong, not_a_number])
@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_a_wrong_model_fails_both_comparisons_with_the_golden(fault, precision: str) -> None:
    verdicts = outcomes(list(all_checks(subject_of(fault, precision=precision))))
    assert verdicts[QUALITY] is verdicts[EXECUTOR] is Outcome.OUTPUT_MISMATCH


def test_a_second_run_that_differs_in_one_bit_is_found() -> None:
    subject = subject_of(drifting)
    verdict = check_determinism(subject, outputs_of(subject))
    assert verdict.outcome is Outcome.OUTPUT_MISMATCH
    assert verdict.message == "sentence_embedding differs in a second run"


def test_values_that_are_not_a_number_again_are_no_difference() -> None:
    subject = subject_of(not_a_number)
    assert check_determinism(subject, outputs_of(subject)).outcome is Outcome.PASS


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_an_influence_of_what_stands_behind_the_mask_is_found(output: str, precision: str) -> None:
    subject = subject_of(reading_padding, output=output, precision=precision)
    (verdict,) = check_padding(subject, outputs_of(subject))
    assert verdict.outcome is Outcome.OUTPUT_MISMATCH
    assert verdict.message.startswith(f"{output} changes with what stands behind the mask: ")
    assert verdict.figures["largest_error"] > 0.01


@pytest.mark.parametrize(("precision", "outcome"), [("fp32", "OUTPUT_MISMATCH"), ("int8-dynamic", "PASS")])
def test_int8_may_change_a_little_with_the_padding_and_fp32_may_not(precision: str, outcome: str) -> None:
    subject = subject_of(rough, precision=precision)
    (verdict,) = check_padding(subject, outputs_of(subject))
    assert verdict.outcome is Outcome[outcome]


def test_hidden_states_of_padding_itself_may_change() -> None:
    subject = subject_of(writing_into_padding, output="last_hidden_state")
    (verdict,) = check_padding(subject, outputs_of(subject))
    assert verdict.outcome is Outcome.PASS


def test_what_is_left_of_the_call_before_is_found() -> None:
    verdict = check_repeated_calls(subject_of(stale))
    assert verdict.outcome is Outcome.OUTPUT_MISMATCH
    assert verdict.message == "sentence_embedding of a sample differs after another one"
    assert check_repeated_calls(subject_of()).outcome is Outcome.PASS


def of_several(subject: Subject) -> Subject:
    """The same with a graph that takes up to 8 samples."""
    (name, signature), several = *subject.session.graphs.items(), SymbolicDim("batch", 1, 8)
    opened = [
        tuple(replace(t, dims=(several, *t.dims[1:])) for t in ts) for ts in (signature.inputs, signature.outputs)
    ]
    subject.session.graphs = {name: Signature(*opened)}
    return subject


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_an_influence_of_the_samples_beside_one_is_found(output: str, precision: str) -> None:
    subject = of_several(subject_of(company, output=output, precision=precision))
    (verdict,) = check_batch(subject, outputs_of(subject))
    assert verdict.outcome is Outcome.OUTPUT_MISMATCH
    assert verdict.message.startswith(f"{output} changes with the samples beside it: ")
    right = of_several(subject_of(output=output, precision=precision))
    assert [v.outcome for v in check_batch(right, outputs_of(right))] == [Outcome.PASS]


def test_a_model_of_one_sample_at_a_time_has_no_company_to_check() -> None:
    subject = subject_of()
    assert list(check_batch(subject, outputs_of(subject))) == []


@pytest.mark.parametrize("backends", [{"GPU": 9}, {"GPU": 7, "CPU": 2}, {"CPU": 9}, {}])
def test_a_portable_file_runs_wholly_on_an_accelerator_or_fell_back(backends: dict[str, int]) -> None:
    target = SimpleNamespace(NAME="onnx:gpu", FORMAT="onnx", BACKEND="GPU")
    placed = ExpectedPlacement("cpu", "CPUExecutionProvider", 9, 9)
    subject = subject_of(target=target, expected_placement=placed)
    subject.session.placed = Placement(backends, "its own words")
    verdict = check_placement(subject)
    assert verdict.outcome is (Outcome.PASS if backends == {"GPU": 9} else Outcome.FELL_BACK)
    assert verdict.figures == {"found": backends.get("GPU", 0), "elsewhere": backends.get("CPU", 0)}
    assert ("2 in CPU" in verdict.message) is (backends.get("CPU") == 2)


@pytest.mark.parametrize("name", ["attention_mask", "input_ids"])
def test_a_model_without_mask_or_ids_has_no_padding_to_check(name: str) -> None:
    subject = subject_of()
    outputs = outputs_of(subject)
    inputs = {k: v for k, v in subject.golden.inputs.items() if k != name}
    assert list(check_padding(replace(subject, golden=replace(subject.golden, inputs=inputs)), outputs)) == []


@pytest.mark.parametrize(
    ("found", "expected", "outcome"),
    [(7, 7, Outcome.PASS), (8, 7, Outcome.PASS), (6, 7, Outcome.FELL_BACK), (0, 1, Outcome.FELL_BACK)],
)
def test_operators_that_left_the_backend_are_a_fall_back(found: int, expected: int, outcome: Outcome) -> None:
    placement = ExpectedPlacement("cpu", "XNNPACK", expected, 9)
    subject = subject_of(target=XNNPACK, expected_placement=placement)
    subject.session.placed = Placement({"XNNPACK": found, "CPU": 2} if found else {"CPU": 9}, "its own words")
    verdict = check_placement(subject)
    assert verdict.outcome is outcome
    assert verdict.figures == {"expected": expected, "found": found}
    assert (verdict.message == "") is (outcome is Outcome.PASS)


def test_a_target_without_choice_passes_with_the_engines_words() -> None:
    verdict = check_placement(subject_of())
    assert (verdict.outcome, verdict.message) == (Outcome.PASS, "its own words")


@pytest.mark.parametrize(("found", "outcome"), [(7, Outcome.PASS), (8, Outcome.PASS), (6, Outcome.FELL_BACK)])
def test_calls_of_a_delegate_are_compared_with_those_in_the_file(found: int, outcome: Outcome) -> None:
    operators = (OperatorCount("delegate", "XNNPACK", 1, 7), OperatorCount("aten", "add.out", 1, 30))
    subject = subject_of(
        target=XNNPACK, expected_placement=ExpectedPlacement("cpu", "XNNPACK", 400, 500), operators=operators
    )
    subject.session.placed = Placement({"XNNPACK": found, "kernels": 30}, "its own words")
    verdict = check_placement(subject)
    assert verdict.outcome is outcome
    assert verdict.figures == {"expected": 7, "found": found}
    assert outcome is Outcome.PASS or verdict.message == "6 calls run in XNNPACK; 7 did on the building machine"


def test_a_placement_that_nobody_tells_is_not_run_rather_than_passed() -> None:
    silent = subject_of(target=XNNPACK)
    silent.session.placed = Placement(None, "it does not tell")
    verdict = check_placement(silent)
    assert (verdict.outcome, verdict.message) == (Outcome.NOT_RUN, "it does not tell")
    unknown = subject_of(target=XNNPACK, expected_placement=ExpectedPlacement("cpu", "XNNPACK", None, None))
    assert check_placement(unknown).outcome is Outcome.NOT_RUN
