"""Whether what a server needs is installed."""

from __future__ import annotations

from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.installation import install_command


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
            f"Install them: {install_command('serve')}.",
        ) from error
    del starlette, uvicorn
