"""ONNX Runtime Web in Chromium, as an engine: the runtime of web pages, in WebAssembly or with WebGPU.

The library's files lie in a folder that `scripts/setup_onnxruntime_web.sh` fills. A page that this process serves loads
them, and runs the model that it is given.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastserve_device_tests.executors.headless_browser import HeadlessBrowser
from fastserve_device_tests.executors.page_server import PageServer
from fastserve_device_tests.needs import set_up_folder
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.engines import onnxruntime as native
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError, one_line
from fastserve_runtime.sessions.named_session import NamedSession
from fastserve_runtime.sessions.session import ModelSource, Placement
from fastserve_runtime.variants import unmet

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Engine, Tensor

HOME = "FASTSERVE_ONNXRUNTIME_WEB_HOME"
INSTALL = "bash scripts/setup_onnxruntime_web.sh"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
INSTALL_BROWSER = "apt-get install chromium"

_HERE = Path(__file__).parent
_SECONDS_TO_LOAD = 60.0
_PLACED = re.compile(r"(?:All nodes|Node\(s\)) placed on \[(?P<provider>\w+)\]\. Number of nodes: (?P<count>\d+)")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnnxRuntimeWeb:
    """ONNX Runtime Web with one provider, as an engine (`fastserve_runtime.sessions.session.Engine`).

    Attributes:
        NAME: of the engine, as sessions tell it.
        provider: as the library calls it: `wasm` or `webgpu`.
        script: the library's module that has this provider.
        files: the other files that it loads.
        flags: of the browser.
        FORMAT: `onnx`.
        FAMILY: the variant's requirement of ONNX Runtime holds here too: the versions are counted together.
        INSTALL: the command that fetches the library.
    """

    NAME: str
    provider: str
    script: str
    files: tuple[str, ...]
    flags: tuple[str, ...]
    FORMAT: str = "onnx"
    FAMILY: str = native.FAMILY
    INSTALL: str = INSTALL

    def needed_files(self) -> tuple[tuple[Path | None, str, str], ...]:
        """Return what a target must find before it starts, for its `Needs`."""
        return (
            (browser(), "Chromium", INSTALL_BROWSER),
            (home() / "package.json", "ONNX Runtime Web", self.INSTALL),
        )

    def version(self) -> str | None:
        """Return the version of the library that was fetched."""
        try:
            found: str = json.loads((home() / "package.json").read_bytes())["version"]
        except FileNotFoundError:
            return None
        return found

    def import_library(self) -> None:
        """Look for the library; see `Engine.import_library`."""
        missing = {what: command for path, what, command in self.needed_files() if path is None or not path.exists()}
        if missing:
            raise EnvironmentFailure(f"{' and '.join(missing)} is missing.", "; ".join(missing.values()))

    def lacking(self, variant: Variant) -> list[str]:
        """Return none: the library tells when it loads a model."""
        return native.lacking(variant)

    def for_variant(self, variant: Variant) -> OnnxRuntimeWeb:
        """Return this engine.

        Raises:
            EnvironmentFailure: the version that was fetched is too old for the variant.
        """
        version = self.version()
        failure = None if version is None else unmet(variant, cast("Engine", self), version)
        if failure is not None:
            raise failure
        return self

    def open_session(self, model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> WebSession:
        """Load an ONNX model into a page; see `Engine.open_session`. The graphs must be given."""
        if graphs is None:
            raise UsageError(f"{self.NAME} does not open bare files.", "Open a bundle instead.")
        self.import_library()
        page = _Page(self)
        try:
            words = page.opened(self._content(model), threads)
        except BaseException:
            page.close()
            raise
        signatures = {name: graph.signature for name, graph in graphs.items()}
        return WebSession(page, signatures, threads, self.NAME, nodes_of_providers(words))

    def _content(self, model: ModelSource) -> Any:
        import numpy as np

        return np.fromfile(model, np.uint8) if isinstance(model, Path) else np.frombuffer(model, np.uint8)


class _Page:
    """A browser with the page, and the server that gives it orders."""

    def __init__(self, engine: OnnxRuntimeWeb) -> None:
        self._engine = engine
        files = {"": _HERE / "onnxruntime_web.html", "page.js": _HERE / "onnxruntime_web.js"}
        files |= {f"ort/{name}": home() / name for name in (engine.script, *engine.files)}
        self._server = PageServer(files)
        program = browser()
        assert program is not None
        try:
            self._browser = HeadlessBrowser(program, self._server.address, engine.flags)
        except BaseException:
            self._server.close()
            raise

    def opened(self, model: Any, threads: int) -> list[str]:
        """Load the model, and return what the library said.

        Raises:
            BundleError: the library refuses it.
            EnvironmentFailure: the page does not load, or crashes.
        """
        self._asked({"order": "greet"}, {}, until=time.monotonic() + _SECONDS_TO_LOAD)
        order = {"order": "open", "library": self._engine.script, "provider": self._engine.provider, "threads": threads}
        answer, _ = self._asked(order, {"model": model})
        if "error" in answer:
            reason = one_line(ValueError(answer["error"]))
            name = f"{self._engine.NAME} {self._engine.version()}"
            if self._engine.provider == "webgpu" and "adapter" in reason:
                raise EnvironmentFailure(f"{name} finds no GPU: {reason}.", "Update Chromium.")
            raise BundleError(f"{name} cannot load the model: {reason}.", "Check it on onnx:cpu.")
        words: list[str] = answer["words"]
        return words

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the model.

        Raises:
            EnvironmentFailure: it fails, or the page does.
        """
        answer, outputs = self._asked({"order": "run"}, inputs)
        if "error" in answer:
            problem = f"{self._engine.NAME} failed while running: {one_line(ValueError(answer['error']))}."
            raise EnvironmentFailure(problem, "Check the model on onnx:cpu.")
        return outputs

    def close(self) -> None:
        """End the browser, then the server."""
        self._server.is_closing.set()
        self._browser.close()
        self._server.close()

    def _asked(
        self, order: Mapping[str, Any], arrays: Mapping[str, Tensor], until: float | None = None
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        def obstacle() -> str | None:
            if until is not None and time.monotonic() > until:
                return f"The browser did not show the page within {_SECONDS_TO_LOAD:g} s"
            return self._browser.obstacle()

        answer, outputs = self._server.ask(order, dict(arrays), obstacle)
        for line in answer.get("words", ()):
            _logger.debug("%s", line)
        return answer, outputs


class WebSession(NamedSession):
    """A model in a page."""

    def __init__(
        self, page: _Page, graphs: Mapping[str, Signature], threads: int, engine: str, placed: Mapping[str, int]
    ) -> None:
        super().__init__(graphs, threads)
        self.engine = engine
        self._page = page
        self._placed = placed

    def _placement(self) -> Placement:
        if not self._placed:
            return Placement(None, f"{self.engine} did not say where it puts the nodes")
        return Placement(self._placed, "where ONNX Runtime Web said that it puts the nodes")

    def _execute(self, graph: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = self._page.run(inputs)
        return {spec.name: outputs[spec.name] for spec in self.graphs[graph].outputs}

    def _release(self) -> None:
        self._page.close()


def home() -> Path:
    """Return the folder of the library."""
    return set_up_folder(HOME, "onnxruntime-web")


def browser() -> Path | None:
    """Return the browser's program, or None."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return None if found is None else Path(found)


def nodes_of_providers(words: Iterable[str]) -> dict[str, int]:
    """Return from what the library said, while it loaded a model, how many nodes each provider gets."""
    placed: dict[str, int] = {}
    for found in filter(None, map(_PLACED.search, words)):
        placed[found["provider"]] = placed.get(found["provider"], 0) + int(found["count"])
    return placed
