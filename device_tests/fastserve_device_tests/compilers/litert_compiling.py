"""Compiling a TFLite model for LiteRT's GPU accelerator, and telling what that takes.

What the accelerator does not take, LiteRT runs on the CPU. `is_fully_accelerated` does not tell: it is true of a model
that XNNPACK runs as a whole. So a model is compiled for the GPU alone first, which LiteRT refuses unless the GPU takes
every operator; else for the GPU and the CPU, and the accelerator's log tells how many operators each gets.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastserve_device_tests.processes.native_words import native_words
from fastserve_runtime.distributions import module_folder
from fastserve_runtime.errors import BundleError, EnvironmentFailure, one_line
from fastserve_runtime.sessions.engine_logs import native_output_logged
from fastserve_runtime.sessions.session import Placement

GPU = "LiteRT's GPU accelerator"
CPU = "LiteRT's CPU"

_STARTED = "Initializing WebGPU-based API"
_HEAD = "Following operations are not supported by GPU delegate:"
_OPERATOR = re.compile(r"(?P<operator>[A-Z][A-Z0-9_]*): ")
_COUNTS = re.compile(
    r"(?P<gpu>\d+|No) operations will run on the GPU, and (?:the remaining|all) (?P<cpu>\d+) operation"
)
_ERROR = re.compile(r"(?:E\d{4} [^\]]*\]|ERROR:) (?P<reason>(?!Following operations|\[).*)")
_NO_GPU = re.compile(r"Failed to initialize WebGPU environment: (?P<reason>.*)")

_logger = logging.getLogger(__name__)


@dataclass
class Compiled:
    """A model that is compiled for some shapes of its inputs.

    Attributes:
        model: LiteRT's `CompiledModel`.
        shapes: of the inputs, as it was compiled.
        inputs: name → LiteRT's buffer.
        outputs: likewise.
        words: what LiteRT printed meanwhile.
    """

    model: Any
    shapes: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    words: list[str]


class Compiler:
    """Compiles one model, for the GPU alone where that is possible.

    Attributes:
        needs_cpu: whether the GPU does not take every operator; None before the first model was compiled.
    """

    def __init__(self, library: Any, source: str | bytes, name: str, threads: int, *, is_half: bool = False) -> None:
        """Keep what is needed.

        Args:
            library: `ai_edge_litert.compiled_model`.
            source: the model's path or content.
            name: the engine's, for messages.
            threads: how many threads a call may use on the CPU.
            is_half: whether the GPU may compute in floats of 16 bits, where its driver has them.
        """
        self._library, self._source, self._name, self._threads = library, source, name, threads
        self._is_half = is_half
        self._environment: Any = None
        self.needs_cpu: bool | None = None

    def compiled(self, entry: str, shapes: Mapping[str, tuple[int, ...]]) -> Compiled:
        """Compile the model; an input that is not named in `shapes` keeps the file's shape.

        A compiled model is resized once and never again: version 2.3.0 crashes at the second time.

        Raises:
            BundleError: LiteRT refuses the model.
            EnvironmentFailure: there is no GPU, or no driver of one.
        """
        found: Compiled | None = None
        cause: Exception | None = None
        with native_words(_logger) as words:
            try:
                found = self._resized(entry, shapes)
            except (RuntimeError, ValueError) as error:
                cause = error
        if found is None:
            raise self._failure(words, cause) from cause
        found.words.extend(words)
        return found

    def placement(self, words: Sequence[str]) -> Placement:
        """Tell where the operators of a model run that was compiled and run with these words."""
        counts = counted_operators(words)
        if counts is not None:
            return Placement(counts, f"the log of {GPU}")
        if self.needs_cpu or not any(_STARTED in line for line in words):
            return Placement(None, f"{GPU} did not print which operators it takes")
        return Placement({GPU: self._operators()}, "LiteRT compiled the model for the GPU alone")

    def _operators(self) -> int:
        interpreter = importlib.import_module("ai_edge_litert.interpreter")
        kind = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        key = "model_path" if isinstance(self._source, str) else "model_content"
        with native_output_logged(_logger):
            plain = interpreter.Interpreter(**{key: self._source}, experimental_op_resolver_type=kind)
            return len(plain._get_ops_details())

    def _resized(self, entry: str, shapes: Mapping[str, tuple[int, ...]]) -> Compiled:
        model = self._model()
        found = {name: tuple(d["shape"]) for name, d in model.get_input_tensor_details(entry).items()}
        for name, shape in shapes.items():
            if found[name] != shape:
                model.resize_input_tensor_by_name(entry, name, shape)
        names = model.get_signature_list()[entry]
        inputs = {name: model.create_input_buffer_by_name(entry, name) for name in names["inputs"]}
        outputs = {name: model.create_output_buffer_by_name(entry, name) for name in names["outputs"]}
        return Compiled(model, {**found, **shapes}, inputs, outputs, [])

    def _failure(self, words: Sequence[str], cause: Exception | None) -> BundleError | EnvironmentFailure:
        no_gpu = next(filter(None, map(_NO_GPU.search, words)), None)
        if no_gpu is not None:
            problem = f"{self._name} finds no GPU: {no_gpu['reason'].rstrip('.')}."
            return EnvironmentFailure(problem, "Look whether a Vulkan driver is installed.")
        reasons = [match["reason"].partition(". ")[0] for match in map(_ERROR.match, words) if match is not None]
        reason = reasons[0].rstrip(".") if reasons else one_line(cause or ValueError("it does not say why"))
        return BundleError(f"{self._name} cannot load the model: {reason}.", "Check it on tflite:xnnpack.")

    def _model(self) -> Any:
        if self._environment is None:
            folder = str(module_folder("ai_edge_litert"))
            self._environment = self._library.Environment.create(runtime_path=folder)
        processors = self._library.HardwareAccelerator
        if not self.needs_cpu:
            try:
                model = self._model_for(processors.GPU)
            except RuntimeError:
                if self.needs_cpu is not None:
                    raise
            else:
                self.needs_cpu = False
                return model
        self.needs_cpu = True
        return self._model_for(processors.GPU | processors.CPU)

    def _model_for(self, processors: Any) -> Any:
        library = self._library
        options = library.Options(
            processors,
            library.CpuOptions(num_threads=self._threads),
            # Else a driver that has floats of 16 bits would be told to use them.
            library.GpuOptions(enforce_f32=not self._is_half),
        )
        load = library.CompiledModel.from_file if isinstance(self._source, str) else library.CompiledModel.from_buffer
        return load(self._source, options=options, environment=self._environment)


def counted_operators(words: Sequence[str]) -> dict[str, int] | None:
    """Return from LiteRT's log how many operators each processor got at last; None where it does not tell.

    Those that the GPU does not take are named with the CPU: others run there too, since it takes what lies together.
    """
    counted, operators, is_listing = None, set[str](), False
    for line in words:
        counts, operator = _COUNTS.search(line), _OPERATOR.match(line)
        if _HEAD in line:
            operators, is_listing = set(), True
        elif counts is not None:
            counted, is_listing = counts, False
        elif is_listing and operator is not None:
            operators.add(operator["operator"])
    if counted is None:
        return None
    where = f"{CPU} (for {', '.join(sorted(operators))})" if operators else CPU
    return {GPU: 0 if counted["gpu"] == "No" else int(counted["gpu"]), where: int(counted["cpu"])}
