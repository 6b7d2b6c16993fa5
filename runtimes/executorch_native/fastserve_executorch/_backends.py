"""Backends that this package does not carry: found where they are installed, and loaded into the process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastserve_executorch._errors import ExecutorchError
from fastserve_executorch._native import __executorch_version__, available_backends

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib import metadata

_NOT_SUPPORTED = 0x10  # ExecuTorch's code


class _Backend(NamedTuple):
    """A backend whose library comes with the official ExecuTorch package."""

    library: str
    needs: tuple[tuple[str, ...], ...]
    """The vendor's libraries, which the backend opens when it is first used: of each group, one must be there."""
    remedy: str


_BACKENDS = {
    "QnnBackend": _Backend(
        "libexecutorch_backend_qnn.so",
        (("libQnnHtp.so", "libQnnGpu.so", "libQnnLpai.so"), ("libQnnSystem.so",)),
        "Install Qualcomm's AI Engine Direct SDK, and name the folder of its libraries in LD_LIBRARY_PATH before "
        "Python starts.",
    ),
    "OpenvinoBackend": _Backend(
        "libexecutorch_backend_openvino.so",
        (("libopenvino_c.so",),),
        "Install OpenVINO (pip install 'openvino>=2025.1,<2026'), or name its libopenvino_c.so in OPENVINO_LIB_PATH.",
    ),
}


def load_backend(name: str, path: str | os.PathLike[str] | None = None) -> bool:
    """Makes a backend usable that this package does not carry.

    Known backends are ``QnnBackend`` (Qualcomm) and ``OpenvinoBackend`` (Intel): their libraries are looked up in the
    installed ``executorch`` package, which is not imported and must be of the version that this package was built
    with. What the backends need from their vendors must be installed, too. For OpenVINO, if its Python package is,
    the environment variable ``OPENVINO_LIB_PATH`` is set unless it already is.

    Args:
        name: The backend's name, as programs have it.
        path: The backend's library, or for a known one the folder that it lies in, instead of the installed package.
            It must have been built for this version of ExecuTorch.

    Returns:
        Whether the backend can be used now. A library may load, and not have the backend of that name.

    Raises:
        ValueError: The backend is not a known one, and there is no path.
        ExecutorchError: The library is of another version of ExecuTorch.
        OSError: The library, or one that it needs, is not installed or cannot be loaded; the message says which.
    """
    if name in available_backends():
        return True
    backend = _BACKENDS.get(name)
    library = _installed(name, backend) if path is None else _given(name, backend, Path(path))
    if backend is not None:
        if name == "OpenvinoBackend":
            _point_to_openvino()
        _check_vendor_libraries(name, backend)
    _open_for_all(name, library)
    return name in available_backends()


def _given(name: str, backend: _Backend | None, path: Path) -> Path:
    """The library that a caller named."""
    if path.is_dir() and backend is not None:
        path /= backend.library
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Give the library that has the backend {name!r}.")
    package = path.parent.parent
    if package.name == "executorch" and (package / "version.py").is_file():
        _check_version(_version_in(package / "version.py"), path)
    return path.resolve()


def _version_in(module: Path) -> str:
    """The version that ExecuTorch's version.py states, read without running it."""
    import re

    found = re.search(r"""^__version__\b.*=\s*["']([^"']+)["']""", module.read_text("utf-8"), re.MULTILINE)
    return found[1] if found is not None else "unknown"


def _installed(name: str, backend: _Backend | None) -> Path:
    """A known backend's library in the installed package."""
    from importlib import metadata  # takes longer than all else here, and few need it

    wanted = f"executorch=={__executorch_version__}"
    if backend is None:
        raise ValueError(
            f"The backend {name!r} is not one of those known: {', '.join(map(repr, _BACKENDS))}. Give the path of its "
            "library."
        )
    try:
        distribution = metadata.distribution("executorch")
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(
            f"The backend {name!r} comes with the package executorch, which is not installed. Install it "
            f"(pip install {wanted}), or give the path of {backend.library}."
        ) from None
    _check_version(distribution.version, Path(str(distribution.locate_file("executorch"))))
    for folder in _library_folders(distribution):
        if (folder / backend.library).is_file():
            return (folder / backend.library).resolve()
    raise FileNotFoundError(
        f"The installed package executorch {distribution.version} has no {backend.library}: the backend {name!r} is "
        "not made for every system. Give the path of a library of one's own."
    )


def _library_folders(distribution: metadata.Distribution) -> Iterator[Path]:
    """Where the package's libraries may lie: where it was installed, or for an editable one, where imports find it."""
    from importlib import util

    yield Path(str(distribution.locate_file("executorch"))) / "lib"
    found = util.find_spec("executorch")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        yield Path(folder) / "lib"


def _check_version(version: str, where: Path) -> None:
    """Refuses other versions: their libraries expect other layouts in memory."""
    if version.split("+")[0] != __executorch_version__:
        raise ExecutorchError(
            f"{where} is of ExecuTorch {version}, and this package is built with {__executorch_version__}. "
            f"Install that version (pip install executorch=={__executorch_version__}).",
            _NOT_SUPPORTED,
            "NotSupported",
        )


def _point_to_openvino() -> None:
    """Tells the backend where the Python package of OpenVINO has its library, which the loader does not find."""
    from importlib import util

    if os.environ.get("OPENVINO_LIB_PATH"):
        return
    found = util.find_spec("openvino")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        for library in sorted(Path(folder, "libs").glob("libopenvino_c.so*")):
            os.environ["OPENVINO_LIB_PATH"] = str(library)
            return


def _check_vendor_libraries(name: str, backend: _Backend) -> None:
    """Refuses a backend that would load and then fail at its first use, for want of its vendor's libraries."""
    import ctypes

    for group in backend.needs:
        failures = []
        for library in group:
            place = os.environ.get("OPENVINO_LIB_PATH") if library == "libopenvino_c.so" else None
            try:
                ctypes.CDLL(place or library)
                break
            except OSError as error:
                failures.append(str(error))
        else:
            needed = " or ".join(group)
            raise OSError(f"The backend {name!r} needs {needed} ({'; '.join(failures)}). {backend.remedy}")


def _open_for_all(name: str, library: Path) -> None:
    """Loads a library; its backends register themselves with the runtime that this package has loaded."""
    import ctypes

    try:
        # The loader takes the libexecutorch.so that is loaded already, as it has the same name.
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise OSError(
            f"The library {library} of the backend {name!r} cannot be loaded ({error}). Install what it lacks, or name "
            "the folder of that in LD_LIBRARY_PATH before Python starts."
        ) from None
