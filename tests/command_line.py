"""Running the command line as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

FASTSERVE = [sys.executable, "-m", "fastserve"]


def fastserve_command(
    *words: str | Path,
    before: Callable[[], None] | None = None,
    timeout: float = 300,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FASTSERVE, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        preexec_fn=before,
        env={**os.environ, **(environment or {})},
    )
