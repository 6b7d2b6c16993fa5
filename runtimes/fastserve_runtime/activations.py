"""What makes a model's logits the scores that people see. Without numpy until it does, since tasks' modules name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import BundleError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Activation = Callable[[NDArray[np.float64]], NDArray[np.float64]]

SETTING = "activation"
"""The name in a manifest's `task_settings`."""


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities over the last axis."""
    import numpy as np

    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each logit's own probability."""
    import numpy as np

    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


def identity(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits as they are."""
    return logits


ACTIVATIONS: Mapping[str, Activation] = {"softmax": softmax, "sigmoid": sigmoid, "identity": identity}


def activation_of(settings: Mapping[str, Any], usual: str) -> Activation:
    """Return the activation that `task_settings` name.

    Args:
        settings: the manifest's.
        usual: the one that is meant where they name none.

    Raises:
        BundleError: they name an unknown one.
    """
    name = settings.get(SETTING, usual)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise BundleError(
            f"task_settings.{SETTING} is {name!r:.60}; known are {', '.join(ACTIVATIONS)}.",
            "Update fastserve-runtime, or export the bundle again.",
        )
    return ACTIVATIONS[name]
