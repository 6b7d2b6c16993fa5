"""Whether what a server needs is installed."""

from __future__ import annotations

from fastserve_runtime.errors import EnvironmentFailure


def check_installed() -> None:
    """Import the libraries that only a server needs.

    Raises:
        EnvironmentFailure: one cannot be imported.
    """
    try:
        import starlette
        import uvicorn
    except ImportError as error:
        raise EnvironmentFailure(
            f"The libraries of the server cannot be imported: {error}.",
            "Install them: pip install 'fastserve-runtime[serve]'.",
        ) from error
    del starlette, uvicorn
