"""LiteRT's GPU accelerator in floats of 16 bits, as an engine: what it does on phones unless it is told not to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve_device_tests.executors import litert_gpu as full
from fastserve_device_tests.executors.litert_compiling import Compiler
from fastserve_runtime.errors import UsageError
from fastserve_runtime.manifest import Graph, Variant
from fastserve_runtime.session import ModelSource

NAME = "LiteRT on the GPU in fp16"
FORMAT = full.FORMAT
FAMILY = full.FAMILY
INSTALL = full.INSTALL


def version() -> str | None:
    """Return the installed version of LiteRT."""
    return full.version()


def import_library() -> Any:
    """Import LiteRT's compiled models and return their module; see `Engine.import_library`."""
    return full.import_library()


def lacking(variant: Variant) -> list[str]:
    """Return none: what the GPU lacks runs on the CPU, and the placement tells."""
    return full.lacking(variant)


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> HalfSession:
    """Compile a TFLite model; see `Engine.open_session`. Its one graph must be given."""
    if graphs is None or len(graphs) != 1:
        count = "a bare file" if graphs is None else f"a model of {len(graphs)} graphs"
        raise UsageError(f"{NAME} does not open {count}.", "Open a bundle whose model has one graph.")
    source = str(model) if isinstance(model, Path) else bytes(model)
    ((name, graph),) = graphs.items()
    compiler = Compiler(import_library(), source, NAME, threads, is_half=True)
    return HalfSession(compiler, compiler.compiled(graph.entry, {}), graph.entry, {name: graph.signature}, threads)


class HalfSession(full.LiteRTGpuSession):
    """A model with one graph, compiled for floats of 16 bits."""

    engine = NAME
