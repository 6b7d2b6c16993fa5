"""Engines: one module each, found by name and imported when used.

Third parties add theirs by the entry-point group `fastserve_runtime.engines`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.plugins import PartFolder
from fastserve_runtime.sessions.session import Engine

ENGINES = PartFolder("fastserve_runtime.engines", "fastserve_runtime.engines", "engine")


def engines_for(format_name: str) -> Iterator[Engine]:
    """Yield the engines that execute a format, best first: our own in order of their names, then third parties'.

    A third party's that cannot be imported is left out with a warning.
    """
    for name in ENGINES.built_in():
        engine: Engine = ENGINES.load(name)
        if format_name == engine.FORMAT:
            yield engine
    for name in ENGINES.third_party():
        try:
            engine = ENGINES.load(name)
        except Exception as error:  # whatever a stranger's module does when it is imported
            warnings.warn(f"The engine '{name}' of another package cannot be imported: {error}.", stacklevel=2)
            continue
        if format_name == engine.FORMAT:
            yield engine


def installed_engine(format_name: str, name: str | None = None) -> Engine:
    """Return an installed engine for a format.

    Args:
        format_name: `onnx`, `tflite` or `executorch`, or a third party's.
        name: take this engine and no other.

    Raises:
        UsageError: the named engine does not execute this format, or no engine does.
        EnvironmentFailure: none is installed; the message says what to install.
    """
    engines = list(engines_for(format_name)) if name is None else [ENGINES.load(name)]
    if not engines:
        raise UsageError(f"No engine is known for the format '{format_name}'.")
    if format_name != engines[0].FORMAT:
        raise UsageError(f"The engine '{name}' executes {engines[0].FORMAT}, not {format_name}.")
    for engine in engines:
        if engine.version() is not None:
            return engine
    raise EnvironmentFailure(
        f"No engine for {format_name} is installed.",
        f"Install one: {' or '.join(e.INSTALL for e in engines)}.",
    )
