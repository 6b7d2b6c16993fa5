"""The other end of a contender's process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from quantized.processes import child_environment


class Process:
    """A contender's process; used in a `with` block."""

    def __init__(self, kind: str, model: str, threads: int, context: int, log: Path) -> None:
        self._log = log.open("w")
        environment = {**child_environment(), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "generating.contender", kind, model, str(threads), str(context)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
        )

    def ask(self, *question: Any) -> Any:
        """Ask, and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"A contender died; see {self._log.name}.")
        return json.loads(line)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
