"""Rockchip's RKNN toolkit: its compiler for a chip's NPU, and its simulator of that chip.

The toolkit needs packages that FastServe's own environment has newer, so a process of another environment imports
this module, and this module needs nothing but numpy and what stands in `scripts/setup_rknn.sh`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_device_tests.compilers.onnx_opset import lower_opset
from fastserve_device_tests.processes.native_words import native_words
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.distributions import installed_version
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError, one_line
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import ModelSource, Placement

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor

MAX_OPSET = 19
NPU = "NPU"
OWN_FORMAT = "rknn"
_MODEL = "model.onnx"
_COMPILED = "model.rknn"
_MAGIC = b"RKNN"
_NOT_COMPUTING = {"InputOperator", "OutputOperator"}
_LAYER = re.compile(r"RKNN: \[[\d:.]+\]\s+\d+\s+(?P<operator>\S+)\s+\S+\s+(?P<where>[CGN]PU)\s")
_logger = logging.getLogger(__name__)
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


@dataclass(frozen=True)
class RknnSimulator:
    """The toolkit for one chip, as an engine (`fastserve_runtime.sessions.session.Engine`).

    Attributes:
        platform: the chip, as the toolkit calls it.
        NAME: of the engine, as sessions tell it.
        FORMAT: `onnx`.
        FAMILY: whose version `version` gives; no variant requires it.
        INSTALL: the command that makes the environment.
    """

    platform: str
    NAME: str = "Rockchip's RKNN simulator"
    FORMAT: str = "onnx"
    FAMILY: str = "rknn-toolkit2"
    INSTALL: str = "bash scripts/setup_rknn.sh"

    def version(self) -> str | None:
        """Return the installed version of the toolkit."""
        return installed_version("rknn-toolkit2", "rknn")

    def import_library(self) -> Any:
        """Import the toolkit and return its API; see `Engine.import_library`."""
        try:
            with native_output_logged(_logger):
                return importlib.import_module("rknn.api")
        except ImportError as error:
            problem = f"Rockchip's RKNN toolkit cannot be imported: {one_line(error)}."
            raise EnvironmentFailure(problem, f"Make its environment afresh: {self.INSTALL}.") from error

    def lacking(self, variant: Variant) -> list[str]:  # noqa: ARG002 -- it tells only when it compiles
        """Return none: which operators the compiler lacks is known when it has tried."""
        return []

    def open_session(
        self,
        model: ModelSource,
        graphs: Mapping[str, Graph] | None,
        *,
        threads: int,  # the simulator takes as many as it likes
    ) -> RknnSession:
        """Compile an ONNX model; see `Engine.open_session`. Its one graph must be given.

        A file that the toolkit compiled is given to it, too. Version 2.5.0 answers that its simulator opens none.
        """
        if graphs is None:
            raise UsageError(f"{self.NAME} does not open bare files.", "Open a bundle instead.")
        if is_compiled(model):
            raise self._refused_compiled(model)
        portable = _lowered(model)
        rknn = self.import_library()
        folder = tempfile.TemporaryDirectory(prefix="fastserve-rknn-")
        try:
            toolkit, log = self._compiled(rknn, portable, Path(folder.name), lambda toolkit: toolkit.init_runtime())
        except BaseException:
            folder.cleanup()
            raise
        signatures = {name: graph.signature for name, graph in graphs.items()}
        return RknnSession(toolkit, signatures, threads, self.NAME, portable, nodes_of_processors(log), folder)

    def write_compiled(self, model: Path, out: Path) -> dict[str, int]:
        """Compile an ONNX model and write the file that the chip's runtime opens.

        Args:
            model: an ONNX file.
            out: the file to write.

        Returns:
            What `nodes_of_processors` tells.

        Raises:
            BundleError: the compiler refuses the model.
            EnvironmentFailure: the toolkit cannot be imported.
        """
        portable = _lowered(model)
        rknn = self.import_library()
        with tempfile.TemporaryDirectory(prefix="fastserve-rknn-") as folder:
            toolkit, log = self._compiled(rknn, portable, Path(folder), lambda t: t.export_rknn(str(out.absolute())))
            with native_output_logged(_logger):
                toolkit.release()
        return nodes_of_processors(log)

    def _compiled(self, rknn: Any, model: Any, folder: Path, finish: Callable[[Any], int]) -> tuple[Any, str]:
        """Return the toolkit with a model that is compiled and finished, and what the compiler said.

        Files of the compiler go into the working directory, so that is a folder of its own for this while.

        Args:
            rknn: the toolkit's API.
            model: an `onnx.ModelProto`.
            folder: an empty one.
            finish: what is done with the compiled model, such as setting it up in the simulator; 0 if that went well.
        """
        file = folder / _MODEL
        file.write_bytes(model.SerializeToString())
        done, problem, words = False, "", list[str]()
        try:
            with contextlib.chdir(folder), native_words(_logger) as words:
                toolkit = rknn.RKNN(verbose=True)  # else it does not tell which processor takes what
                done = (
                    toolkit.config(target_platform=self.platform) == 0
                    and toolkit.load_onnx(model=str(file)) == 0
                    and toolkit.build(do_quantization=False) == 0
                    and finish(toolkit) == 0
                )
        except Exception as error:  # the toolkit raises what it meets, with the traceback as the message
            problem = _last_line(str(error))
        if not done:
            problem = problem or _complaint(words)
            raise BundleError(
                f"{self.NAME} cannot compile the model for {self.platform}: {problem}.",
                "Use another target; onnx:cpu tells whether the file itself is right.",
            )
        return toolkit, "\n".join(words)

    def _refused_compiled(self, model: ModelSource) -> EnvironmentFailure:
        """Give a compiled file to the toolkit, and return why it cannot be executed here."""
        rknn = self.import_library()
        with tempfile.TemporaryDirectory(prefix="fastserve-rknn-") as folder:
            file = Path(folder) / _COMPILED
            file.write_bytes(model.read_bytes() if isinstance(model, Path) else bytes(model))
            problem, words = "", list[str]()
            try:
                with contextlib.chdir(folder), native_words(_logger) as words:
                    toolkit = rknn.RKNN(verbose=False)
                    opened = toolkit.load_rknn(str(file)) == 0 and toolkit.init_runtime() == 0
                    toolkit.release()
            except Exception as error:  # as when compiling
                opened, problem = False, _last_line(str(error))
        if opened:  # a later version may; what it computes is then still to be read back
            problem = "this version of FastServe compiles for it only"
        return EnvironmentFailure(
            f"{self.NAME} does not execute compiled files: {(problem or _complaint(words)).rstrip('!')}.",
            "Check the portable variant that it was made from.",
        )


class RknnSession(NamedSession):
    """A compiled model in the simulator."""

    def __init__(
        self,
        toolkit: Any,
        graphs: Mapping[str, Signature],
        threads: int,
        engine: str,
        model: Any,
        placed: Mapping[str, int],
        folder: tempfile.TemporaryDirectory[str],
    ) -> None:
        super().__init__(graphs, threads)
        self.engine = engine
        self._toolkit = toolkit
        self._placed = placed
        self._folder = folder
        weights = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [value.name for value in model.graph.input if value.name not in weights]
        self._outputs = [value.name for value in model.graph.output]

    def _placement(self) -> Placement:
        if not self._placed:
            return Placement(None, f"{self.engine} did not print which processor executes what")
        return Placement(self._placed, "the compiler's table of layers")

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        problem, results, words = "", None, list[str]()
        try:
            with native_words(_logger) as words:
                # Only tensors of four dimensions have a layout, and those of ONNX are never turned around.
                results = self._toolkit.inference(inputs=[inputs[n] for n in self._inputs], data_format="nchw")
        except Exception as error:  # as when compiling
            problem = _last_line(str(error))
        if results is None:
            raise EnvironmentFailure(
                f"{self.engine} failed while running: {problem or _complaint(words)}.",
                "Use another target; onnx:cpu tells whether the file itself is right.",
            )
        found = dict(zip(self._outputs, results, strict=True))
        return {spec.name: found[spec.name].astype(spec.dtype) for spec in self.graphs[graph].outputs}

    def _release(self) -> None:
        with native_output_logged(_logger):
            self._toolkit.release()
        self._toolkit = None
        self._folder.cleanup()


def is_compiled(model: ModelSource) -> bool:
    """Whether a file is one that the toolkit compiled."""
    if isinstance(model, Path):
        with model.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    return bytes(model[: len(_MAGIC)]) == _MAGIC


def nodes_of_processors(log: str) -> dict[str, int]:
    """Return from what the compiler printed how many layers each processor computes.

    Those outside the NPU are counted under their names: `CPU (Gather)`. A layer may be several operators of the model.
    """
    operators: dict[str, list[str]] = {}
    for layer in _LAYER.finditer(log):
        if layer["operator"] not in _NOT_COMPUTING:
            operators.setdefault(layer["where"], []).append(layer["operator"])
    return {
        where if where == NPU else f"{where} ({', '.join(sorted(set(names)))})": len(names)
        for where, names in operators.items()
    }


def _lowered(model: ModelSource) -> Any:
    onnx = importlib.import_module("onnx")
    try:
        loaded = onnx.load(str(model)) if isinstance(model, Path) else onnx.load_from_string(bytes(model))
    except Exception as error:  # protobuf's DecodeError, or an OSError for weights in a file of their own
        raise BundleError(f"The ONNX model cannot be read: {one_line(error)}.", "Export it again.") from error
    return lower_opset(loaded, MAX_OPSET)


def _complaint(words: Sequence[str]) -> str:
    """Return the toolkit's last error among what it printed."""
    errors = [line[2:] for line in _plain_lines("\n".join(words)) if line.startswith("E ")]
    return one_line(ValueError(errors[-1])) if errors else "it does not say why"


def _last_line(text: str) -> str:
    lines = list(_plain_lines(text))
    return lines[-1].rstrip(".") if lines else ""


def _plain_lines(text: str) -> Iterator[str]:
    return (line.strip() for line in _COLOUR.sub("", text).splitlines() if line.strip())
