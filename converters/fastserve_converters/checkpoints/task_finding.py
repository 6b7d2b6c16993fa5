"""Which task a checkpoint is for: by its config's architecture, else by the weights of its head."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fastserve_converters.checkpoints.families import Family
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.checkpoints.weight_coverage import TASK_HEADS
from fastserve_runtime.errors import UsageError

AUTO = "auto"


@dataclass(frozen=True)
class FoundTask:
    """A task, and what the user should know of how it was found; empty where the config says it."""

    name: str
    notes: tuple[str, ...] = ()


def find_task(config: Mapping[str, Any], family: Family, weights: Collection[str], wanted: str) -> FoundTask:
    """Return the task that a checkpoint is exported for.

    Args:
        config: the content of `config.json`.
        family: the model's.
        weights: names of its tensors; empty where they are not known.
        wanted: a task, or `auto`.

    Raises:
        UsageError: the checkpoint has no head for the task, or has one that is not supported or not spoken of.
    """
    tasks: dict[str, Task] = {n: TASKS.load(n) for n in (*TASKS.built_in(), *TASKS.third_party())}
    architecture = _architecture(config)
    head = _task_of_weights(tasks, family, weights)
    found = head if architecture is None and head else _task_of_name(tasks, architecture or _unnamed(config))
    if wanted != AUTO:
        return FoundTask(_checked(tasks, family, architecture or _unnamed(config), found, head, wanted))
    if found is None:
        raise UsageError(
            f"The checkpoint's architecture {architecture} has a head that is not supported.",
            f"Supported are heads for {', '.join(_fitting(tasks, family))}; "
            f"its encoder alone is exported with {_anyway(tasks)}.",
        )
    if tasks[found].IN_ANY_MODEL:
        _refuse_head_unspoken_of(tasks, architecture, head, weights)
    if architecture is None and head and not family.generates:
        return FoundTask(found, (f"config.json names no architecture; the weights have a head for {found}.",))
    return FoundTask(found)


def _architecture(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else names
    return str(name) if name else None


def _unnamed(config: Mapping[str, Any]) -> str:
    return f"{config.get('model_type')}Model"


def _task_of_name(tasks: Mapping[str, Task], architecture: str) -> str | None:
    # The most of the name counts: a GPT2LMHeadModel is also some Model.
    endings = {head: n for n, task in tasks.items() for head in task.HEADS if architecture.endswith(head)}
    return endings[max(endings, key=len)] if endings else None


def _task_of_weights(tasks: Mapping[str, Task], family: Family, weights: Collection[str]) -> str | None:
    """Return the task whose head the weights have; decoders may have theirs in their embedding."""
    fitting = _fitting(tasks, family)
    for name, task in fitting.items():
        for parts in getattr(task, "HEAD_WEIGHTS", ()):
            if all(_is_among(part, weights) for part in parts):
                return name
    return next(iter(fitting)) if family.generates else None


def _fitting(tasks: Mapping[str, Task], family: Family) -> dict[str, Task]:
    """Return the tasks for models of the family's kind."""
    return {name: task for name, task in tasks.items() if family.model == task.MODEL}


def _is_among(part: str, weights: Collection[str]) -> bool:
    if not part.startswith("."):
        return part in weights
    return any(weight.endswith(part) or weight == part[1:] for weight in weights)


def _checked(
    tasks: Mapping[str, Task], family: Family, architecture: str, found: str | None, head: str | None, wanted: str
) -> str:
    if wanted not in tasks:
        raise UsageError(
            f"The task '{wanted}' is not supported.", f"Supported are: {', '.join(_fitting(tasks, family))}."
        )
    if wanted not in (found, head) and not tasks[wanted].IN_ANY_MODEL:
        raise UsageError(
            f"The checkpoint is a {architecture}, which has no head for {wanted}.",
            "Fine-tune one first, or leave --task out.",
        )
    return wanted


def _refuse_head_unspoken_of(
    tasks: Mapping[str, Task], architecture: str | None, head: str | None, weights: Collection[str]
) -> None:
    """Refuse to leave out a head that the config does not speak of, unless the user says so."""
    heads = sorted(name for name in weights if name.partition(".")[0] in TASK_HEADS)
    if not heads:
        return
    says = "names no architecture" if architecture is None else f"says {architecture}, which has no head"
    way = f"Export with that head by --task {head}" if head else "Name the architecture in config.json"
    raise UsageError(
        f"The checkpoint's weights have a head ('{heads[0]}'), and its config.json {says}.",
        f"{way}, or its encoder alone with {_anyway(tasks)}.",
    )


def _anyway(tasks: Mapping[str, Task]) -> str:
    return " or ".join(f"--task {n}" for n, task in tasks.items() if task.IN_ANY_MODEL)
