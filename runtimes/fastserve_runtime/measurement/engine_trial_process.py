"""The process behind `engine_trials`: imports an engine, or runs a variant's goldens on it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_runtime.engines import ENGINES
from fastserve_runtime.errors import EXIT_OK
from fastserve_runtime.processes.answering import answer_requests

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensors


def answer(request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:  # noqa: ARG001 -- has none
    """Return what is wrong with an engine, or with a variant's goldens on it; an empty `problem` where nothing is.

    Raises:
        FastServeError: the engine cannot be imported, or the bundle is damaged.
    """
    if request["ask"] == "import":
        ENGINES.load(request["engine"]).import_library()
        return {"problem": ""}, {}
    from fastserve_runtime.conformance.verification import exit_code, reasons, verify

    verification = verify(request["bundle"], variant=request["variant"], engine=request["engine"])
    is_right = exit_code(verification.verdicts) == EXIT_OK
    return {"problem": "" if is_right else reasons(verification.failures or verification.verdicts)}, {}


if __name__ == "__main__":
    sys.exit(answer_requests(answer))
