"""Exact match and F1, by the examples of SQuAD's official script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.conformance.answers import best_figure, exact_match, normalized, token_f1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Denver Broncos!", "denver broncos"),
        ("an  apple, a\tday", "apple day"),
        ("theatre", "theatre"),
        ("U.S.", "us"),
        ("the-a", "thea"),
        ("\u2019s caf\u00e9", "\u2019s caf\u00e9"),
        ("a", ""),
    ],
)
def test_answers_are_compared_without_articles_and_punctuation(text: str, expected: str) -> None:
    assert normalized(text) == expected


def test_figures_are_the_best_with_any_right_answer() -> None:
    truths = ["Denver Broncos", "the Denver Broncos of 2015"]
    assert best_figure(exact_match, truths, "denver broncos") == 1
    assert best_figure(token_f1, truths, "Broncos") == pytest.approx(2 / 3)
    assert best_figure(token_f1, truths, "Denver Broncos Denver") == pytest.approx(0.8)
    assert best_figure(exact_match, truths, "Carolina Panthers") == 0


def test_a_question_without_answer_wants_nothing() -> None:
    for figure in (exact_match, token_f1):
        assert best_figure(figure, [], "") == 1
        assert best_figure(figure, [], "something") == 0
        assert best_figure(figure, ["something"], "") == 0
        assert best_figure(figure, ["the"], "") == 1


@given(st.text(max_size=20), st.text(max_size=20))
def test_f1_is_symmetric_and_between_both_ends(one: str, other: str) -> None:
    assert token_f1(one, other) == token_f1(other, one)
    assert 0 <= exact_match(one, other) <= token_f1(one, other) + 1e-12 <= 1 + 1e-12
