"""Where finished stages are kept."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from fastserve_runtime.errors import EnvironmentFailure

CACHE_REMEDY = "Name a folder that can be written with --cache-dir, or in the environment variable FASTSERVE_CACHE_DIR."


def default_cache_dir() -> Path:
    """Return where finished stages are kept unless `cache_dir` says otherwise.

    The folder that the environment variable FASTSERVE_CACHE_DIR names, else the user's cache folder.

    Raises:
        EnvironmentFailure: there is neither.
    """
    named = os.environ.get("FASTSERVE_CACHE_DIR")
    folder = Path(named) if named else user_cache_path("fastserve", appauthor=False)
    # Where a user has no home folder, what stands for it is left as it is, and would be made right here.
    if not named and not folder.is_absolute():
        raise EnvironmentFailure("This user has no home folder for the cache.", CACHE_REMEDY)
    return folder
