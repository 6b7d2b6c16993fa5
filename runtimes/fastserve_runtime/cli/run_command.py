"""The command `run`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.cli.task_flags import run_face
from fastserve_runtime.cli.view import View
from fastserve_runtime.errors import EXIT_OK
from fastserve_runtime.loading import load
from fastserve_runtime.pipelines._text_run import run_texts
from fastserve_runtime.results import Results


def run(arguments: Namespace, view: View) -> int:
    """Use a bundle as its task's pipeline says.

    Raises:
        FastServeError: see `load`, and what the pipeline says of its flags.
        OSError: a result cannot be written.
    """
    with open_bundle(arguments.bundle) as bundle:
        face = run_face(bundle.manifest.task)
    whole: Callable[[Namespace, View], int] | None = getattr(face, "run", None)
    if whole is not None:
        return whole(arguments, view)
    answer: Callable[[Any, Namespace], Results] = getattr(face, "run_arguments", run_texts)
    how = {name: getattr(arguments, name) for name in ("variant", "engine", "threads")}
    with load(arguments.bundle, **how) as pipeline:
        results = answer(pipeline, arguments)
    if arguments.as_json:
        show_document(results.documents)
        return EXIT_OK
    for table in results.tables:
        view.table(table)
    return EXIT_OK
