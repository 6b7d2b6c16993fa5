"""A converter process: JSON lines in on standard input, JSON lines out on standard output.

    python -m fastserve_converters.worker

Converters can print, crash or take gigabytes; in a process of its own that harms nobody. What they print goes to
standard error. The process ends when its input ends, also in the middle of a job, so that it never outlives its user.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, TextIO

from fastserve_runtime.errors import EXIT_ENVIRONMENT, DiskFull, FastServeError, is_disk_full
from fastserve_runtime.processes.lifeline import ask_kernel


def main() -> None:
    """Serve jobs until standard input ends."""
    # Ctrl-C goes to the whole terminal; the process that asked for the job decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The thread that waits for the end of the input has to wait for native code that does not let other threads run.
    ask_kernel()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Offline whatever a library thinks: what the user named is on disk already.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    os.environ |= {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_requests, args=(sys.stdin, requests), daemon=True).start()
    from fastserve_converters.worker.jobs import Jobs

    jobs = Jobs()
    while True:
        line = requests.get()
        answer = _answer(jobs, json.loads(line))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _read_requests(stream: TextIO, requests: queue.Queue[str]) -> None:
    for line in stream:
        requests.put(line)
    os._exit(0)


def _answer(jobs: Any, request: dict[str, Any]) -> dict[str, Any]:
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
    main()
