"""Which rotary factors a model of the LongRoPE kind is exported with (arXiv 2402.13753; Phi-3).

Such a model has two sets of factors for its rotary embedding. Transformers takes the short ones for a text of up to as
many tokens as the model was first trained with, and the long ones for all positions of a longer text, so that every key
in the cache is another one then. A graph has one table of positions. So the context that it is exported for decides, as
it does in llama.cpp: up to as many tokens it is the table of the short factors, beyond that of the long ones, for texts
of any length. The reference is the model with the same factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    import torch

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
    maximum = next((count for count in counts if count), config.get("max_position_embeddings"))
    return None if maximum is None else int(maximum)


def takes_long_factors(config: Mapping[str, Any], context: int) -> bool:
    """Whether a model is exported with its long factors.

    Args:
        config: its `config.json`.
        context: how many tokens it is exported for.
    """
    short = short_tokens(config)
    return short is not None and context > short


def fix_long_factors(model: torch.nn.Module, config: Mapping[str, Any]) -> None:
    """Make a model of Transformers take its long factors for texts of any length.

    Args:
        model: as loaded; it is changed.
        config: its `config.json`.

    Raises:
        UsageError: its rotary embedding is made in a way that is not known here.
    """
    import torch

    short = short_tokens(config)
    modules: list[Any] = [m for m in model.modules() if getattr(m, "rope_type", None) == _NAMES[0]]
    for module in modules:
        module(torch.zeros(1), torch.tensor([[short]]))  # the first position for which it takes them
        long = getattr(module, "long_inv_freq", None)
        if long is None or not torch.equal(module.inv_freq, long):
            modules = []
            break
        module.original_inv_freq = long.clone()
    if not modules:
        raise UsageError(
            f"The model's longrope factors for more than {short} tokens are kept in a way that no rule here knows.",
            f"Export it for --context {short} or less.",
        )


def longrope_notes(config: Mapping[str, Any], context: int) -> tuple[str, ...]:
    """Return what the user should know of an export of a model, in sentences.

    Args:
        config: its `config.json`.
        context: how many tokens it is exported for.
    """
    short, maximum = short_tokens(config), int(config.get("max_position_embeddings") or 0)
    if short is None or maximum <= short:
        return ()
    told = f"The model's rotary embedding is longrope: for a context of {context} tokens it is exported with its"
    if context <= short:
        more = f"short factors, as they are for texts of up to {short}; with --context above that it has the long ones"
        return (f"{told} {more}, for up to {maximum}.",)
    more = (
        f"long factors, for texts of any length, as llama.cpp does. Transformers takes them for texts of more than "
        f"{short} tokens, and the short ones for others: export a second bundle for these where they matter."
    )
    return (f"{told} {more}",)
