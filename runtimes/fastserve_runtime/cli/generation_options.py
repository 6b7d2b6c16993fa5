"""What the command line says of generating text, and what it may say to which bundles."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fastserve_runtime.errors import UsageError

_OF_STREAM = (
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "stop",
    "seed",
    "overflow",
)


@dataclass(frozen=True)
class GenerationOptions:
    """How text is to be generated; what is left out is the model's or the runtime's own choice.

    Attributes:
        max_new_tokens: at most so many tokens for each text.
        temperature: 0 always takes the likeliest token.
        top_k: choose among so many of the likeliest.
        top_p: choose among the likeliest that make up this probability.
        min_p: choose among those that have at least this share of the likeliest one's probability.
        repetition_penalty: what makes tokens that were seen less likely, above 1.
        stop: strings that end a text.
        seed: for the same text again.
        overflow: `error` or `window`: what becomes of a prompt that is too long.
        system: what the model is told before a conversation.
        raw: whether prompts are continued as they are, rather than answered.
        chat: whether messages are typed one after another.
        session: where the model's state comes from and goes to.
        verbose: whether figures are told of each text.
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    overflow: str | None = None
    system: str | None = None
    raw: bool = False
    chat: bool = False
    session: Path | None = None
    verbose: bool = False

    @classmethod
    def of_arguments(cls, arguments: argparse.Namespace) -> GenerationOptions:
        """Take the options from what argparse made."""
        values = {field.name: getattr(arguments, field.name) for field in fields(cls)}
        return cls(**{**values, "stop": tuple(values["stop"])})

    def for_stream(self) -> dict[str, Any]:
        """Return those for `TextGeneration.stream` that were given."""
        values = {name: getattr(self, name) for name in _OF_STREAM}
        return {name: value for name, value in values.items() if value is not None}


def flag_of(name: str) -> str:
    """Return the flag of an option: `max_new_tokens` is `--max-new-tokens`."""
    return f"--{name.replace('_', '-')}"


def check_combination(options: GenerationOptions, words: Sequence[str], *, as_json: bool) -> None:
    """Refuse options that contradict each other.

    Args:
        options: the options.
        words: the texts of the command line.
        as_json: whether one JSON document is wanted.

    Raises:
        UsageError: naming those that cannot go together.
    """
    if options.chat and words:
        raise UsageError("--chat takes no texts on the command line.", "Type them at its prompt.")
    for flag, is_given in (("--json", as_json), ("--raw", options.raw)):
        if options.chat and is_given:
            raise UsageError(f"--chat and {flag} cannot go together.", "Leave one out.")
    if options.raw and options.system is not None:
        raise UsageError("--raw and --system cannot go together.", "Leave one out.")


def add_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags to a command."""
    group = command.add_argument_group("text generation")
    for name, kind, metavar, description in (
        ("max_new_tokens", int, "N", "Generate at most N tokens; 256 if left out."),
        ("temperature", float, "T", "0 always takes the likeliest token; what the model advises if left out."),
        ("top_k", int, "K", "Choose among the K likeliest tokens; 0 for all."),
        ("top_p", float, "P", "Choose among the likeliest tokens that make up this probability."),
        ("min_p", float, "P", "Choose among tokens with at least this share of the likeliest one's probability."),
        ("repetition_penalty", float, "R", "Make tokens that were seen less likely; 1 for no penalty."),
        ("seed", int, "N", "Draw the same tokens again."),
        ("system", str, "TEXT", "Tell a chat model this before the conversation."),
        ("session", Path, "FILE", "Go on from a saved session if there is one, and save it at the end."),
    ):
        group.add_argument(flag_of(name), type=kind, metavar=metavar, help=description)
    group.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="End a text before this; may be given again."
    )
    group.add_argument(
        "--overflow",
        choices=("error", "window"),
        help="Refuse prompts longer than the context, or drop their beginning.",
    )
    group.add_argument("--raw", action="store_true", help="Continue the text as it is, also with a chat model.")
    group.add_argument("--chat", action="store_true", help="Talk with the model; /help tells the commands.")
    group.add_argument("--verbose", action="store_true", help="Tell figures of each text on standard error.")
