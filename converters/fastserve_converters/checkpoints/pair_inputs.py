"""Whether a checkpoint is exported for pairs of texts, and how the two are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.families import Family
from fastserve_converters.checkpoints.sentence_transformers import read_json
from fastserve_converters.checkpoints.task import Task
from fastserve_runtime.bundle.raw_inputs import TOKEN_TYPES
from fastserve_runtime.errors import UsageError

_TOKENIZER_CONFIG = "tokenizer_config.json"
_USUAL_TYPES = 2
"""Rows of the token-type embedding of families that have one, where a config says nothing."""
_OF_PAIRS = frozenset({"entailment", "contradiction", "not_entailment", "equivalent", "not_equivalent", "duplicate"})
"""Names of classes that only pairs of texts have (MNLI, RTE, MRPC, QQP)."""


@dataclass(frozen=True)
class PairInputs:
    """How a checkpoint is given texts.

    Attributes:
        takes_pairs: whether it is given pairs rather than single texts.
        has_token_types: whether it is given `token_type_ids` too.
        notes: what the user should know, in sentences.
    """

    takes_pairs: bool = False
    has_token_types: bool = False
    notes: tuple[str, ...] = ()


def read_pair_inputs(
    path: Path, family: Family, config: Mapping[str, Any], task: Task, labels: Sequence[str], *, wanted: bool
) -> PairInputs:
    """Return how a checkpoint is given texts.

    Args:
        path: of the Transformers model, with its tokenizer.
        family: the model's.
        config: the content of its `config.json`.
        task: what it is exported for.
        labels: names of its classes.
        wanted: whether the user or the model's files ask for pairs.

    Raises:
        UsageError: pairs are asked for, and the task has none.
    """
    if wanted and task.PAIRS == "never":
        raise UsageError(
            "The model was to be exported for pairs of texts, and its task takes single ones.",
            "Leave --pairs and --text-pair-column out.",
        )
    if not wanted and task.PAIRS != "always":
        names = sorted(_OF_PAIRS & {label.lower() for label in labels})
        if not names:
            return PairInputs()
        return PairInputs(notes=(f"It has the class '{names[0]}', as models of pairs of texts do: see --pairs.",))
    # Transformers refuses a null when the model is loaded.
    types = config.get("type_vocab_size", _USUAL_TYPES) or 0
    if not family.token_types or types < _USUAL_TYPES:
        return PairInputs(takes_pairs=True)
    named = _named_inputs(path)
    if named is not None and TOKEN_TYPES not in named:
        note = (
            f"{_TOKENIZER_CONFIG} names the model's inputs without {TOKEN_TYPES}: the tokens of both texts of a pair "
            "have the type 0."
        )
        return PairInputs(takes_pairs=True, notes=(note,))
    return PairInputs(takes_pairs=True, has_token_types=True)


def _named_inputs(path: Path) -> list[str] | None:
    """Return the inputs that the tokenizer's config names; None where it names none."""
    file = path / _TOKENIZER_CONFIG
    config = read_json(file) if file.is_file() else {}
    named = config.get("model_input_names") if isinstance(config, dict) else None
    return named if isinstance(named, list) else None
