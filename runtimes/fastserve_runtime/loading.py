"""Opening a bundle with the pipeline of its task, or a bare model file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_runtime.engines import ENGINES, installed_engine
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.plugins import PIPELINES
from fastserve_runtime.sessions.session import Session
from fastserve_runtime.variants import (
    checked_threads,
    choose_variant,
    open_preprocessor,
    open_variant,
    warn_of_fallback,
)

if TYPE_CHECKING:
    from fastserve_runtime.pipelines import Pipeline
    from fastserve_runtime.processes.limits import Limits

_FORMAT_OF_SUFFIX = {".onnx": "onnx", ".tflite": "tflite", ".pte": "executorch"}


def load(
    bundle: str | os.PathLike[str],
    *,
    variant: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
) -> Pipeline:
    """Open a bundle's best variant that runs here, with the pipeline of its task.

    Args:
        bundle: a bundle's directory or zip file.
        variant: take this variant and no other.
        engine: take this engine and no other.
        threads: how many threads one call may use; 1 if left out.

    Raises:
        UsageError: there is no bundle, or the engine does not execute the variant's format.
        BundleError: the bundle is damaged, or has no such variant.
        EnvironmentFailure: no engine for any of its variants is installed; the message says what to install.
    """
    from fastserve_runtime.bundle.reader import open_bundle

    with open_bundle(os.fspath(bundle)) as source:
        chosen, found = choose_variant(source, variant, engine)
        if engine is None:
            warn_of_fallback(found)
        preprocessor = open_preprocessor(source)
        session = open_variant(source, chosen, found, threads=checked_threads(threads))
        module = PIPELINES.load(source.manifest.task)
        pipeline: Pipeline = module.open_pipeline(session, preprocessor, source.manifest.task_settings)
        return pipeline


def open_model(
    path: str | os.PathLike[str],
    *,
    engine: str | None = None,
    threads: int | None = None,
    isolate: bool | Limits = False,
) -> Session:
    """Open a bare model file: `.onnx`, `.tflite` or `.pte`.

    The file is checked (its size, its identifier, and its structure as far as the engine does that) before it is
    loaded. Some damage gets through to an engine and crashes it: open what you do not trust with `isolate`.

    Args:
        path: the model file.
        engine: take this engine and no other.
        threads: how many threads one call may use; 1 if left out.
        isolate: load it in a process of its own, so that a crash is an error; `Limits` also bound that process's time
            for an answer and its memory.

    Raises:
        UsageError: there is no such file, or its ending is unknown and no engine is named.
        BundleError: the engine refuses the model, or crashed on it in its own process.
        EnvironmentFailure: the engine is not installed.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"There is no model file at '{file}'.", "Check the path.")
    if file.stat().st_size == 0:
        raise BundleError(f"The model file '{file}' is empty.", "Copy or export it again.")
    if engine is not None:
        found = installed_engine(ENGINES.load(engine).FORMAT, engine)
    elif file.suffix in _FORMAT_OF_SUFFIX:
        found = installed_engine(_FORMAT_OF_SUFFIX[file.suffix])
        warn_of_fallback(found)
    else:
        raise UsageError(
            f"'{file.name}' has an unknown ending.",
            f"Known are {', '.join(_FORMAT_OF_SUFFIX)}; or name an engine.",
        )
    if isolate is not False:
        from fastserve_runtime.processes.isolation import open_isolated

        limits = None if isolate is True else isolate
        return open_isolated(file, found.NAME, threads=checked_threads(threads), limits=limits)
    return found.open_session(file, None, threads=checked_threads(threads))
