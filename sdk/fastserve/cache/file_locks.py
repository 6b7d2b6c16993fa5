"""Locks that a process holds on files: the system lets go of them when it ends, however it ends.

So whether somebody is still at work is asked of the system, and neither of a clock nor of process numbers, which
containers and later processes have again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed: holding it open is the lock
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """A lock on a file, held until `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        """Take over an open file that is locked; see `held` and `shared`."""
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let go; a second time does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.release()


def shared_lock(file: Path) -> FileLock | None:
    """Lock an existing file together with others that read it; None where somebody is removing it.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    return _lock(file, os.O_RDONLY, is_shared=True)


def sole_lock(file: Path) -> FileLock | None:
    """Lock an existing file alone; None where somebody else holds it in either way.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    return _lock(file, os.O_RDONLY, is_shared=False)


def new_lock(file: Path) -> FileLock:
    """Make a file and lock it alone, in one step to others: nobody else asks for one of that name before.

    Raises:
        OSError: it is there already, or cannot be written.
    """
    lock = _lock(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, is_shared=False)
    assert lock is not None  # the file is new
    return lock


def _lock(file: Path, flags: int, *, is_shared: bool) -> FileLock | None:
    # A link is not followed, and a pipe not waited for.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(file, flags, 0o666)
    lock = FileLock(descriptor)
    if fcntl is None:
        return lock
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.release()
        return None
    except OSError:
        return lock  # a file system without locks: nothing can be asked of it
    with suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), file.lstat()):
            return lock
    # Between the two calls it was removed.
    lock.release()
    return None
