"""Opening models and bundles: which variant, which engine, with which pipeline."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_runtime.bundle import Bundle, open_bundle
from fastserve_runtime.engines import ENGINES, installed_engine
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.manifest import Variant
from fastserve_runtime.session import Engine, Session

if TYPE_CHECKING:
    from fastserve_runtime.pipelines import Pipeline
    from fastserve_runtime.text import TextPreprocessor

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
    from fastserve_runtime.pipelines import PIPELINES

    with open_bundle(os.fspath(bundle)) as source:
        chosen, found = choose_variant(source, variant, engine)
        preprocessor = open_preprocessor(source)
        session = open_variant(source, chosen, found, threads=checked_threads(threads))
        module = PIPELINES.load(source.manifest.task)
        pipeline: Pipeline = module.open_pipeline(session, preprocessor, source.manifest.task_settings)
        return pipeline


def open_model(path: str | os.PathLike[str], *, engine: str | None = None, threads: int | None = None) -> Session:
    """Open a bare model file: `.onnx`, `.tflite` or `.pte`.

    Raises:
        UsageError: there is no such file, or its ending is unknown and no engine is named.
        BundleError: the engine refuses the model.
        EnvironmentFailure: the engine is not installed.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"There is no model file at '{file}'.", "Check the path.")
    if engine is not None:
        found = installed_engine(ENGINES.load(engine).FORMAT, engine)
    elif file.suffix in _FORMAT_OF_SUFFIX:
        found = installed_engine(_FORMAT_OF_SUFFIX[file.suffix])
    else:
        raise UsageError(
            f"'{file.name}' has an unknown ending.",
            f"Known are {', '.join(_FORMAT_OF_SUFFIX)}; or name an engine.",
        )
    return found.open_session(file, None, threads=checked_threads(threads))


def choose_variant(bundle: Bundle, variant: str | None = None, engine: str | None = None) -> tuple[Variant, Engine]:
    """Return the chosen variant if it runs here, else the best other one, with its engine."""
    manifest = bundle.manifest
    if variant is not None:
        wanted = manifest.variant(variant)
        return wanted, usable_engine(wanted, engine)
    if engine is not None:
        executed, formats = ENGINES.load(engine).FORMAT, sorted({v.format for v in manifest.variants})
        if executed not in formats:
            raise UsageError(f"The engine '{engine}' executes {executed}; the bundle has {', '.join(formats)}.")
    chosen = manifest.variant(manifest.chosen)
    reasons = []
    for candidate in (chosen, *(v for v in manifest.variants if v is not chosen)):
        try:
            return candidate, usable_engine(candidate, engine)
        except (EnvironmentFailure, UsageError) as error:
            reasons.append(f"{candidate.id}: {error}")
    raise EnvironmentFailure("No variant of the bundle runs here.", " ".join(reasons))


def usable_engine(variant: Variant, name: str | None = None) -> Engine:
    """Return an installed engine that meets what a variant requires.

    Raises:
        EnvironmentFailure: it is not installed or too old.
    """
    engine = installed_engine(variant.format, name)
    version = engine.version() or ""
    least = variant.requires.least_version
    if least and version_key(version) < version_key(least):
        raise EnvironmentFailure(
            f"Variant '{variant.id}' needs {engine.NAME} {least} or later; {version} is installed.",
            f"Update it: {engine.INSTALL}>={least}.",
        )
    return engine


def open_variant(bundle: Bundle, variant: Variant, engine: Engine, *, threads: int = 1) -> Session:
    """Check a variant's files and open it. All graphs of a variant lie in one file today."""
    file = next(iter(variant.graphs.values())).file
    for path in variant.files:
        if path != file:  # `model` checks that one
            bundle.read(path)
    return engine.open_session(bundle.model(file), variant.graphs, threads=threads)


def open_preprocessor(bundle: Bundle) -> TextPreprocessor:
    """Open the bundle's preprocessing.

    Raises:
        EnvironmentFailure: its kind is not known to this version, or its library is missing.
        BundleError: its settings or its file are missing or damaged.
    """
    from fastserve_runtime.text import KIND, TextPreprocessor, TokenizerSettings

    preprocessing = bundle.manifest.preprocessing
    if preprocessing.kind != KIND:
        raise EnvironmentFailure(
            f"The bundle's preprocessing is of kind '{preprocessing.kind}', which this runtime does not know.",
            "Update fastserve-runtime.",
        )
    if not preprocessing.files:
        raise BundleError("The bundle's manifest names no tokenizer file.", "Export the bundle again.")
    settings = TokenizerSettings.from_document(preprocessing.settings)
    return TextPreprocessor(bytes(bundle.read(preprocessing.files[0])), settings)


def checked_threads(threads: int | None) -> int:
    """Return the number of threads, 1 if not given.

    Raises:
        UsageError: it is below 1.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads were asked for.", "Ask for at least 1.")
    return threads or 1


def version_key(version: str) -> tuple[int, ...]:
    """Return the release numbers of a version for comparing, less zeros at the end: '1.32.0+cpu' → (1, 32)."""
    release = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in release.group().split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
