"""NNCF without its telemetry, progress bars and log lines."""

from __future__ import annotations

import logging
import os
from typing import Any


def import_nncf() -> Any:
    """Import NNCF, which reports its use to its makers unless it is told not to before it is imported."""
    # Its own switch for automated runs; a user's own setting stays.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf
