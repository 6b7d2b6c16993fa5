"""What native code prints is heard, whoever writes it, and then the streams are as before."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys

import pytest

from fastserve_device_tests.processes.native_words import native_words

LOG = logging.getLogger("test")


def test_what_anybody_writes_is_heard_and_logged(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "test")
    with native_words(LOG) as words:
        os.write(1, b"by descriptor\n")
        if sys.platform != "win32":
            ctypes.CDLL(None).puts(b"by C, which keeps it for a while")
        subprocess.run(["sh", "-c", "echo by another; echo error >&2"], check=True)
    os.write(1, b"afterwards\n")
    assert {"by descriptor", "by C, which keeps it for a while", "by another", "error"} == set(words)
    assert set(caplog.messages) == set(words)
    assert capfd.readouterr() == ("afterwards\n", "")


def test_an_error_in_the_block_loses_no_words(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="descriptor"), native_words(LOG) as words:
        os.write(-1, b"it" * os.write(2, b"before it\n"))
    os.write(2, b"after it\n")
    assert words == ["before it"]
    assert capfd.readouterr().err == "after it\n"
