"""Arm's VGF graphs in ExecuTorch programs, by Arm's scenario runner on whatever Vulkan driver the environment names.

Arm's emulation layer gives a driver the ML extensions of Vulkan, with shaders. The environment must be there before the
process starts; see the target.
"""

from __future__ import annotations

import importlib
import json
import logging
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastserve_device_tests.executors.executorch_interpreter import (
    Arrays,
    Backend,
    Execute,
    InterpretedSession,
    open_program,
)
from fastserve_device_tests.executors.executorch_program import TensorValue
from fastserve_device_tests.processes.native_words import native_words
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.distributions import installed_version, module_folder
from fastserve_runtime.errors import BundleError, EnvironmentFailure, one_line
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.session import ModelSource

NAME = "Arm's scenario runner"
FORMAT = "executorch"
FAMILY = "ai-ml-sdk-scenario-runner"
BACKEND = "VgfBackend"
INSTALL = "pip install --no-deps ai-ml-sdk-scenario-runner==0.11.0"
INSTALL_LIBRARY = "pip install --no-deps ai-ml-sdk-vgf-library==0.11.0"

_MODEL = "model.vgf"
_SCENARIO = "scenario.json"
_SECONDS = 60
_logger = logging.getLogger(__name__)


def version() -> str | None:
    """Return the installed version of the scenario runner."""
    return installed_version("ai-ml-sdk-scenario-runner", "scenario_runner")


def import_library() -> Any:
    """Import the scenario runner; see `Engine.import_library`."""
    try:
        with native_output_logged(_logger):
            return importlib.import_module("scenario_runner")
    except ImportError as error:
        raise EnvironmentFailure(f"{NAME} cannot be imported: {one_line(error)}.", f"Install it: {INSTALL}.") from error


def lacking(variant: Variant) -> list[str]:  # noqa: ARG001 -- it tells only when it loads
    """Return none: what it lacks is known when it has loaded the model."""
    return []


def open_session(model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> InterpretedSession:
    """Load an ExecuTorch program for VGF; see `Engine.open_session`. Its graphs must be given."""
    folder = tempfile.TemporaryDirectory(prefix="fastserve-vgf-")
    try:
        runner = _Runner(import_library(), Path(folder.name))
        return open_program(model, graphs, Backend(BACKEND, NAME, runner.open, folder.cleanup), threads=threads)
    except BaseException:
        folder.cleanup()
        raise


class _Runner:
    """Opens each graph in a folder of its own."""

    def __init__(self, library: Any, folder: Path) -> None:
        self._library = library
        self._folder = folder

    def open(self, content: bytes, inputs: Sequence[TensorValue], outputs: Sequence[TensorValue]) -> Execute:
        """Return what runs a graph, once its pipelines are made.

        Raises:
            BundleError: the graph cannot be read, or the driver refuses it.
        """
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        (folder / _MODEL).write_bytes(content)
        read, written = _scenario(folder)
        if (len(read), len(written)) != (len(inputs), len(outputs)):
            problem = f"The VGF graph has {len(read)} inputs and {len(written)} outputs; the program has"
            raise BundleError(f"{problem} {len(inputs)} and {len(outputs)}.", "Export it again.")
        with native_words(_logger) as words:
            try:
                scenario, problem = self._library.load_scenario(folder / _SCENARIO, work_dir=folder), ""
            except (RuntimeError, ValueError, IndexError) as error:
                scenario, problem = None, one_line(error)
        if scenario is None:
            said = next((line.strip() for line in reversed(words) if line.strip()), "")
            raise BundleError(f"{NAME} cannot load the VGF graph: {problem or said}.", "Look at the Vulkan driver.")
        places = [scenario.get_tensor_id(name) for name in read]
        results = [scenario.get_tensor_id(name) for name in written]

        def run(given: Arrays) -> Arrays:
            with native_output_logged(_logger):
                for place, value in zip(places, given, strict=True):
                    scenario.upload(place, np.ascontiguousarray(value))
                scenario.run()
                found = [scenario.download(place) for place in results]
            # What a tensor of one dimension more or fewer holds is the same.
            return [f.view(t.dtype).copy() for f, t in zip(found, outputs, strict=True)]

        return run


def _scenario(folder: Path) -> tuple[list[str], list[str]]:
    """Write how the graph is run, and return the names of its inputs and outputs."""
    tool = Path(module_folder("vgf_lib") or "-") / "binaries" / "bin" / "vgf_dump"
    command = [str(tool), "--input", _MODEL, "--output", _SCENARIO, "--scenario-template"]
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, timeout=_SECONDS, check=False)
        document = json.loads((folder / _SCENARIO).read_bytes())
        tensors = [resource["tensor"] for resource in document["resources"] if "tensor" in resource]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        raise BundleError("The program's VGF graph cannot be read.", "Export it again.") from error
    if ended.returncode:
        raise BundleError("The program's VGF graph cannot be read.", "Export it again.")
    read = [tensor["uid"] for tensor in tensors if tensor.pop("src", None) is not None]
    written = [tensor["uid"] for tensor in tensors if tensor.pop("dst", None) is not None]
    (folder / _SCENARIO).write_text(json.dumps(document))
    return read, written
