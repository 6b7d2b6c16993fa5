"""The commands that devices have too: `run`, `inspect`, `verify`, `serve`, as the runtime has them, in colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from fastserve.cli.rich_view import RichView
from fastserve_runtime.cli import run_words
from fastserve_runtime.errors import EXIT_OK

DESCRIPTIONS = {
    "run": "Use a bundle: embeddings and how alike the texts are, labels with scores, answers, or generated text.",
    "inspect": "Show what is inside a bundle, or what this machine can run.",
    "verify": "Check a bundle's integrity and its goldens with the runtime alone.",
    "serve": "Serve bundles over HTTP as OpenAI's API does, until Ctrl-C.",
}


class ForwardedCommand(TyperCommand):
    """A command whose words, help and wrong usage are the runtime's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the words as they are."""
        ctx.args = list(args)
        return []


def device_command(name: str) -> Callable[[typer.Context], None]:
    """Return the runtime's command of that name."""

    def command(context: typer.Context) -> None:
        code = run_words([name, *context.args], RichView(), program="fastserve")
        if code != EXIT_OK:
            raise typer.Exit(code)

    command.__doc__ = DESCRIPTIONS[name]
    return command
