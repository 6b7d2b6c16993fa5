"""What a text model is called with: single texts, or pairs of texts that are read together (NLI, STS, reranking)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeGuard

from fastserve_runtime.bundle.raw_inputs import Text, tokenizable
from fastserve_runtime.errors import UsageError

Inputs: TypeAlias = Text | Sequence[Text]
"""One sample or several."""


def is_pair(value: object) -> TypeGuard[tuple[str, str] | list[str]]:
    """Whether a value is a pair of texts: a tuple, or a list as JSON has it, of two strings."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(part, str) for part in value)


def as_samples(inputs: Inputs, *, takes_pairs: bool) -> tuple[list[Text], bool]:
    """Return the samples of a call, and whether it was one sample rather than several.

    A tuple of two strings is one pair where pairs are taken, and two texts elsewhere.
    """
    if isinstance(inputs, str):
        return [inputs], True
    if takes_pairs and isinstance(inputs, tuple) and is_pair(inputs):
        return [(inputs[0], inputs[1])], True
    return list(inputs), False


def checked_samples(samples: Sequence[object], *, takes_pairs: bool) -> list[Text]:
    """Return the samples as a tokenizer takes them.

    Raises:
        UsageError: there is none, or one of them is not what the model takes.
    """
    if not samples:
        raise UsageError("A text is wanted; no text was given.", "Give one string or several.")
    return [_checked(sample, takes_pairs=takes_pairs) for sample in samples]


def _checked(sample: object, *, takes_pairs: bool) -> Text:
    if isinstance(sample, str):
        if takes_pairs:
            raise UsageError(
                f"The model takes pairs of texts; the single text {sample!r:.60} was given.",
                'Give pairs: ("one text", "another"); on the command line --pair.',
            )
        return tokenizable(sample)
    if not is_pair(sample):
        wanted = "A pair of texts" if takes_pairs else "A text"
        remedy = 'Give one pair ("one text", "another") or several.' if takes_pairs else "Give one string or several."
        raise UsageError(f"{wanted} is wanted; {sample!r:.60} was given.", remedy)
    if not takes_pairs:
        raise UsageError(
            f"The bundle was exported for single texts; the pair {sample!r:.60} was given.",
            "Export the model for pairs: fastserve export --pairs, or --text-pair-column with your data.",
        )
    return tokenizable(sample[0]), tokenizable(sample[1])
