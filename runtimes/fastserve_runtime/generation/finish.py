"""What came out of a generation, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fastserve_runtime.generation.tools import ToolCall

FinishReason = Literal["stop", "length", "context", "cancelled"]
"""Why a generation ended: with an end-of-sequence token or a stop string, after as many tokens as were asked for, at
the end of the model's context, or because the caller wanted no more."""
FINISH_REASONS: tuple[FinishReason, ...] = get_args(FinishReason)


@dataclass(frozen=True)
class Generation:
    """A generated text.

    Attributes:
        text: what was generated, without the prompt, special tokens, and a stop string that ended it.
        tokens: all ids that were generated, also those of an end-of-sequence token or a stop string.
        finish_reason: why it ended.
        prompt_tokens: how many tokens the prompt had as the model got it.
        first_token_seconds: from the call to the first token: tokenizing, the prompt's pass, and sampling.
        decode_seconds: from the first token to the last.
        tool_calls: functions that the model wants to be called; they are not part of the text.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    first_token_seconds: float
    decode_seconds: float
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def tokens_per_second(self) -> float | None:
        """The speed after the first token, None where it was the only one or too fast for the clock."""
        if len(self.tokens) < 2 or self.decode_seconds <= 0:
            return None
        return (len(self.tokens) - 1) / self.decode_seconds
