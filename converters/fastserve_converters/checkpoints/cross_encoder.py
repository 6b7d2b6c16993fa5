"""Marks by which sentence-transformers tells its cross-encoders from other classifiers, and what they say.

Before version 5.4 a cross-encoder is a folder of Transformers whose config names the activation: as `activation_fn` of
`sentence_transformers`, before 4.0 as `sbert_ce_default_activation_function`. Since then it has a `modules.json` with
the Transformer alone, and `config_sentence_transformers.json` names the activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.sentence_transformers import SentenceFolder, read_json
from fastserve_converters.checkpoints.sentence_transformers.folder import LISTING
from fastserve_converters.checkpoints.sentence_transformers.transformer import CLASSIFICATION
from fastserve_runtime.errors import UsageError

AUTO = "auto"
TEXT_CLASSIFICATION, TEXT_RANKING = "text-classification", "text-ranking"
_MODEL_TYPE = "CrossEncoder"
_SETTINGS = "config_sentence_transformers.json"
_OLD_KEY = "sbert_ce_default_activation_function"
_ACTIVATIONS: Mapping[str, str] = {"Sigmoid": "sigmoid", "Identity": "identity", "Softmax": "softmax"}
_TRUSTED = "torch."
_VALUES, _SEVERAL = "regression", "multi_label_classification"


@dataclass(frozen=True)
class CrossEncoder:
    """What a cross-encoder's files say.

    Attributes:
        activation: `sigmoid`, `identity` or `softmax`; None where they name none, which means the sigmoid of one score
            and the plain logits of several.
        notes: what the user should know.
    """

    activation: str | None
    notes: tuple[str, ...] = ()

    def activation_of(self, scores: int) -> str:
        """Return what makes so many logits scores, as sentence-transformers does."""
        return self.activation or ("sigmoid" if scores == 1 else "identity")

    def notes_for(self, task: str, scores: int, problem: str | None) -> tuple[str, ...]:
        """Return what the user should know of a model that is exported for a task.

        Args:
            task: the task.
            scores: how many it gives.
            problem: the `problem_type` of its config.
        """
        is_plain = task == TEXT_CLASSIFICATION and scores > 1 and self.activation_of(scores) == "identity"
        if not is_plain or problem == _VALUES:
            return self.notes
        given = "sigmoid" if problem == _SEVERAL else "softmax"
        note = (
            "The checkpoint is a cross-encoder for classes, of which sentence-transformers gives the plain logits; the "
            f"bundle gives their {given}, as Transformers does."
        )
        return (*self.notes, note)


def read_cross_encoder(root: Path, config: Mapping[str, Any]) -> CrossEncoder | None:
    """Read the marks of a checkpoint; None where it has none.

    Args:
        root: the checkpoint's directory.
        config: the content of its Transformers model's `config.json`.

    Raises:
        UsageError: the activation is one that is not supported.
    """
    file = root / _SETTINGS
    settings = read_json(file) if file.is_file() else {}
    is_marked = isinstance(settings, dict) and settings.get("model_type") == _MODEL_TYPE
    own = config.get("sentence_transformers")
    if not (is_marked or isinstance(own, dict) or _OLD_KEY in config):
        return None
    named = own.get("activation_fn") if isinstance(own, dict) else None
    is_in_own = isinstance(own, dict) and "activation_fn" in own
    notes: list[str] = []
    # Without modules.json, sentence-transformers does not look into the settings.
    for where, path in (
        (_SETTINGS, settings.get("activation_fn") if is_marked and (root / LISTING).is_file() else None),
        ("config.json", named if is_in_own else config.get(_OLD_KEY)),
    ):
        if path is None:
            continue
        if str(path).startswith(_TRUSTED):
            return CrossEncoder(_activation(str(path), where), tuple(notes))
        # As sentence-transformers does, unless code of the checkpoint's own is allowed.
        notes.append(
            f"{where} names the activation '{path}', which is code of its own; the one that counts without it is used."
        )
    return CrossEncoder(None, tuple(notes))


def _activation(path: str, file: str) -> str:
    kind = path.rpartition(".")[2]
    if kind not in _ACTIVATIONS:
        raise UsageError(
            f"The checkpoint's {file} names the activation '{path}', which is not supported.",
            f"Supported are: {', '.join(_ACTIVATIONS)}.",
        )
    return _ACTIVATIONS[kind]


def head_of(task: str) -> str:
    """Return the task whose head a model for a task must have: rankers are classifiers of one score."""
    return TEXT_CLASSIFICATION if task == TEXT_RANKING else task


def ranking_or(found: str, wanted: str, marks: CrossEncoder | None, scores: int) -> str:
    """Return the task that a classifier is exported for: ranking, where it was asked for or the files are of a ranker.

    Args:
        found: the task of its head.
        wanted: what was asked for, or `auto`.
        marks: those of a cross-encoder, if it has them.
        scores: how many it gives.

    Raises:
        UsageError: it is to rank, and gives several scores for a document.
    """
    if wanted != TEXT_RANKING:
        is_ranker = found == TEXT_CLASSIFICATION and marks is not None and scores == 1
        return TEXT_RANKING if is_ranker and wanted == AUTO else found
    if scores != 1:
        raise UsageError(
            f"The model gives {scores} scores for a pair of texts; a ranking needs one.",
            f"Export it with --task {TEXT_CLASSIFICATION} --pairs.",
        )
    if marks is not None and marks.activation == "softmax":
        raise UsageError("The checkpoint names the softmax of one score as its activation, which is always 1.")
    return TEXT_RANKING


def check_scores_pairs(folder: SentenceFolder) -> None:
    """Refuse a cross-encoder that is more than a classifier of Transformers.

    Raises:
        UsageError: it has modules behind the Transformer, or is no classifier.
    """
    kinds = [module.kind for module in folder.modules]
    if len(kinds) > 1 or folder.transformer.task != CLASSIFICATION:
        raise UsageError(
            f"The checkpoint's cross-encoder has the modules {', '.join(kinds)}, the first for "
            f"{folder.transformer.task}, which is not supported.",
            f"Supported is a Transformer alone, for {CLASSIFICATION}.",
        )
