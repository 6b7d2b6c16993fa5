"""Which modules of sentence-transformers are carried, and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastserve_converters.checkpoints.sentence_transformers.config_file import ConfigFile, in_folder, read_config
from fastserve_converters.checkpoints.sentence_transformers.modules import (
    SentenceModule,
    dense,
    layer_norm,
    normalize,
    pooling,
    weighted_layer_pooling,
)
from fastserve_runtime.errors import UsageError

SAFE_WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
Read = tuple[SentenceModule | None, tuple[str, ...]]
"""A module, None where it has no effect, and notes."""


@dataclass(frozen=True)
class Kind:
    """How modules of a class are read.

    Attributes:
        read: from the content of their `config.json` and their folder.
        has_weights: whether they have weights of their own.
        needs_config: whether they must have a `config.json`.
    """

    read: Callable[[ConfigFile, str], Read]
    has_weights: bool = False
    needs_config: bool = True


def _dropout(config: ConfigFile, folder: str) -> Read:  # noqa: ARG001 -- the same for every kind
    config.check_keys(("dropout",))
    return None, ()


KINDS: Mapping[str, Kind] = {
    "Pooling": Kind(lambda config, _: (pooling.read(config), ())),
    "Dense": Kind(dense.read, has_weights=True),
    "LayerNorm": Kind(lambda config, folder: (layer_norm.read(config, folder), ()), has_weights=True),
    "Normalize": Kind(lambda config, _: normalize.read(config), needs_config=False),
    # Drops nothing outside training.
    "Dropout": Kind(_dropout, needs_config=False),
    "WeightedLayerPooling": Kind(
        lambda config, folder: (weighted_layer_pooling.read(config, folder), ()), has_weights=True
    ),
}


def check_supported(kind: str) -> None:
    """Refuse a module that is not carried.

    Raises:
        UsageError: naming it.
    """
    if kind not in KINDS:
        raise UsageError(
            f"The checkpoint's modules.json names the module '{kind}', which is not supported.",
            f"Supported are: Transformer, {', '.join(KINDS)}.",
        )


def read_modules(
    root: Path, entries: Sequence[tuple[str, str]], *, has_layers: bool, allow_pickle: bool
) -> tuple[tuple[SentenceModule, ...], tuple[str, ...]]:
    """Read the modules behind the Transformer, in order; those without effect are left out.

    Args:
        root: the checkpoint's directory.
        entries: kind and folder of each.
        has_layers: whether the Transformer gives the hidden states of all its layers.
        allow_pickle: accept weights that are pickles.

    Returns:
        The modules, and notes for the user.

    Raises:
        UsageError: a module, key or value is not supported, or weights are missing or not allowed.
    """
    for name, _ in entries:
        check_supported(name)
    modules: list[SentenceModule] = []
    notes: list[str] = []
    for name, folder in entries:
        reader = KINDS[name]
        config = read_config(root, in_folder(folder, "config.json"), optional=not reader.needs_config)
        module, more = reader.read(config, folder)
        notes += more
        if isinstance(module, weighted_layer_pooling.WeightedLayerPooling) and not has_layers:
            notes.append(
                f"{folder} has no effect, since the model's config has no output_hidden_states; so it is in "
                "sentence-transformers, which gives the last layer to what follows."
            )
        elif module is not None:
            modules.append(module)
            if reader.has_weights:
                weights_of(root, folder, allow_pickle=allow_pickle)
    return tuple(modules), tuple(notes)


def weights_of(root: Path, folder: str, *, allow_pickle: bool) -> Path:
    """Return the file of a module's weights.

    Raises:
        UsageError: there is none, or it is a pickle, which was not allowed.
    """
    if (root / folder / SAFE_WEIGHTS).is_file():
        return root / folder / SAFE_WEIGHTS
    if not (root / folder / PICKLED_WEIGHTS).is_file():
        raise UsageError(f"The checkpoint's module '{folder}' has no weights.", f"A file {SAFE_WEIGHTS} is wanted.")
    if not allow_pickle:
        raise UsageError(
            f"The checkpoint's weights '{folder}/{PICKLED_WEIGHTS}' are a pickle, which can run code when it is read.",
            "Save it as safetensors, or accept it with --allow-pickle.",
        )
    return root / folder / PICKLED_WEIGHTS
