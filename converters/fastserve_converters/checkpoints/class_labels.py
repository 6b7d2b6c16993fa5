"""The names of a classifier's classes, as its config gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fastserve_converters.checkpoints.stored_tensors import Shape
from fastserve_runtime.errors import UsageError

_DEFAULT_COUNT = 2
"""Transformers' own, where a config says nothing."""
_SCORING = ("classifier.weight", "classifier.out_proj.weight", "score.weight")
"""Last layers of heads, which have one row for each class."""


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names in the order of their ids.

    Raises:
        UsageError: `id2label` is no object from 0, 1, … to names, has a name twice, or has not `num_labels` of them.
    """
    count = config.get("num_labels")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise UsageError(f"The config's 'num_labels' is {count!r}; a number of at least 1 is wanted.")
    names = config.get("id2label")
    if not names:
        return tuple(f"LABEL_{i}" for i in range(count or _DEFAULT_COUNT))
    if not isinstance(names, Mapping):
        raise UsageError(f"The config's 'id2label' is {names!r:.60}; an object from ids to names is wanted.")
    wanted = [str(i) for i in range(len(names))]
    given = [str(key) for key in names]
    if sorted(given) != sorted(wanted):
        odd = next(key for key in given if key not in wanted)
        raise UsageError(
            f"The config's 'id2label' has the key '{odd}'; with {len(names)} labels, 0 to {len(names) - 1} are wanted.",
            "Correct config.json: every output of the model needs its own label.",
        )
    if count is not None and count != len(names):
        raise UsageError(
            f"The config's 'id2label' names {len(names)} labels, and its 'num_labels' is {count}.",
            "Correct config.json: every output of the model needs its own label.",
        )
    ordered = [names[key] for key in sorted(names, key=int)]
    nameless = [name for name in ordered if isinstance(name, bool) or not isinstance(name, str | int | float)]
    if nameless:
        raise UsageError(
            f"The config's 'id2label' has {nameless[0]!r:.40} in the place of a name.", "Give every class a name."
        )
    found = tuple(str(name) for name in ordered)
    twice = [name for name, times in Counter(found).items() if times > 1]
    if twice:
        raise UsageError(
            f"The config's 'id2label' has the label '{twice[0]}' more than once.", "Give every class its own name."
        )
    return found


def label_notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a note where `label2id` says otherwise than `id2label`, by which labels are named."""
    ids = config.get("label2id")
    if not isinstance(ids, Mapping) or not ids:
        return ()
    named = {str(name): str(number) for number, name in enumerate(label_names(config))}
    if {str(name): str(number) for name, number in ids.items()} == named:
        return ()
    return ("The config's 'label2id' says otherwise than its 'id2label', by which labels are named here.",)


def check_head_rows(labels: tuple[str, ...], tensors: Mapping[str, Shape]) -> None:
    """Refuse a head with another number of outputs than there are labels, where the weights' shapes are known.

    Raises:
        UsageError: with both numbers.
    """
    for name in _SCORING:
        shape = tensors.get(name)
        if shape and shape[0] != len(labels):
            raise UsageError(
                f"The config names {len(labels)} labels, and the model's head '{name}' has {shape[0]} outputs.",
                "Correct 'id2label' and 'num_labels' in config.json: every output of the model needs its own label.",
            )


def check_rows(wanted: Mapping[str, int], tensors: Mapping[str, Shape]) -> None:
    """Refuse a head with another number of outputs than its task has, where the weights' shapes are known.

    Args:
        wanted: name of a tensor → how many rows it has for the task.
        tensors: of the checkpoint.

    Raises:
        UsageError: with both numbers.
    """
    for name, rows in wanted.items():
        shape = tensors.get(name)
        if shape and shape[0] != rows:
            raise UsageError(
                f"The model's head '{name}' has {shape[0]} outputs; its task has {rows}.",
                "Check that the checkpoint is for this task, and 'num_labels' in config.json.",
            )


def check_outputs(labels: tuple[str, ...], outputs: int) -> None:
    """Refuse a model that gives another number of scores than there are labels.

    Raises:
        UsageError: with both numbers.
    """
    if labels and len(labels) != outputs:
        raise UsageError(
            f"The config names {len(labels)} labels, and the model scores {outputs}.",
            "Correct 'id2label' in config.json: every output of the model needs its own label.",
        )
