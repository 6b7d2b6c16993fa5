"""A converter process, which does the jobs of the process that started it; see `fastserve_runtime.processes.child`.

    python -m fastserve_converters.worker

Converters can print, crash or take gigabytes; in a process of its own that harms nobody.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import EXIT_ENVIRONMENT, DiskFull, FastServeError, is_disk_full
from fastserve_runtime.processes.answering import answer_requests

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensors


def main() -> int:
    """Serve jobs until there are no more, and return the exit code."""
    # Ctrl-C goes to the whole terminal; the process that asked for the job decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Offline whatever a library thinks: what the user named is on disk already.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    os.environ |= {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    jobs: Any = None

    def answer(request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:  # noqa: ARG001
        nonlocal jobs
        if jobs is None:
            from fastserve_converters.worker.jobs import Jobs

            jobs = Jobs()
        return _answer(jobs, request), {}

    # The thread that waits for the end of its parent has to wait for native code that lets no other threads run.
    return answer_requests(answer, starts_nothing=True)


def _answer(jobs: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job. `stops_all` says that the next job would fail for the same reason."""
    step = request["job"]
    try:
        return {"result": jobs.run(request)}
    except Exception as error:
        if is_disk_full(error):
            traceback.print_exception(error)
            full = DiskFull(f" in the {step} step")
            return _failure(full.problem, full.remedy, stops_all=True)
        return _told(step, error)


def _told(step: str, error: Exception) -> dict[str, Any]:
    """Say what went wrong in a step."""
    if isinstance(error, FastServeError):
        stops_all = error.exit_code != EXIT_ENVIRONMENT
        return _failure(error.problem, error.remedy, error.exit_code, stops_all=stops_all)
    if isinstance(error, MemoryError):
        return _failure(f"The {step} step ran out of memory.", "Close other programs.", stops_all=True)
    # Converters raise whatever they like; the log has the rest.
    traceback.print_exception(error)
    lines = str(error).strip().splitlines() or [""]
    return _failure(f"{type(error).__name__}: {lines[0][:300]}", "--debug shows the converter's log.")


def _failure(
    problem: str, remedy: str, exit_code: int = EXIT_ENVIRONMENT, *, stops_all: bool = False
) -> dict[str, Any]:
    return {"problem": problem, "remedy": remedy, "exit_code": exit_code, "stops_all": stops_all}


if __name__ == "__main__":
    sys.exit(main())
