"""What engines say becomes a sentence with their version; what they name stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_device_tests.executors.refusals import refusal

ORT = "ONNX Runtime 1.32.0 cannot load the model: "


NEW_SET = (
    f"{ORT}[ONNXRuntimeError] : 1 : FAIL : Load model from /a/model.onnx failed:/src/core/graph/load.h:46 void "
    "onnxruntime::Validate(const std::unordered_map<std::__cxx11::basic_string<char>, int>&, int) "
    "ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. "
    "Opset 99 is under development and support for this is limited. The operator schemas may change. "
    "Current official support for domain ai.onnx is till opset 28."
)
NEW_FILE = (
    f"{ORT}[ONNXRuntimeError] : 1 : FAIL : Load model from /a/model.onnx failed:/src/core/graph/model.cc:256 "
    "onnxruntime::Model::Model(onnx::ModelProto&&, const ModelOptions&) Unsupported model IR version: 99, max 14."
)
NEW_OPERATOR = f"{ORT}Error: Can't create a session. ERROR_CODE: 9, ERROR_MESSAGE: no kernel for Mulx(7)."
TEMPLATE = f"{ORT}/src/core/file.cc:3 bool onnxruntime::Fit(int, int) const [with T = float] it does not fit."


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (NEW_SET, "the model is of operator set 99 of ai.onnx, and it reads 28 at most."),
        (NEW_FILE, "Unsupported model IR version: 99, max 14."),
        (NEW_OPERATOR, "no kernel for Mulx(7)."),
        (TEMPLATE, "it does not fit."),
    ],
)
def test_the_operator_set_stays_and_the_place_in_the_source_goes(words: str, reason: str) -> None:
    assert refusal(words, "onnxruntime", "1.32.0") == f"{ORT}{reason}"


def test_an_operators_version_is_named_with_the_engines() -> None:
    words = (
        "litert cannot load the model: Didn't find op for builtin opcode 'MUL' version '99'. An older version of this "
        "builtin might be supported. Are you using an old TFLite binary with a newer model?\nRegistration failed.\n"
    )
    assert refusal(words, "litert", "2.3.0") == (
        "litert 2.3.0 cannot load the model: it has no operator MUL of version 99."
    )


def test_the_version_is_told_once() -> None:
    assert refusal("litert 2.3.0 is confused.", "litert", "2.3.0") == "litert 2.3.0 is confused."
    assert refusal("It is confused.", "litert", "2.3.0") == "litert 2.3.0: It is confused."
    assert refusal("It is confused.", "litert", None) == "It is confused."


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=60))
def test_a_sentence_of_nobodys_stays_but_for_its_spaces(words: str) -> None:
    plain = words.replace("/", "").replace("[", "")
    assert refusal(plain, "litert", None) == " ".join(plain.split())
