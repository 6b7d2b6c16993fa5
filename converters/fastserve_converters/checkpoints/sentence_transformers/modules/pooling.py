"""`Pooling`: the vectors of a text's tokens become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastserve_converters.checkpoints.sentence_transformers.config_file import ConfigFile
from fastserve_converters.checkpoints.sentence_transformers.modules import SENTENCE, TOKENS
from fastserve_runtime.errors import UsageError

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The old spelling, in the order in which several results are joined."""
_DEFAULT = ("mean",)


@dataclass(frozen=True)
class Pooling:
    """Pools the vectors of tokens.

    Attributes:
        modes: whose results are joined, in order.
        includes_prompt: whether a prompt's tokens are pooled too.
    """

    modes: tuple[str, ...]
    includes_prompt: bool = True
    source: str = TOKENS
    target: str = SENTENCE

    def width_of(self, width: int | None) -> int | None:
        """Return the width of the joined results."""
        return None if width is None else width * len(self.modes)


def read(config: ConfigFile) -> Pooling:
    """Read a Pooling module.

    Raises:
        UsageError: a mode or key is not supported.
    """
    # The dimension is only said; the vectors have the one that they have.
    known = {"embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt", *OLD_FLAGS}
    config.check_keys(known)
    modes = _modes(config)
    unsupported = [m for m in modes if m not in MODES]
    if unsupported or not modes:
        raise UsageError(
            f"The checkpoint's pooling mode '{unsupported[0] if unsupported else 'none'}' is not supported.",
            f"Supported are: {', '.join(MODES)}.",
        )
    return Pooling(modes, config.value("include_prompt", bool, default=True))


def _modes(config: ConfigFile) -> tuple[Any, ...]:
    if "pooling_mode" in config.content:
        named = config.content["pooling_mode"]
        return (named,) if isinstance(named, str) else tuple(named) if isinstance(named, list) else (str(named),)
    return tuple(name for flag, name in OLD_FLAGS.items() if config.content.get(flag)) or _DEFAULT
