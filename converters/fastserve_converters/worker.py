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

from fastserve_runtime.errors import EXIT_ENVIRONMENT, FastServeError


def main() -> None:
    """Serve jobs until standard input ends."""
    # Ctrl-C goes to the whole terminal; the process that asked for the job decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
    from fastserve_converters.jobs import Jobs

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
    try:
        return {"result": jobs.run(request)}
    except FastServeError as error:
        return {"problem": error.problem, "remedy": error.remedy, "exit_code": error.exit_code}
    except OSError as error:
        traceback.print_exc()
        where = f": '{error.filename}'" if error.filename else ""
        problem = f"The {request['job']} step failed: {error.strerror or error}{where}."
        return {"problem": problem, "remedy": "Check free disk space.", "exit_code": EXIT_ENVIRONMENT}
    except MemoryError:
        problem = f"The {request['job']} step ran out of memory."
        return {"problem": problem, "remedy": "Close other programs.", "exit_code": EXIT_ENVIRONMENT}
    except Exception as error:  # converters raise whatever they like; the log has the rest
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        problem = f"{type(error).__name__}: {lines[0][:300]}"
        return {
            "problem": problem,
            "remedy": "--debug shows the converter's log.",
            "exit_code": EXIT_ENVIRONMENT,
        }


if __name__ == "__main__":
    main()
