from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.serving.refusal import Refusal
from fastserve_runtime.serving.request_body import parse_document


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), st.booleans())
def test_an_object_is_read(document, escapes) -> None:
    assert parse_document(json.dumps(document, ensure_ascii=escapes).encode()) == document


@given(st.binary(max_size=40))
def test_anything_else_is_refused(body) -> None:
    outcome = None
    try:
        outcome = parse_document(body)
    except Refusal as refusal:
        outcome = refusal.status
    assert outcome == 400 or isinstance(outcome, dict)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_document(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"[1]", "no JSON object"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": "\xff"}', "no Unicode"),
        (b'{"a": "\\ud800"}', "no Unicode"),
        (b'{"a": ' + b"[" * 100_000, "nested too deep"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "no JSON: a number has 5000 digits."),
    ],
)
def test_what_is_wrong_with_a_body_is_said(body, words) -> None:
    with pytest.raises(Refusal, match=words):
        parse_document(body)
