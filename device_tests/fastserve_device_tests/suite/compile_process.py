"""Compiling a model for a target, in the process and the environment that the target's compiler needs.

    python -m fastserve_device_tests.suite.compile_process REQUEST.json

The request has `target`, `model` (a portable file), `variant` (the manifest's fields of its variant) and `out` (an
empty folder). Prints one JSON object: `compiled`, or `problem` and `remedy`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve_device_tests.processes.limited_process import begin_answer
from fastserve_device_tests.targets import compiler_of, load_target
from fastserve_runtime.bundle.manifest import parse_variant
from fastserve_runtime.errors import FastServeError, one_line
from fastserve_runtime.parsing import Fields


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Compile what a request names, and return the answer's JSON."""
    try:
        compiler = compiler_of(load_target(request["target"]))
        variant = parse_variant(Fields(request["variant"], "the variant"))
        compiled = compiler.compile_model(Path(request["model"]), variant, Path(request["out"]))
    except FastServeError as error:
        return {"problem": error.problem, "remedy": error.remedy}
    except Exception as error:  # vendors' compilers raise whatever they like
        problem = f"The compiler for {request['target']} failed: {type(error).__name__}: {one_line(error)}."
        return {"problem": problem, "remedy": ""}
    return {"compiled": compiled.as_document()}


def main(arguments: list[str]) -> None:
    """Answer one request file."""
    output = begin_answer()
    output.write(json.dumps(answer(json.loads(Path(arguments[0]).read_text()))))
    output.close()


if __name__ == "__main__":
    main(sys.argv[1:])
