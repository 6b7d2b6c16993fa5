"""The texts, or pairs of texts, that ship as a bundle's goldens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastserve_converters.data import DEFAULT_TEXTS, Sample
from fastserve_runtime.bundle.raw_inputs import Text
from fastserve_runtime.preprocessors.text import TextPreprocessor


@dataclass(frozen=True)
class GoldenText:
    """A text that ships in the bundle's goldens, what kind of input it is, and whether it counts in quality.

    Attributes:
        pair: the second text, of a model that takes pairs of texts.
    """

    text: str
    kind: str
    realistic: bool
    pair: str | None = None

    @property
    def content(self) -> Text:
        """The text or the pair, as the model is given it."""
        return self.text if self.pair is None else (self.text, self.pair)

    def as_document(self) -> dict[str, Any]:
        """Return JSON fields."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def golden_texts(evaluation: Sequence[Sample], preprocessor: TextPreprocessor) -> list[GoldenText]:
    """Choose golden texts: short, padded, exactly full and non-Latin ones, and degenerate ones.

    Realistic texts come from the evaluation data, so that they look like what the model will see.
    """
    length = preprocessor.settings.sequence_length
    full = _filling([s.text for s in evaluation], preprocessor.count_tokens, length)
    return [
        *_short_and_padded(evaluation, preprocessor),
        GoldenText(full, "full", realistic=True),
        *(GoldenText(t, "non-latin", realistic=True) for t in non_latin_texts()),
        GoldenText("", "empty", realistic=False),
        GoldenText(" \t\n", "empty", realistic=False),
        GoldenText(_repeated(length), "extreme", realistic=False),
        GoldenText(_odd_signs(length), "extreme", realistic=False),
    ]


def golden_pairs(evaluation: Sequence[Sample], preprocessor: TextPreprocessor) -> list[GoldenText]:
    """Choose golden pairs, of the same kinds.

    In the full one the second text fills what the first leaves, and in the degenerate ones either or both are empty or
    too long.
    """
    length = preprocessor.settings.sequence_length
    first = min((s.text for s in evaluation), key=len)
    seconds = [s.pair or "" for s in evaluation]
    full = _filling(seconds, lambda text: preprocessor.count_tokens((first, text)), length)
    foreign = non_latin_texts()
    degenerate = [
        ("empty", "", ""),
        ("empty", " \t\n", seconds[0]),
        ("empty", first, ""),
        ("extreme", _repeated(length), _repeated(length)),
        ("extreme", first, _odd_signs(length)),
    ]
    return [
        *_short_and_padded(evaluation, preprocessor),
        GoldenText(first, "full", realistic=True, pair=full),
        *(
            GoldenText(a, "non-latin", realistic=True, pair=b)
            for a, b in zip(foreign, [*foreign[1:], foreign[0]], strict=True)
        ),
        *(GoldenText(a, kind, realistic=False, pair=b) for kind, a, b in degenerate),
    ]


def _short_and_padded(evaluation: Sequence[Sample], preprocessor: TextPreprocessor) -> list[GoldenText]:
    samples = [s.content for s in evaluation]
    tokens = np.array([preprocessor.count_tokens(t) for t in samples])
    order = np.argsort(tokens, kind="stable")
    chosen = [("short", i) for i in order[:2]] + [("padded", order[len(order) * part // 4]) for part in (1, 2, 3)]
    return [_golden(samples[i], kind, realistic=True) for kind, i in chosen]


def _golden(content: Text, kind: str, *, realistic: bool) -> GoldenText:
    text, pair = (content, None) if isinstance(content, str) else content
    return GoldenText(text, kind, realistic, pair)


def _repeated(length: int) -> str:
    return "a " * (2 * length)


def _odd_signs(length: int) -> str:
    return "\u0000\u200b\ufffd\U0001f469\u200d\U0001f4bb\U0001f525" * length


def _filling(texts: Sequence[str], count_tokens: Callable[[str], int], length: int) -> str:
    """Return a text of exactly the exported number of tokens, or the nearest below that words can give."""
    words = " ".join(texts).split()
    low, high = 1, min(len(words), length)
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(" ".join(words[:middle])) <= length:
            low = middle
        else:
            high = middle - 1
    text = " ".join(words[:low])
    for _ in range(length):
        if count_tokens(f"{text} .") > length:
            break
        text = f"{text} ."
    return text


def non_latin_texts() -> list[str]:
    """Return a text in each of some scripts: Japanese, Arabic, Devanagari, Cyrillic."""
    wanted = ["ja", "ar", "hi", "ru"]
    rows = [json.loads(line) for line in DEFAULT_TEXTS.read_text(encoding="utf-8").splitlines()]
    return [next(r["text"] for r in rows if r["language"] == language) for language in wanted]
