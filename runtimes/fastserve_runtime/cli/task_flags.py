"""What the command `run` knows of a bundle's task: its pipeline says which flags there are, and what is done."""

from __future__ import annotations

import importlib
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.errors import FastServeError, UsageError
from fastserve_runtime.pipelines._text_run import add_text_flags
from fastserve_runtime.plugins import PIPELINES

COMMAND = "run"


def run_face(task: str) -> Any:
    """Return the module that says what `run` does for a task: its pipeline's, or that which it names.

    Raises:
        UsageError: there is no such task.
    """
    pipeline = PIPELINES.load(task)
    named: str | None = getattr(pipeline, "RUN_MODULE", None)
    return pipeline if named is None else importlib.import_module(named)


def run_task(words: Sequence[str]) -> str | None:
    """Return the task of the bundle that a command line runs; None where it runs none that can be opened.

    Args:
        words: of the command line. The first that is a bundle is taken for the one that is run.
    """
    if not words or words[0] != COMMAND:
        return None
    for word in words[1:]:
        if word.startswith("-") or not Path(word).exists():
            continue
        try:
            with open_bundle(word) as bundle:
                return bundle.manifest.task
        except FastServeError:
            continue  # a file that a flag names; or the command tells what is wrong with its bundle
    return None


def add_task_flags(parser: ArgumentParser, task: str | None) -> None:
    """Add the flags of a task to those of `run`; of every task of ours where it is not known.

    Raises:
        UsageError: there is no such task.
    """
    for name in PIPELINES.built_in() if task is None else (task,):
        getattr(run_face(name), "add_run_flags", add_text_flags)(parser)


def refuse_flags_of_others(unknown: Iterable[str], task: str) -> None:
    """Refuse words that are flags of other tasks.

    Args:
        unknown: words of a command line that mean nothing for the bundle's task.
        task: the bundle's.

    Raises:
        UsageError: some are, naming them.
    """
    others = ArgumentParser(add_help=False, conflict_handler="resolve")
    add_task_flags(others, None)
    known = {flag for action in others._actions for flag in action.option_strings}
    strange = [flag for word in unknown if (flag := word.partition("=")[0]) in known]
    if strange:
        raise UsageError(
            f"{', '.join(strange)} cannot be used with a bundle of the task '{task}'.",
            "Leave it out." if len(strange) == 1 else "Leave them out.",
        )
