"""Verdicts as JUnit XML."""

from __future__ import annotations

from xml.etree import ElementTree

from fastserve_device_tests.suite.junit import junit_xml
from fastserve_runtime.conformance.verdict import Outcome, Verdict

VERDICTS = [
    Verdict("v1", "onnx:cpu", "quality", Outcome.PASS, figures={"sqnr_db": float("inf"), "largest_error": 0.5}),
    Verdict("v1", "onnx:cpu", "quality", Outcome.OUTPUT_MISMATCH, "logits: far off", {"sqnr_db": 3.0}),
    Verdict("v1", "onnx:cpu", "placement", Outcome.PASS, "only one provider"),
    Verdict("v2", "onnx:cpu", "load", Outcome.LOAD_FAILED, "no"),
    Verdict("v2", "onnx:webgpu", "load", Outcome.NOT_RUN, "the driver is missing"),
]
SECONDS = {("v1", "onnx:cpu"): 1.25, ("v2", "onnx:cpu"): 0.5}


def parsed(*verdicts: Verdict, **options) -> ElementTree.Element:
    return ElementTree.fromstring(junit_xml(verdicts, **options))


def test_each_target_is_a_suite_that_counts_its_cases() -> None:
    root = parsed(*VERDICTS, seconds=SECONDS)
    assert root.tag == "testsuites"
    assert {**root.attrib} == {
        "name": "fastserve conform", "tests": "5", "failures": "2", "errors": "0", "skipped": "1", "time": "1.750",
    }  # fmt: skip
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["onnx:cpu", "onnx:webgpu"]
    assert [suites["onnx:cpu"].get(key) for key in ("tests", "failures", "skipped", "time")] == ["4", "2", "0", "1.750"]
    assert suites["onnx:webgpu"].get("time") is None


def test_each_verdict_is_a_case_of_its_own() -> None:
    cases = [(c.get("classname"), c.get("name")) for c in parsed(*VERDICTS).iter("testcase")]
    assert cases == [
        ("onnx:cpu.v1", "quality"),
        ("onnx:cpu.v1", "quality (2)"),
        ("onnx:cpu.v1", "placement"),
        ("onnx:cpu.v2", "load"),
        ("onnx:webgpu.v2", "load"),
    ]


def test_a_failure_has_the_outcome_as_its_type_and_the_figures_in_its_text() -> None:
    failures = list(parsed(*VERDICTS).iter("failure"))
    assert [f.get("type") for f in failures] == ["OUTPUT_MISMATCH", "LOAD_FAILED"]
    assert failures[0].get("message") == "logits: far off"
    assert failures[0].text == "logits: far off; sqnr db 3"


def test_what_was_not_run_is_skipped_and_tells_why() -> None:
    skipped = parsed(*VERDICTS).findall(".//skipped")
    assert [s.get("message") for s in skipped] == ["the driver is missing"]


def test_figures_times_and_remarks_are_there() -> None:
    root = parsed(*VERDICTS, seconds=SECONDS)
    first = root.find(".//testcase")
    assert first is not None
    figures = {p.get("name"): p.get("value") for p in first.iter("property")}
    assert figures == {"sqnr_db": "inf", "largest_error": "0.5"}
    times = {p.get("name"): p.get("value") for p in root.findall("testsuite/properties/property")}
    assert times == {"seconds of v1": "1.250", "seconds of v2": "0.500"}
    assert [o.text for o in root.iter("system-out")] == ["only one provider"]


def test_what_xml_does_not_allow_is_replaced_and_the_rest_survives() -> None:
    message = '\x1b[31mred\x00 <a> & "b" ]]> ü 🙂 \ud800'
    root = parsed(Verdict("v<1>", "onnx:cpu", "run", Outcome.RUN_FAILED, message))
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == '�[31mred� <a> & "b" ]]> ü 🙂 �'
    assert next(root.iter("testcase")).get("classname") == "onnx:cpu.v<1>"


def test_no_verdicts_are_a_document_too() -> None:
    root = parsed()
    assert (root.get("tests"), list(root)) == ("0", [])
