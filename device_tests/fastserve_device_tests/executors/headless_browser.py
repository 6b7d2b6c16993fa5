"""Chromium without a window, as a child of this process."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fastserve_runtime.errors import EnvironmentFailure

# It shall ask nobody on the network, and leave nothing behind.
_QUIET = (
    "--headless",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-quic",
    "--disable-sync",
    "--mute-audio",
)
_SECONDS_TO_END = 10.0


class HeadlessBrowser:
    """One browser that shows one page, with a profile of its own.

    It stays in this process's group, so whoever ends that group ends the browser too.
    """

    def __init__(self, program: Path, address: str, flags: Sequence[str]) -> None:
        """Start it.

        Raises:
            EnvironmentFailure: it cannot be started.
        """
        # A browser that is ended may still write while its profile is removed.
        self._profile = tempfile.TemporaryDirectory(prefix="fastserve-browser-", ignore_cleanup_errors=True)
        self._log = Path(self._profile.name) / "words.log"
        as_root = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []  # else it refuses root
        command = [str(program), *_QUIET, *as_root, f"--user-data-dir={self._profile.name}", *flags, address]
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except OSError as error:
            self._profile.cleanup()
            raise EnvironmentFailure(f"'{program}' cannot be started: {error}.", "Install Chromium again.") from error

    def obstacle(self) -> str | None:
        """Return why the browser will not show the page any more, with its last words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        words = self._log.read_text(errors="replace").strip().splitlines()
        return f"The browser ended with exit code {code}" + (f": {words[-1].strip()}" if words else "")

    def close(self) -> None:
        """End the browser and remove its profile."""
        self._process.terminate()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()
