"""Kinds of preprocessing: one module each, by the name that a manifest's `preprocessing.kind` has.

Third parties add theirs by the entry-point group `fastserve_runtime.preprocessors`. What makes samples for an export
stands in the converters' `data`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.plugins import PartFolder

if TYPE_CHECKING:
    from fastserve_runtime.bundle.golden import Golden
    from fastserve_runtime.bundle.manifest import Preprocessing

    Read = Callable[[str], bytes]
    """Gives the content of one of a bundle's files, after comparing it with the manifest."""

KINDS = PartFolder("fastserve_runtime.preprocessors.kinds", "fastserve_runtime.preprocessors", "kind of preprocessing")


class Preprocessor(Protocol):
    """Makes a model's tensors of what its users have."""

    def raw_inputs(self, golden: Golden) -> Any:
        """Return what a golden's tensors were made of, as the task's pipeline is called with it."""

    def differing(self, golden: Golden) -> list[str]:
        """Return the names of a golden's inputs that what they were made of does not give now."""


class PreprocessorKind(Protocol):
    """What a module in `kinds` offers."""

    def open_preprocessor(self, preprocessing: Preprocessing, read: Read) -> Preprocessor:
        """Open a bundle's preprocessing.

        Raises:
            EnvironmentFailure: its library is missing.
            BundleError: its settings or its files are missing or damaged.
        """


def preprocessor_kind(name: str) -> PreprocessorKind:
    """Return what opens a kind of preprocessing.

    Raises:
        BundleError: it is not known to this version.
    """
    try:
        kind: PreprocessorKind = KINDS.load(name)
    except UsageError as error:
        raise BundleError(
            f"The bundle's preprocessing is of kind '{name:.60}', which this runtime does not know.",
            "Update fastserve-runtime, or install what adds that kind.",
        ) from error
    return kind


def first_file(preprocessing: Preprocessing, read: Read, what: str) -> bytes:
    """Return the content of the one file that a kind needs.

    Args:
        preprocessing: the manifest's.
        read: reads it.
        what: what it is, for the message.

    Raises:
        BundleError: the manifest names none.
    """
    if not preprocessing.files:
        raise BundleError(f"The bundle's manifest names no {what} file.", "Export the bundle again.")
    return read(preprocessing.files[0])
