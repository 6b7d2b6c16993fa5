import json
import math

import numpy as np
import pytest

from fastserve_runtime.conformance.verdict import Outcome, Verdict


@pytest.mark.parametrize("outcome", list(Outcome))
def test_everything_but_a_pass_and_not_run_is_a_failure(outcome):
    assert outcome.is_failure == (outcome.value not in {"PASS", "NOT_RUN"})


def test_a_document_holds_every_field():
    verdict = Verdict("int8", "board", "quality", Outcome.OUTPUT_MISMATCH, "logits: wrong", {"sqnr_db": 3.5})
    assert verdict.as_document() == {
        "variant": "int8",
        "target": "board",
        "check": "quality",
        "outcome": "OUTPUT_MISMATCH",
        "message": "logits: wrong",
        "figures": {"sqnr_db": 3.5},
    }


def test_message_and_figures_may_be_left_out():
    document = Verdict("fp32", "onnxruntime", "executor", Outcome.PASS).as_document()
    assert document["message"] == ""
    assert document["figures"] == {}


def test_figures_that_are_not_finite_become_texts():
    figures = {"good": np.float64(1.5), "up": math.inf, "down": -math.inf, "odd": math.nan}
    document = Verdict("fp32", "onnxruntime", "executor", Outcome.PASS, figures=figures).as_document()
    assert document["figures"] == {"good": 1.5, "up": "inf", "down": "-inf", "odd": "nan"}
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_message_and_figures_are_told_in_one_line():
    figures = {"sqnr_db": 92.12345, "largest_error": math.inf}
    assert Verdict("a", "b", "c", Outcome.PASS, figures=figures).detail == "sqnr db 92.12, largest error inf"
    assert Verdict("a", "b", "c", Outcome.NOT_RUN, "no engine").detail == "no engine"
    both = Verdict("a", "b", "c", Outcome.OUTPUT_MISMATCH, "wrong", {"sqnr_db": 3.5})
    assert both.detail == "wrong; sqnr db 3.5"
    assert Verdict("a", "b", "c", Outcome.PASS).detail == ""
