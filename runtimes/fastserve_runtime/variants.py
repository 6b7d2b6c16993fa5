"""A bundle's variants: which one runs here, on which engine, what that takes, and opening it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_runtime.bundle.manifest import Manifest, Variant
from fastserve_runtime.engines import ENGINES, engines_for, installed_engine
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.installation import update_command
from fastserve_runtime.sessions.session import Engine, ModelSource, Session
from fastserve_runtime.sessions.token_ids import id_rows, vocabulary_size

if TYPE_CHECKING:
    from fastserve_runtime.bundle.reader import Bundle
    from fastserve_runtime.preprocessors.kinds import Preprocessor


def choose_variant(bundle: Bundle, variant: str | None = None, engine: str | None = None) -> tuple[Variant, Engine]:
    """Return the chosen variant if it runs here, else the best other one, with its engine."""
    manifest = bundle.manifest
    if variant is not None:
        wanted = manifest.variant(variant)
        check_portable(wanted)
        return wanted, usable_engine(wanted, engine)
    if engine is not None:
        executed, formats = ENGINES.load(engine).FORMAT, sorted({v.format for v in manifest.variants})
        if executed not in formats:
            raise UsageError(f"The engine '{engine}' executes {executed}; the bundle has {', '.join(formats)}.")
    chosen = manifest.variant(manifest.chosen)
    reasons = []
    for candidate in (chosen, *(v for v in manifest.variants if v is not chosen)):
        try:
            check_portable(candidate)
            return candidate, usable_engine(candidate, engine)
        except (EnvironmentFailure, UsageError) as error:
            reasons.append(f"{candidate.id}: {error}")
    raise EnvironmentFailure("No variant of the bundle runs here.", " ".join(reasons))


def usable_engine(variant: Variant, name: str | None = None) -> Engine:
    """Return the first installed engine that meets what a variant requires.

    Raises:
        UsageError: the named engine does not execute the variant's format, or no engine does.
        EnvironmentFailure: none is installed, or those that are do not meet it; the message says why and what to do.
    """
    check_platform(variant)
    installed_engine(variant.format, name)  # none at all has a message of its own
    engines = engines_for(variant.format) if name is None else iter([ENGINES.load(name)])
    failures = []
    for engine in engines:
        version = engine.version()
        if version is None:
            continue
        failure = unmet(variant, engine, version)
        if failure is None:
            return engine
        failures.append(failure)
    raise EnvironmentFailure(" ".join(f.problem for f in failures), failures[0].remedy)


def unmet(variant: Variant, engine: Engine, version: str) -> EnvironmentFailure | None:
    """Return what an installed engine lacks to run a variant, or None.

    A least version counts for engines of the family that the manifest names; any other is judged by its operators.
    """
    minimum = variant.requires.min_version
    is_family = variant.requires.engine == engine.FAMILY
    if is_family and minimum and version_key(version) < version_key(minimum):
        return EnvironmentFailure(
            f"Variant '{variant.id}' needs {engine.NAME} {minimum} or later; {version} is installed.",
            f"Update it: {update_command(engine.INSTALL, minimum)}.",
        )
    missing = engine.lacking(variant)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return EnvironmentFailure(
            f"{engine.NAME} {version} does not have {', '.join(missing[:3])}{more}, "
            f"which variant '{variant.id}' needs.",
            f"Use the engine '{variant.requires.engine}', or another variant.",
        )
    return None


def warn_of_fallback(engine: Engine) -> None:
    """Say which engine is used where it is not the best for its format, and what would bring the best one."""
    preferred = next(engines_for(engine.FORMAT))
    if engine.NAME != preferred.NAME:
        warnings.warn(
            f"{engine.FORMAT} runs with the engine '{engine.NAME}', since '{preferred.NAME}' is not installed or too "
            f"old for the model: {preferred.INSTALL}.",
            stacklevel=3,
        )


def check_portable(variant: Variant) -> None:
    """Refuse a variant that is made for one target alone.

    Raises:
        EnvironmentFailure: naming the target, and what checks the variant there.
    """
    if variant.target is not None:
        raise EnvironmentFailure(
            f"Variant '{variant.id}' is made for {variant.target}, which no engine of this runtime executes.",
            f"Name another variant; 'fastserve conform --target {variant.target}' checks this one.",
        )


def check_platform(variant: Variant) -> None:
    """Refuse a variant that is made for other platforms than this one.

    Raises:
        EnvironmentFailure: naming this platform and the variant's.
    """
    here, wanted = this_platform(), variant.requires.platforms
    if wanted and not {here, here.partition("-")[0]} & set(wanted):
        raise EnvironmentFailure(
            f"Variant '{variant.id}' is made for {', '.join(wanted)}; this is {here}.", "Use another variant."
        )


def this_platform() -> str:
    """Return this platform as manifests name it: `linux-x86_64`, `linux-aarch64`, `macos-arm64`, `windows-amd64`.

    A manifest may name the system alone, `linux`, and then means every processor.
    """
    import platform

    system = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
    return f"{system}-{platform.machine().lower()}"


def open_variant(bundle: Bundle, variant: Variant, engine: Engine, *, threads: int = 1) -> Session:
    """Check a variant's files and open it."""
    session = engine.open_session(checked_model(bundle, variant), variant.graphs, threads=threads)
    session.model_id = model_id(bundle.manifest, variant)
    session.id_rows = id_rows(session.graphs, vocabulary_size(bundle.manifest.preprocessing.settings))
    return session


def model_id(manifest: Manifest, variant: Variant) -> str:
    """Return what tells a variant from all others: a SHA-256 over the files that it needs, in any bundle."""
    from fastserve_runtime.bundle.canonical_json import digest

    return digest(sorted(entry.sha256 for entry in manifest.shipped_files(variant)))


def checked_model(bundle: Bundle, variant: Variant) -> ModelSource:
    """Compare a variant's files with the manifest and return its model; all graphs of a variant lie in one file today.

    Raises:
        BundleError: a file is missing, altered or damaged.
        EnvironmentFailure: the model's weights are in a file of their own, and the bundle is a zip file, in which
            engines cannot find it.
    """
    file = next(iter(variant.graphs.values())).file
    others = [path for path in variant.files if path != file]
    for path in others:
        bundle.read(path)
    model = bundle.model(file)
    if others and not isinstance(model, Path):
        raise EnvironmentFailure(
            f"Variant '{variant.id}' has its weights in a file of their own, which cannot be used inside a zip file.",
            "Unpack the bundle into a directory.",
        )
    return model


def open_preprocessor(bundle: Bundle) -> Preprocessor:
    """Open what makes a model's tensors, or tokens to be continued, of the kind that the manifest names.

    Raises:
        EnvironmentFailure: its library is missing.
        BundleError: its kind is not known to this version, or its settings or its file are missing or damaged.
    """
    from fastserve_runtime.preprocessors.kinds import preprocessor_kind

    preprocessing = bundle.manifest.preprocessing
    return preprocessor_kind(preprocessing.kind).open_preprocessor(preprocessing, lambda path: bytes(bundle.read(path)))


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
