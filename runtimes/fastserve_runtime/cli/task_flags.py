"""Flags of `run` that a task brings: its pipeline's module says them, so they are known once the bundle is."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.errors import FastServeError
from fastserve_runtime.plugins import PIPELINES

AddFlags = Callable[[ArgumentParser], None]
COMMAND = "run"


def task_flags(words: Sequence[str]) -> AddFlags | None:
    """Return what adds the flags of a task to the command `run`; None for others, and where there are none.

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
                add: AddFlags | None = getattr(PIPELINES.load(bundle.manifest.task), "add_run_flags", None)
        except FastServeError:
            continue  # a file that a flag names; or the command tells what is wrong with its bundle
        return add
    return None
