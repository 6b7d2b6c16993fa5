"""Compiling a model for a target, in the process and the environment that the target's compiler needs.

A request has `target`, `model` (a portable file), `variant` (the manifest's fields of its variant) and `out` (an empty
folder). The answer has `compiled`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_device_tests.targets import compiler_of, load_target
from fastserve_runtime.bundle.manifest import parse_variant
from fastserve_runtime.errors import EnvironmentFailure, FastServeError, one_line
from fastserve_runtime.parsing import Fields
from fastserve_runtime.processes.answering import answer_requests

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensors


def answer(request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:  # noqa: ARG001 -- has none
    """Compile what a request names.

    Raises:
        FastServeError: the compiler refuses it, or failed.
    """
    try:
        compiler = compiler_of(load_target(request["target"]))
        variant = parse_variant(Fields(request["variant"], "the variant"))
        compiled = compiler.compile_model(Path(request["model"]), variant, Path(request["out"]))
    except FastServeError:
        raise
    except Exception as error:  # vendors' compilers raise whatever they like
        problem = f"The compiler for {request['target']} failed: {type(error).__name__}: {one_line(error)}."
        raise EnvironmentFailure(problem) from error
    return {"compiled": compiled.as_document()}, {}


if __name__ == "__main__":
    sys.exit(answer_requests(answer))
