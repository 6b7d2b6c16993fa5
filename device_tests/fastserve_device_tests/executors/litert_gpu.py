"""LiteRT's GPU accelerator, by its compiled models (`ai_edge_litert.compiled_model`), as an engine.

An open size is set when a model is compiled, so each length of text is compiled for itself.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_device_tests.compilers.litert_compiling import Compiled, Compiler
from fastserve_device_tests.executors.not_opened import only_graph
from fastserve_device_tests.processes.native_words import native_words
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.engines import litert as cpu
from fastserve_runtime.errors import EnvironmentFailure, one_line
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import ModelSource, Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor

INSTALL = cpu.INSTALL

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiteRTGpu:
    """The accelerator with one width of floats, as an engine (`fastserve_runtime.sessions.session.Engine`).

    Attributes:
        NAME: of the engine, as sessions tell it.
        is_half: whether it may compute in floats of 16 bits, as it does on phones unless it is told not to.
        FORMAT: `tflite`.
        FAMILY: the variant's requirement of LiteRT holds here too.
        INSTALL: the command that installs LiteRT.
    """

    NAME: str
    is_half: bool = False
    FORMAT: str = cpu.FORMAT
    FAMILY: str = cpu.FAMILY
    INSTALL: str = INSTALL

    def version(self) -> str | None:
        """Return the installed version of LiteRT."""
        return cpu.version()

    def import_library(self) -> Any:
        """Import LiteRT's compiled models and return their module; see `Engine.import_library`."""
        try:
            with native_output_logged(_logger):
                return importlib.import_module("ai_edge_litert.compiled_model")
        except ImportError as error:
            problem = f"LiteRT's compiled models cannot be imported: {one_line(error)}."
            raise EnvironmentFailure(problem, f"Install LiteRT 2.1 or later: {INSTALL}.") from error

    def lacking(self, variant: Variant) -> list[str]:
        """Return none: what the GPU lacks runs on the CPU, and the placement tells."""
        return cpu.lacking(variant)

    def open_session(self, model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> LiteRTGpuSession:
        """Compile a TFLite model; see `Engine.open_session`. Its one graph must be given."""
        name, graph = only_graph(self.NAME, graphs)
        source = str(model) if isinstance(model, Path) else bytes(model)
        compiler = Compiler(self.import_library(), source, self.NAME, threads, is_half=self.is_half)
        compiled = compiler.compiled(graph.entry, {})
        return LiteRTGpuSession(self.NAME, compiler, compiled, graph.entry, {name: graph.signature}, threads)


FULL = LiteRTGpu("LiteRT on the GPU")
HALF = LiteRTGpu("LiteRT on the GPU in fp16", is_half=True)


class LiteRTGpuSession(NamedSession):
    """A model with one graph, compiled anew whenever the shapes of its inputs change."""

    def __init__(
        self,
        engine: str,
        compiler: Compiler,
        compiled: Compiled,
        entry: str,
        graphs: Mapping[str, Signature],
        threads: int,
    ) -> None:
        super().__init__(graphs, threads)
        self.engine = engine
        self._compiler = compiler
        self._compiled: Compiled | None = compiled
        self._entry = entry
        self._words = compiled.words

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        shapes = {name: value.shape for name, value in inputs.items()}
        compiled = self._compiled
        if compiled is not None and compiled.shapes == shapes:
            self._run(compiled, inputs)
        else:
            self._compiled = compiled = None  # let go of the old one first, for its memory
            self._compiled = compiled = self._compiler.compiled(self._entry, shapes)
            with native_words(_logger) as words:
                self._run(compiled, inputs)
            self._words = [*compiled.words, *words]
        found = compiled.model.get_output_tensor_details(self._entry)
        results: dict[str, Tensor] = {}
        for spec in self.graphs[graph].outputs:
            shape = tuple(found[spec.name]["shape"])
            results[spec.name] = compiled.outputs[spec.name].read(prod(shape), spec.dtype).reshape(shape)
        return results

    def _run(self, compiled: Compiled, inputs: Mapping[str, Tensor]) -> None:
        for name, value in inputs.items():
            compiled.inputs[name].write(value)
        compiled.model.run_by_name(self._entry, compiled.inputs, compiled.outputs)

    def _placement(self) -> Placement:
        return self._compiler.placement(self._words)

    def _release(self) -> None:
        self._compiled = None
