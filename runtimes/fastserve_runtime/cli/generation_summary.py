"""How a generated text came about, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastserve_runtime.generation.finish import Generation

_ENDS = {
    "stop": "the model or a stop string",
    "length": "--max-new-tokens",
    "context": "the end of the context",
    "cancelled": "you",
}


def summary(generation: Generation, reused: int) -> str:
    """Say in one line how a text came about."""
    speed = generation.tokens_per_second
    figures = [
        f"prompt {generation.prompt_tokens} tokens" + (f", {reused} of them kept" if reused else ""),
        f"first token after {generation.first_token_seconds:.2f} s",
        f"{len(generation.tokens)} new tokens" + ("" if speed is None else f" at {speed:.1f} tokens/s"),
        f"ended by {_ENDS[generation.finish_reason]}",
    ]
    return "; ".join(figures)
