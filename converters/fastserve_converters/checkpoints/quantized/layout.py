"""What the layouts of quantized checkpoints have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.checkpoints.quantized.grouped_weight import GroupedWeight
from fastserve_runtime.errors import UsageError

Arrays = Mapping[str, NDArray[Any]]
"""The parts of a layer by the endings of their names; small floats are float32."""
REMEDY = "Export the model that it was made from, or dequantize it and save it with save_pretrained()."


class Layout(Protocol):
    """How one library stores the weights of a layer.

    Attributes:
        TITLE: the library's or the method's name.
        PARTS: endings of the names of a quantized layer's tensors.
        MARKS: those of them by which a layer is known to be quantized.
        LEFT_OUT: endings of further tensors beside a layer, which say nothing of its weights.
    """

    TITLE: str
    PARTS: frozenset[str]
    MARKS: frozenset[str]
    LEFT_OUT: frozenset[str]

    def check(self, settings: Mapping[str, Any]) -> str:
        """Describe a `quantization_config` in a few words, or raise `UsageError`."""
        ...

    def read(self, parts: Arrays, settings: Mapping[str, Any]) -> GroupedWeight | NDArray[np.float32]:
        """Return a layer's weight, [outputs, inputs]; raise `ValueError` where its parts do not fit each other."""
        ...


@dataclass(frozen=True)
class Setting:
    """Access to the values of a `quantization_config`."""

    settings: Mapping[str, Any]
    title: str

    def one_of(self, key: str, known: tuple[Any, ...], *, also: tuple[str, ...] = (), default: Any = None) -> Any:
        """Return a value that must be a known one.

        Raises:
            UsageError: it is another.
        """
        value = next((self.settings[k] for k in (key, *also) if k in self.settings), default)
        value = value.lower() if isinstance(value, str) else value
        if value not in known:
            raise UsageError(
                f"The checkpoint is quantized by {self.title} with '{key}' {value!r:.40}, which is not supported; "
                f"supported are {', '.join(map(str, known))}.",
                REMEDY,
            )
        return value
