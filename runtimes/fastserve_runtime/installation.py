"""What to install where something is missing: commands that work, with names that package indexes have.

FastServe's own distributions are on no index. What they need of others is named here by itself; their own parts are
built from FastServe's folder, or are wheels that somebody built there.
"""

from __future__ import annotations

from collections.abc import Mapping

REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "text": ("tokenizers>=0.20", "jinja2>=3.1.6"),
    "grammar": ("llguidance>=1.9,<2",),
    "serve": ("starlette>=1.0.1", "uvicorn>=0.30"),
}
"""The extras of this distribution that bring no engine, and what each consists of."""

NATIVE_EXECUTORCH = (
    "pip install fastserve_executorch-*.whl, a wheel that 'python runtimes/executorch_native/build_wheel.py --out .' "
    "builds in FastServe's folder"
)


def install_command(extra: str) -> str:
    """Return the command that installs what an extra consists of."""
    return "pip install " + " ".join(f"'{requirement}'" for requirement in REQUIREMENTS[extra])


def update_command(install: str, minimum: str) -> str:
    """Return the command that brings a version.

    Args:
        install: the command that installs any; see `Engine.INSTALL`.
        minimum: the least version that will do.
    """
    package = install.removeprefix("pip install ")
    if package == install or " " in package:
        return f"{install}, of version {minimum} or later"
    return f"pip install '{package}>={minimum}'"
