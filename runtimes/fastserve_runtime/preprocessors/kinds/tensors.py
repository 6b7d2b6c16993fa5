"""Kind `tensors`: a model whose users have its tensors already."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastserve_runtime.bundle.golden import Arrays, Golden
    from fastserve_runtime.bundle.manifest import Preprocessing
    from fastserve_runtime.preprocessors.kinds import Read

KIND = "tensors"


class Tensors:
    """Takes tensors as they are."""

    def raw_inputs(self, golden: Golden) -> Arrays:
        """Return the golden's tensors by name, samples along the first axis."""
        return golden.inputs

    def differing(self, golden: Golden) -> list[str]:  # noqa: ARG002 -- the same for every kind
        """Return nothing: what goes in is what the model gets."""
        return []


def open_preprocessor(preprocessing: Preprocessing, read: Read) -> Tensors:  # noqa: ARG001 -- the same for every kind
    """Return what takes tensors as they are; see `PreprocessorKind`."""
    return Tensors()
