"""What is said to a model and by it: single prompts or a conversation, with the same options for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_runtime.cli.generation_options import GenerationOptions
from fastserve_runtime.cli.streams import tell
from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.conversation import Messages, answered, asked, fitted, with_system

if TYPE_CHECKING:
    from fastserve_runtime.generation.finish import Generation
    from fastserve_runtime.pipelines.text_generation.pipeline import TextGeneration


class Dialogue:
    """Texts that a model generates one after another.

    Attributes:
        messages: the conversation so far; empty where prompts are continued rather than answered.
        result: the last text with its figures; None while one is generated.
    """

    def __init__(self, pipeline: TextGeneration, options: GenerationOptions) -> None:
        """Begin.

        Raises:
            UsageError: a conversation is wanted, and the model has no chat template.
        """
        self.pipeline = pipeline
        self.options = options
        self.is_conversation = pipeline.takes_messages and not options.raw
        if not self.is_conversation and (options.chat or options.system is not None):
            flag = "--chat" if options.chat else "--system"
            raise UsageError(f"The model has no chat template, so that {flag} cannot be used.", "Leave it out.")
        self.messages: Messages = ()
        self.result: Generation | None = None
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation."""
        self.messages = () if self.options.system is None else with_system((), self.options.system)

    def restore(self, file: Path) -> None:
        """Go on from a saved session; see `TextGeneration.restore_session`."""
        messages = tuple(self.pipeline.restore_session(file))
        system = self.options.system
        self.messages = messages if system is None else with_system(messages, system)

    def save(self, file: Path) -> None:
        """Save the session; see `TextGeneration.save_session`."""
        self.pipeline.save_session(file, self.messages)

    def pieces(self, text: str, is_cancelled: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """Yield the answer to a text, or its continuation, as it is generated.

        The conversation then has both; what was cancelled before it began leaves nothing.

        Raises:
            PromptTooLong: it does not fit the context.
            InputError: the chat template refuses the conversation, or the prompt is empty.
            UsageError: an option is out of range.
            BundleError: the chat template is damaged.
            EnvironmentFailure: the engine failed.
        """
        self.result = None
        if not self.is_conversation:
            stream = self.pipeline.stream(text, **self.options.for_stream(), is_cancelled=is_cancelled)
            yield from stream
            self.result = stream.result
            return
        messages, options = self._fitted(asked(self.messages, text))
        stream = self.pipeline.stream(messages, **options.for_stream(), is_cancelled=is_cancelled)
        yield from stream
        self.result = stream.result
        if self.result is not None and (self.result.text or self.result.finish_reason != "cancelled"):
            self.messages = answered(messages, self.result.text)

    def _fitted(self, messages: Messages) -> tuple[Messages, GenerationOptions]:
        """Make room in the context where that is wanted: by whole turns, and only then inside of the last message."""
        if self.options.overflow != "window":
            return messages, self.options
        from fastserve_runtime.pipelines.text_generation.pipeline import MAX_NEW_TOKENS

        context = self.pipeline.context
        wanted = self.options.max_new_tokens
        room = min(MAX_NEW_TOKENS if wanted is None else wanted, context // 2)
        messages, dropped = fitted(messages, self.pipeline.count_tokens, context - room)
        if dropped:
            turns = "oldest turn does" if dropped == 1 else f"{dropped} oldest turns do"
            tell(f"The {turns} not fit into the context of {context} tokens any more and left the conversation.")
        if self.pipeline.count_tokens(messages) < context:
            return messages, replace(self.options, overflow="error")
        return messages, replace(self.options, max_new_tokens=room)
