"""Conversations as sequences of messages: what is added, and what goes when the context is full."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Messages = tuple[Mapping[str, Any], ...]


def with_system(messages: Messages, text: str) -> Messages:
    """Return a conversation that begins with this system message, in the place of another one."""
    return ({"role": "system", "content": text}, *messages[_leading(messages) :])


def asked(messages: Messages, text: str) -> Messages:
    """Return a conversation with one more message of the user."""
    return (*messages, {"role": "user", "content": text})


def answered(messages: Messages, text: str) -> Messages:
    """Return a conversation with one more message of the model."""
    return (*messages, {"role": "assistant", "content": text})


def fitted(messages: Messages, count_tokens: Callable[[Messages], int], maximum: int) -> tuple[Messages, int]:
    """Drop the oldest turns of a conversation until the rest fits.

    A turn is a message of the user with what follows it; system messages at the beginning and the last turn stay.

    Args:
        messages: the conversation.
        count_tokens: tells how many tokens a conversation has.
        maximum: how many it may have.

    Returns:
        The rest, which may still be too long, and how many turns were dropped.
    """
    dropped = 0
    while count_tokens(messages) > maximum:
        shorter = _without_oldest_turn(messages)
        if shorter is None:
            break
        messages = shorter
        dropped += 1
    return messages, dropped


def _without_oldest_turn(messages: Messages) -> Messages | None:
    start = _leading(messages)
    later = (i for i in range(start + 1, len(messages)) if messages[i]["role"] == "user")
    end = next(later, None)
    return None if end is None else messages[:start] + messages[end:]


def _leading(messages: Messages) -> int:
    """Return how many system messages a conversation begins with."""
    others = (i for i, message in enumerate(messages) if message["role"] not in ("system", "developer"))
    return next(others, len(messages))
