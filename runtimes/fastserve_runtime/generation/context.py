"""How a prompt meets a model's limited context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, get_args

from fastserve_runtime.errors import InputError, UsageError

Overflow = Literal["error", "window"]
"""What becomes of a prompt that is too long: it is refused, or only its end is kept."""
OVERFLOW: tuple[Overflow, ...] = get_args(Overflow)


class PromptTooLong(InputError):
    """A prompt leaves no room for a new token in the context."""


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt that leaves room in the context.

    Attributes:
        tokens: what the model gets, at least one and fewer than the context takes.
        dropped: how many tokens of the prompt are not among them.
        room: how many tokens may be generated, at least 1: as many as were asked for, or the rest of the context.
    """

    tokens: tuple[int, ...]
    dropped: int
    room: int


def fit(
    prompt_tokens: Sequence[int],
    max_new_tokens: int,
    context: int,
    overflow: Overflow = "error",
    *,
    beginning: int | None = None,
) -> FittedPrompt:
    """Make a prompt leave room for new tokens in the context.

    With `error`, a prompt is taken if it leaves room for one token at least; generation then may end at the context's
    end. With `window`, room is made for all `max_new_tokens`, or as many as the context takes beside one token of the
    prompt: the prompt's last tokens are kept, behind its beginning-of-sequence token if it starts with one, on which
    many models pile attention (StreamingLLM, Xiao et al. 2023, arXiv 2309.17453).

    Args:
        prompt_tokens: the whole prompt.
        max_new_tokens: how many tokens are to be generated at most.
        context: how many tokens the model takes, prompt and new ones together.
        overflow: what becomes of a prompt that is too long.
        beginning: the id of the model's beginning-of-sequence token, None if it has none.

    Raises:
        PromptTooLong: the prompt leaves no room.
        InputError: the prompt is empty and the model has no token to begin with.
        UsageError: `max_new_tokens` is below 1, `context` below 2, or `overflow` neither word.
    """
    if overflow not in OVERFLOW:
        raise UsageError(f"Long prompts cannot be treated by '{overflow}'.", f"Choose {' or '.join(OVERFLOW)}.")
    if max_new_tokens < 1:
        raise UsageError(f"{max_new_tokens} new tokens were asked for.", "Ask for at least 1.")
    if context < 2:
        raise UsageError(f"A context of {context} tokens cannot hold a prompt and a new token.", "Give at least 2.")
    tokens = tuple(prompt_tokens)
    if not tokens:
        if beginning is None:
            raise InputError("The prompt is empty, and the model has no token to begin with.", "Give a prompt.")
        tokens = (beginning,)
    if overflow == "error":
        if len(tokens) >= context:
            raise PromptTooLong(
                f"The prompt has {len(tokens)} tokens; the context takes {context} with at least one new token.",
                "Shorten the prompt, or choose overflow='window' to keep only its end.",
            )
        return FittedPrompt(tokens, 0, min(max_new_tokens, context - len(tokens)))
    kept = _window(tokens, max_new_tokens, context, beginning)
    return FittedPrompt(kept, len(tokens) - len(kept), min(max_new_tokens, context - len(kept)))


def _window(tokens: tuple[int, ...], max_new_tokens: int, context: int, beginning: int | None) -> tuple[int, ...]:
    if len(tokens) + max_new_tokens <= context:
        return tokens
    head = tokens[:1] if tokens[0] == beginning and context > 2 else ()
    tail = min(max(context - max_new_tokens - len(head), 1), len(tokens) - len(head))
    return head + tokens[len(tokens) - tail :]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two prompts share from the beginning: so much of the first one's cache serves the second.

    Args:
        a: the tokens that a KV cache holds.
        b: the tokens of the next prompt.
    """
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
