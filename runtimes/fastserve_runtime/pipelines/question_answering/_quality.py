"""How good answers are: SQuAD's figures, and how near the reference's they come where nobody knows the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.bundle.raw_inputs import Text
from fastserve_runtime.conformance.answer_spans import Span, answered, candidates
from fastserve_runtime.conformance.answers import LONGEST_ANSWER, best_figure, exact_match, token_f1
from fastserve_runtime.conformance.metrics import ratio_interval
from fastserve_runtime.conformance.quality import Quality, reference_name
from fastserve_runtime.preprocessors.context_windows import context_tokens
from fastserve_runtime.preprocessors.text import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.conformance.comparison import Arrays, Comparison

NUMBER, CONTEXT, CONTEXT_TOKENS, SPANS = "question_number", "context", "context_tokens", "context_spans"
"""What is known of each window beside the model's inputs, with the text of the context that is in it."""
EXPECTED_F1 = "expected F1 ÷ reference's"
F1_RATIO = "F1 ÷ reference's"
_EXACT, _F1, _SAME = "exact match", "F1", "same answer as the reference"


def known_of_windows(windows: Windows, samples: Sequence[Text]) -> dict[str, NDArray[np.generic]]:
    """Return what quality is judged by beside a model's inputs and outputs, shape [windows, ...].

    Args:
        windows: of the samples.
        samples: pairs of question and context.
    """
    tokens = context_tokens(windows.encodings)
    spans, texts = tokens.spans.copy(), []
    for row, number in enumerate(windows.text_of):
        own = spans[row][tokens.is_context[row]]
        # Only what is in the window is kept of its context.
        first, last = (int(own[:, 0].min()), int(own[:, 1].max())) if len(own) else (0, 0)
        spans[row][tokens.is_context[row]] -= first
        texts.append(samples[number][1][first:last].encode())
    return {
        NUMBER: windows.text_of.astype(np.int32),
        CONTEXT_TOKENS: tokens.is_context,
        SPANS: spans,
        CONTEXT: np.array(texts, np.bytes_),
    }


def quality(compared: Comparison) -> Quality:
    """Compare answers: with labels by their F1, without by that which the reference expects of them.

    Labels are a sequence of right answers for each question; an empty one says that it has none, and then models are
    asked to say so. Without them the reference's own likeliest answers count as right, each by its probability: so a
    flip between two that are as good as equal costs nothing, unlike in the share of equal answers, which stands beside.

    Args:
        compared: logits of windows; its inputs have what `known_of_windows` gives.
    """
    truths: Any = compared.labels
    says_none = truths is not None and any(not len(own) for own in truths)
    expected, found = (
        _best_answers(outputs, compared.inputs, says_none=says_none)
        for outputs in (compared.reference, compared.actual)
    )
    chosen = [
        (own[0].text if own else "", other[0].text if other else "") for own, other in zip(expected, found, strict=True)
    ]
    same = float(np.mean([exact_match(*pair) for pair in chosen]))
    name, beside = EXPECTED_F1, {}
    top, bottom = (
        np.array([_expected_f1(own, pair[side]) for own, pair in zip(expected, chosen, strict=True)]) for side in (1, 0)
    )
    if truths is not None:
        (wanted, right), exact = (
            [
                np.array([best_figure(figure, own, pair[side]) for own, pair in zip(truths, chosen, strict=True)])
                for side in (0, 1)
            ]
            for figure in (token_f1, exact_match)
        )
        beside = {
            _F1: float(right.mean()),
            reference_name(_F1): float(wanted.mean()),
            _EXACT: float(exact[1].mean()),
            reference_name(_EXACT): float(exact[0].mean()),
        }
        # Where the reference is never right there is nothing to be as good as.
        if wanted.any():
            name, top, bottom = F1_RATIO, right, wanted
    interval = ratio_interval(top, bottom, seed=compared.seed)
    return Quality(name, interval.value, interval.low, interval.high, len(chosen), {**beside, _SAME: same})


def _best_answers(outputs: Arrays, inputs: Arrays, *, says_none: bool) -> list[list[Span]]:
    """Return each question's likeliest answers, best first; an empty one stands for none where it may be said."""
    numbers = np.asarray(inputs[NUMBER])
    texts = [bytes(text).decode(errors="replace") for text in inputs[CONTEXT]]
    is_context, spans = np.asarray(inputs[CONTEXT_TOKENS], bool), np.asarray(inputs[SPANS])
    answers = []
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number).tolist()
        found, null = answered(outputs, is_context, spans, texts, rows, maximum=candidates(1), longest=LONGEST_ANSWER)
        found += [Span("", 0, 0, null)] if says_none else []
        answers.append(sorted(found, key=lambda span: -span.score))
    return answers


def _expected_f1(reference: Sequence[Span], found: str) -> float:
    """Return the F1 of an answer that the reference expects, by the probabilities of its own answers."""
    total = sum(span.score for span in reference)
    return sum(span.score * token_f1(span.text, found) for span in reference) / total if total else 0.0
