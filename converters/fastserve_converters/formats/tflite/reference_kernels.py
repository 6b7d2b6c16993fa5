"""A TFLite file on LiteRT's reference kernels: plain loops that share no code with XNNPACK, so that they check it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.tflite.file import narrowed_int64
from fastserve_converters.formats.tflite.layers import Sample

EXECUTOR = "LiteRT's reference kernels"


def reference_runner(path: Path) -> Callable[[Sample], dict[str, NDArray[np.float32]]]:
    """Return what gives a file's outputs by name for one sample, computed by the reference kernels.

    They know no integers in blocks: such layers come out wrong.

    Args:
        path: the file.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # This resolver brings no delegate either.
    interpreter = Interpreter(
        model_path=str(path), num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    runner = interpreter.get_signature_runner()

    def run(sample: Sample) -> dict[str, NDArray[np.float32]]:
        return {name: np.array(value, np.float32) for name, value in runner(**narrowed_int64(sample)).items()}

    return run
