"""ONNX Runtime with an execution provider that another package brings.

Such a provider is a library that is registered at run time
(https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/usage.html). What it does not take, ONNX Runtime
runs on the CPU without a word; its profile tells which nodes these were.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.engines import onnxruntime as cpu
from fastserve_runtime.errors import BundleError, EnvironmentFailure, one_line
from fastserve_runtime.sessions.session import ModelSource, Placement

FORMAT = "onnx"
_CONTEXT_SETTINGS = {
    "ep.context_enable": "1",
    "ep.context_embed_mode": "1",  # inside the ONNX file, which so is whole
    "session.disable_cpu_ep_fallback": "1",
}


@dataclass(frozen=True)
class PluginProvider:
    """ONNX Runtime with one such provider, as an engine (`fastserve_runtime.sessions.session.Engine`).

    Attributes:
        NAME: of the engine, as sessions tell it.
        PROVIDER: what ONNX Runtime calls the provider; its library is registered by this name, which some take over.
        module: the package that brings it; its `get_library_path` tells where the library lies.
        INSTALL: the command that installs the package.
        options: the provider's own.
        FORMAT: `onnx`.
        FAMILY: the variant's requirement of ONNX Runtime holds here too.
    """

    NAME: str
    PROVIDER: str
    module: str
    INSTALL: str
    options: Mapping[str, str] = field(default_factory=dict)
    FORMAT: str = FORMAT
    FAMILY: str = cpu.FAMILY

    def version(self) -> str | None:
        """Return the installed version of ONNX Runtime."""
        return cpu.version()

    def import_library(self) -> None:
        """Import ONNX Runtime and register the provider; see `Engine.import_library`."""
        self._devices(cpu.import_library())

    def lacking(self, variant: Variant) -> list[str]:
        """Return none: what the provider lacks runs elsewhere, and the placement tells."""
        return cpu.lacking(variant)

    def open_session(self, model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> ProfiledSession:
        """Load an ONNX model; see `Engine.open_session`. The graphs must be given."""
        onnxruntime = cpu.import_library()
        options = self._session_options(onnxruntime)
        try:
            session, profiles = opened_with_profile(onnxruntime, model, options, threads)
        except Exception as error:  # the binding's exception classes share no base but Exception
            raise BundleError(f"{self.NAME} cannot load the model: {one_line(error)}.") from error
        signatures = {name: graph.signature for name, graph in (graphs or {}).items()}
        return ProfiledSession(session, signatures, threads, self.NAME, profiles)

    def write_context(self, model: Path, out: Path) -> None:
        """Compile a model as a whole, and write an ONNX file that holds what the provider made of it.

        The file has one `EPContext` node for each part that the provider compiled
        (https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html).

        Args:
            model: an ONNX file.
            out: the file to write; there must be none.

        Raises:
            BundleError: the provider does not take every node, or refuses the model.
            EnvironmentFailure: the provider cannot be loaded, or there is no device.
        """
        onnxruntime = cpu.import_library()
        options = self._session_options(onnxruntime)
        for name, value in _CONTEXT_SETTINGS.items():
            options.add_session_config_entry(name, value)
        options.add_session_config_entry("ep.context_file_path", str(out))
        try:
            onnxruntime.InferenceSession(str(model), options)
        except Exception as error:  # the binding's exception classes share no base but Exception
            raise BundleError(f"{self.NAME} cannot compile the model: {one_line(error)}.") from error
        if not out.is_file():
            raise BundleError(f"{self.NAME} compiled the model and wrote nothing.")

    def _session_options(self, onnxruntime: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_provider_for_devices(self._devices(onnxruntime)[:1], dict(self.options))
        return options

    def _devices(self, onnxruntime: Any) -> list[Any]:
        """Register the provider's library, and return its devices.

        Raises:
            EnvironmentFailure: the package is not there or cannot be loaded, or there is no device.
        """
        try:
            package = importlib.import_module(self.module)
            if not self._found(onnxruntime):
                onnxruntime.register_execution_provider_library(self.PROVIDER, package.get_library_path())
        except Exception as error:  # an ImportError, or one of the binding's own classes
            raise EnvironmentFailure(f"{self.NAME} cannot be loaded: {one_line(error)}.", self.INSTALL) from error
        found = self._found(onnxruntime)
        if not found:
            raise EnvironmentFailure(f"{self.NAME} finds no device.", "Look whether its driver is installed.")
        return found

    def _found(self, onnxruntime: Any) -> list[Any]:
        return [device for device in onnxruntime.get_ep_devices() if device.ep_name == self.PROVIDER]


class ProfiledSession(cpu.OnnxRuntimeSession):
    """A session that counts where its nodes ran."""

    is_concurrent = False

    def __init__(
        self,
        session: Any,
        graphs: Mapping[str, Signature],
        threads: int,
        engine: str,
        profiles: tempfile.TemporaryDirectory[str],
    ) -> None:
        super().__init__(session, graphs, threads)
        self.engine = engine
        self._profiles = profiles
        self._placed: Placement | None = None

    def _placement(self) -> Placement:
        if self._placed is None:
            events = json.loads(Path(self._session.end_profiling()).read_bytes())
            self._placed = Placement(nodes_of_providers(events), "ONNX Runtime's profile of the calls so far")
        return self._placed

    def _release(self) -> None:
        if self._placed is None:
            self._session.end_profiling()
        super()._release()
        self._profiles.cleanup()


def opened_with_profile(
    onnxruntime: Any, model: ModelSource, options: Any, threads: int, **settings: Any
) -> tuple[Any, tempfile.TemporaryDirectory[str]]:
    """Load a model in ONNX Runtime so that it writes a profile; what it raises goes through.

    Args:
        onnxruntime: the library.
        model: the file, or its content.
        options: `SessionOptions`, which are added to.
        threads: how many threads one call may use.
        settings: further ones of `InferenceSession`.

    Returns:
        The `InferenceSession`, and the folder of its profile, both for a `ProfiledSession`.
    """
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    profiles = tempfile.TemporaryDirectory(prefix="fastserve-profile-")
    options.profile_file_prefix = str(Path(profiles.name) / "run")
    source = str(model) if isinstance(model, Path) else bytes(model)
    try:
        return onnxruntime.InferenceSession(source, options, **settings), profiles
    except Exception:
        profiles.cleanup()
        raise


def nodes_of_providers(events: list[dict[str, Any]]) -> dict[str, int]:
    """Return from a profile how many nodes each provider ran, each node counted once."""
    ran = {
        (event["args"]["provider"], event["name"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    }
    return dict(Counter(provider for provider, _ in ran))
