"""Reading the files by which sentence-transformers says how token vectors become a sentence embedding.

`modules.json` lists the modules in order: the Transformer, then any of Pooling, Dense and Normalize, each with a folder
(https://sbert.net/docs/sentence_transformer/usage/custom_models.html).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_runtime.errors import UsageError

POOLING_MODES = ("cls", "mean", "max", "mean_sqrt_len")
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU")


@dataclass(frozen=True)
class Dense:
    """A linear layer behind the pooling: its folder with weights, and its activation."""

    folder: str
    in_features: int
    out_features: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class SentenceHead:
    """What follows the Transformer: pooling modes whose results are joined, dense layers, normalisation."""

    pooling: tuple[str, ...]
    dense: tuple[Dense, ...]
    normalize: bool
    transformer_folder: str = ""


_OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_sentence_head(checkpoint: Path) -> SentenceHead | None:
    """Read a checkpoint's sentence-transformers files; None where it has none.

    Raises:
        UsageError: they name a module or mode that is not supported.
    """
    listing = checkpoint / "modules.json"
    if not listing.is_file():
        return None
    modules = read_json(listing)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise UsageError("The checkpoint's 'modules.json' is not a list of JSON objects.")
    _check_order([_kind(m) for m in modules])
    pooling: tuple[str, ...] | None = None
    dense: list[Dense] = []
    normalize = False
    transformer_folder = ""
    for module in modules:
        kind = _kind(module)
        folder = str(module.get("path", ""))
        if kind == "Transformer":
            transformer_folder = folder
        elif kind == "Pooling":
            pooling = _pooling(read_json(checkpoint / folder / "config.json"))
        elif kind == "Dense":
            dense.append(_dense(folder, read_json(checkpoint / folder / "config.json")))
        else:
            normalize = True
    if pooling is None:
        raise UsageError("The checkpoint's modules.json has no Pooling module.", "Add one, or remove modules.json.")
    return SentenceHead(pooling, tuple(dense), normalize, transformer_folder)


def _kind(module: Mapping[str, Any]) -> str:
    return str(module.get("type", "")).rpartition(".")[2]


def _check_order(kinds: list[str]) -> None:
    for kind in kinds:
        if kind not in MODULES:
            raise UsageError(
                f"The checkpoint's modules.json names the module '{kind}', which is not supported.",
                f"Supported are: {', '.join(MODULES)}.",
            )
    if kinds != sorted(kinds, key=MODULES.index):
        raise UsageError(
            f"The checkpoint's modules.json has the order {', '.join(kinds)}, which is not supported.",
            f"Supported is: {', '.join(MODULES)}.",
        )


def read_json(file: Path) -> Any:
    """Read a JSON file of a checkpoint.

    Raises:
        UsageError: it is missing or not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The checkpoint's '{file.name}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The checkpoint's '{file.name}' is not JSON: {error}.") from error


def _pooling(config: Mapping[str, Any]) -> tuple[str, ...]:
    mode = config.get("pooling_mode")
    if mode is not None:
        modes = (mode,) if isinstance(mode, str) else tuple(mode)
    else:
        modes = tuple(name for flag, name in _OLD_FLAGS.items() if config.get(flag))
    unsupported = [m for m in modes if m not in POOLING_MODES]
    if unsupported or not modes:
        raise UsageError(
            f"The checkpoint's pooling mode '{unsupported[0] if unsupported else 'none'}' is not supported.",
            f"Supported are: {', '.join(POOLING_MODES)}.",
        )
    return modes


def _dense(folder: str, config: Mapping[str, Any]) -> Dense:
    missing = [name for name in ("in_features", "out_features") if name not in config]
    if missing:
        raise UsageError(f"The checkpoint's '{folder}/config.json' does not give '{missing[0]}'.")
    activation = str(config.get("activation_function", "torch.nn.modules.linear.Identity")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise UsageError(
            f"The checkpoint's dense layer has the activation '{activation}', which is not supported.",
            f"Supported are: {', '.join(ACTIVATIONS)}.",
        )
    return Dense(
        folder,
        int(config["in_features"]),
        int(config["out_features"]),
        bool(config.get("bias", True)),
        activation,
    )
