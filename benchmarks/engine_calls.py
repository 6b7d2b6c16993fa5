"""The engines, called as their own documentation shows and through fastserve-runtime, side by side.

Used by `benchmarks/runtime.py`: opening a model gives a function that takes no arguments and runs it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], Any]
ENGINE_OF = {"onnx": "onnxruntime", "tflite": "litert", "executorch": "executorch"}


def ours(format_name: str, file: Path, arrays: Sequence[np.ndarray], engine: str | None = None) -> Call:
    """Open a model with fastserve-runtime; each input gets the array of its type."""
    from fastserve_runtime import open_model

    session = open_model(file, engine=engine or ENGINE_OF[format_name])
    (graph,) = session.graphs
    inputs = {spec.name: _of_type(arrays, spec.dtype) for spec in session.graphs[graph].inputs}
    return lambda: session.run(inputs)


def bound(format_name: str, file: Path, arrays: Sequence[np.ndarray]) -> Call:
    """Open a model with fastserve-runtime and bind its buffers."""
    from fastserve_runtime import open_model

    session = open_model(file, engine=ENGINE_OF[format_name])
    (graph,) = session.graphs
    inputs = {spec.name: _of_type(arrays, spec.dtype) for spec in session.graphs[graph].inputs}
    return session.bind(inputs).run


def bare(format_name: str, file: Path, arrays: Sequence[np.ndarray]) -> Call:
    """Open a model with its engine alone, one thread."""
    return _BARE[format_name](file, arrays)


def _bare_onnx(file: Path, arrays: Sequence[np.ndarray]) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = {"tensor(int32)": "int32", "tensor(float)": "float32"}
    inputs = {argument.name: _of_type(arrays, names[argument.type]) for argument in session.get_inputs()}
    return lambda: session.run(None, inputs)


def _bare_tflite(file: Path, arrays: Sequence[np.ndarray]) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    runner = interpreter.get_signature_runner()
    inputs = {name: _of_type(arrays, np.dtype(d["dtype"]).name) for name, d in runner.get_input_details().items()}
    return lambda: runner(**inputs)


def _bare_executorch(file: Path, arrays: Sequence[np.ndarray]) -> Call:
    from fastserve_executorch import Program

    program = Program(file, threads=1)
    values = list(arrays)
    return lambda: program.run("forward", values)


def _of_type(arrays: Sequence[np.ndarray], dtype: str) -> np.ndarray:
    # Formats differ in the names and the order of a bare file's inputs.
    (found,) = (array for array in arrays if array.dtype.name == dtype)
    return found


_BARE = {"onnx": _bare_onnx, "tflite": _bare_tflite, "executorch": _bare_executorch}
