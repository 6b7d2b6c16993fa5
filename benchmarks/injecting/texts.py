"""Faults of what makes tensors of texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastserve_runtime.bundle.reader import open_bundle
from injecting.bundles import changed_copy
from injecting.fault import Case, Fault, NotHere

_SEED = 3
_ALL_OR_NOTHING = (1.0,)


def in_tokenizer(change: Callable[[dict[str, Any], float], None]) -> Callable[[Case, float], Case]:
    """Return what changes the tokenizer of a case's bundle, and its digest in the manifest."""

    def inject(case: Case, strength: float) -> Case:
        with open_bundle(case.bundle) as bundle:
            file = bundle.manifest.preprocessing.files[0]

        def rewrite(old: Path, new: Path) -> None:
            document = json.loads(old.read_text(encoding="utf-8"))
            change(document, strength)
            new.write_text(json.dumps(document), encoding="utf-8")

        return replace(case, bundle=changed_copy(case.bundle, case.copies / "changed.fsb", file, rewrite))

    return inject


def exchanged_words(tokenizer: dict[str, Any], strength: float) -> None:
    """A share of the vocabulary has each other's ids, at least two words."""
    vocabulary = _vocabulary(tokenizer)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    words = sorted(set(vocabulary) - special)
    order = np.random.default_rng(_SEED).permutation(len(words))
    chosen = [words[i] for i in order[: max(2, round(len(words) * strength))]]
    ids = [vocabulary[word] for word in chosen]
    vocabulary |= dict(zip(chosen, ids[1:] + ids[:1], strict=True))


def other_case(tokenizer: dict[str, Any], _strength: float) -> None:
    """Letters keep or lose their case, as they should not."""
    normalizer = tokenizer.get("normalizer") or {}
    if "lowercase" not in normalizer:
        raise NotHere("this tokenizer does not change the case of letters")
    normalizer["lowercase"] = not normalizer["lowercase"]


def no_special_tokens(tokenizer: dict[str, Any], _strength: float) -> None:
    """Texts are not put between a first and a last token."""
    tokenizer["post_processor"] = None


def added_word(tokenizer: dict[str, Any], _strength: float) -> None:
    """A word that is frequent was added as a token of its own, with the id of another."""
    vocabulary = _vocabulary(tokenizer)
    word = next(w for w in ("the", "a", "e") if w in vocabulary)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
    other = max(i for w, i in vocabulary.items() if w.isalpha())
    name = next(w for w, i in vocabulary.items() if i == other)
    vocabulary[word], vocabulary[name] = other, vocabulary[word]
    tokenizer["added_tokens"].append({"id": other, "content": word, "normalized": True, **flags})


def split_on_spaces(tokenizer: dict[str, Any], _strength: float) -> None:
    """Words are split on spaces alone, not on punctuation."""
    tokenizer["pre_tokenizer"] = {"type": "WhitespaceSplit"}


def _vocabulary(tokenizer: dict[str, Any]) -> dict[str, int]:
    vocabulary = tokenizer["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        raise NotHere("this tokenizer has no vocabulary of words")
    return vocabulary


TEXT_FAULTS: tuple[Fault, ...] = (
    Fault("a changed tokenizer: ids exchanged", "texts", in_tokenizer(exchanged_words), unit="the vocabulary"),
    Fault("a changed tokenizer: case", "texts", in_tokenizer(other_case), strengths=_ALL_OR_NOTHING),
    Fault(
        "a changed tokenizer: no special tokens", "texts", in_tokenizer(no_special_tokens), strengths=_ALL_OR_NOTHING
    ),
    Fault("a changed tokenizer: one word", "texts", in_tokenizer(added_word), strengths=_ALL_OR_NOTHING),
    Fault("a changed tokenizer: punctuation", "texts", in_tokenizer(split_on_spaces), strengths=_ALL_OR_NOTHING),
)
