"""How many tokens a model of the LongRoPE kind can be exported for (arXiv 2402.13753; Phi-3).

Such a model has two sets of factors for its rotary embedding. Transformers takes the short ones for a text of up to as
many tokens as the model was first trained with, and the long ones for all positions of a longer text, so that every key
in the cache is another one then. A graph has one table of positions: that of the short factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = ("longrope", "su")
"""What configs call it; the second is its name of before."""


def short_tokens(config: Mapping[str, Any]) -> int | None:
    """Return up to how many tokens a model takes its short factors; None if it has but one set.

    Args:
        config: its `config.json`.
    """
    found = config.get("rope_parameters") or config.get("rope_scaling")
    rope = found if isinstance(found, Mapping) else {}
    # Phi-3's first configs say "yarn" too, and mean this.
    names = (*_NAMES, "yarn") if config.get("model_type") == "phi3" else _NAMES
    if (rope.get("rope_type") or rope.get("type")) not in names:
        return None
    places = (rope, config)
    counts = [place.get("original_max_position_embeddings") for place in places]
    most = next((count for count in counts if count), config.get("max_position_embeddings"))
    return None if most is None else int(most)


def longrope_notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the user should know of an export of a model, in sentences.

    Args:
        config: its `config.json`.
    """
    short, most = short_tokens(config), int(config.get("max_position_embeddings") or 0)
    if short is None or most <= short:
        return ()
    told = f"it is exported with its short factors, for up to {short} tokens; the long ones, for up to {most}"
    return (f"The model's rotary embedding is longrope: {told}, are not supported.",)
