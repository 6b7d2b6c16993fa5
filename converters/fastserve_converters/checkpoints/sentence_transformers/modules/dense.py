"""`Dense`: a linear layer with an activation."""

from __future__ import annotations

from dataclasses import dataclass

from fastserve_converters.checkpoints.sentence_transformers.config_file import ConfigFile
from fastserve_converters.checkpoints.sentence_transformers.modules import SENTENCE
from fastserve_runtime.errors import UsageError

ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU", "ELU", "LeakyReLU", "ReLU6", "Hardtanh")
"""Classes of `torch.nn` that are carried, made without arguments as sentence-transformers does."""
_DEFAULT = "torch.nn.modules.activation.Tanh"
_MODULES = ("torch.nn", "torch.nn.modules", "torch.nn.modules.activation", "torch.nn.modules.linear")
_KNOWN = (
    "in_features",
    "out_features",
    "bias",
    "activation_function",
    "module_input_name",
    "module_output_name",
    "use_residual",
)


@dataclass(frozen=True)
class Dense:
    """A linear layer, its activation, and its input added to the result where it is residual.

    Attributes:
        folder: of its weights.
        residual: whether the input is added, through a matrix of its own where the sizes differ.
    """

    folder: str
    in_features: int
    out_features: int
    bias: bool
    activation: str
    residual: bool = False
    source: str = SENTENCE
    target: str = SENTENCE

    def width_of(self, width: int | None) -> int:
        """Return the width of the result.

        Raises:
            UsageError: the input is of another width than the layer takes.
        """
        if width is not None and width != self.in_features:
            raise UsageError(
                f"The checkpoint's '{self.folder}' takes vectors of {self.in_features} numbers; what is before it "
                f"gives {width}.",
                "Check the in_features in its config.json.",
            )
        return self.out_features


def read(config: ConfigFile, folder: str) -> tuple[Dense, tuple[str, ...]]:
    """Read a Dense module, and notes on keys that sentence-transformers passes over.

    Raises:
        UsageError: a size is missing, or the activation is not supported.
    """
    source = config.value("module_input_name", str, default=SENTENCE)
    layer = Dense(
        folder,
        config.value("in_features", int),
        config.value("out_features", int),
        config.value("bias", bool, default=True),
        _activation(config),
        config.value("use_residual", bool, default=False),
        source,
        config.optional("module_output_name", str) or source,
    )
    notes = tuple(
        f"{config.name} has '{key}', which sentence-transformers passes over; so does the bundle."
        for key in config.unknown_keys(_KNOWN)
    )
    return layer, notes


def _activation(config: ConfigFile) -> str:
    path = config.value("activation_function", str, default=_DEFAULT)
    module, _, name = path.rpartition(".")
    if module not in _MODULES or name not in ACTIVATIONS:
        raise UsageError(
            f"The checkpoint's dense layer has the activation '{path}', which is not supported.",
            f"Supported are, of torch.nn: {', '.join(ACTIVATIONS)}.",
        )
    return name
