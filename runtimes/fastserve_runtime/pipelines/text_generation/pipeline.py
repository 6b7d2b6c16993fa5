"""Generates text: the continuation of one, or the answer in a conversation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError, one_line
from fastserve_runtime.generation.context import Overflow, fit
from fastserve_runtime.generation.detokenization import TokenStream
from fastserve_runtime.generation.finish import FinishReason, Generation
from fastserve_runtime.generation.grammar import Grammar
from fastserve_runtime.generation.prepared_prompt import PreparedPrompt, prepared
from fastserve_runtime.generation.prompt_tokenizer import Message, PromptTokenizer, TemplateOptions
from fastserve_runtime.generation.sampling import Sampler, Sampling
from fastserve_runtime.generation.saved_session import SavedSession, check_fits, read_from_file, save_to_file
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder, has_shared_cache
from fastserve_runtime.generation.sliced_cache import SlicedCacheDecoder, has_sliced_cache
from fastserve_runtime.generation.stateful import StatefulDecoder, keeps_cache_inside
from fastserve_runtime.generation.stopping import StopStrings
from fastserve_runtime.generation.token_decoder import TokenDecoder
from fastserve_runtime.generation.token_loop import TokenLoop
from fastserve_runtime.generation.tools import ToolCall, ToolUse
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    from fastserve_runtime.generation.logits_processors import LogitsProcessor
MAX_NEW_TOKENS = 256
"""As many tokens are generated at most where the caller does not say."""


class TextStream:
    """The pieces of a text while it is generated. Iterate over it; then `result` tells how it ended."""

    def __init__(self, pieces: Iterator[str], result: Callable[[], Generation | None]) -> None:
        self._pieces = pieces
        self._result = result

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def result(self) -> Generation | None:
        """The whole generation, None while it goes on."""
        return self._result()


class TextGeneration(ClosedAtEnd):
    """Generates text, one prompt at a time. Prompts that begin as the last one did are not computed twice."""

    task = "text-generation"

    def __init__(self, session: Session, tokenizer: PromptTokenizer, decoder: TokenDecoder) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self._loop = TokenLoop(decoder)

    @property
    def context(self) -> int:
        """How many tokens the model takes, prompt and new ones together."""
        return min(self.tokenizer.settings.context, self._loop.decoder.context)

    @property
    def takes_messages(self) -> bool:
        """Whether the model has a chat template, and so answers conversations."""
        return self.tokenizer.settings.chat_template is not None

    @property
    def reused_tokens(self) -> int:
        """How many tokens of the last prompt were not computed, since the model held them already."""
        return self._loop.reused

    def count_tokens(self, prompt: str | Sequence[Message]) -> int:
        """Return how many tokens a text or a conversation has, the beginning of the answer included.

        Raises:
            InputError: it is no conversation, or the chat template refuses it.
            UsageError: the model takes no conversations.
        """
        return len(self.tokenizer.encode(prompt))

    def save_session(self, file: str | os.PathLike[str], messages: Sequence[Message] = ()) -> None:
        """Write what the model holds into a file, from which `restore_session` goes on in another process.

        The file has the tokens of the last prompt and answer, the cache of keys and values exactly as it is (where the
        engine gives it away), and the messages. A session that lies there is replaced, whole or not at all.

        Args:
            file: a path; of what is there already, only a saved session is overwritten.
            messages: the conversation, to be given back.

        Raises:
            UsageError: the file is something else, there is no such folder, the messages are no JSON, or the model was
                opened without its bundle, so that nothing tells it from others.
            OSError: the file cannot be written, as on a full disk.
        """
        saved = SavedSession(
            self._model_id(), self.context, tuple(self._loop.held), self._loop.cached(), tuple(messages)
        )
        save_to_file(saved, file)

    def restore_session(self, file: str | os.PathLike[str]) -> list[Message]:
        """Take what `save_session` wrote, and return its messages.

        A prompt that begins with the same tokens then goes on behind them. Where the engine does not give its cache
        away, the tokens are computed again here.

        Raises:
            UsageError: there is no such file, or the model was opened without its bundle.
            InputError: the file is damaged, or of another model, variant or context; the model holds what it held.
            EnvironmentFailure: the engine failed.
            OSError: the file cannot be read.
        """
        saved = read_from_file(file)
        check_fits(saved, model_id=self._model_id(), context=self.context, vocabulary=self._loop.decoder.vocabulary)
        self._loop.restore(saved.tokens, saved.cached)
        return list(saved.messages)

    def __call__(self, inputs: str | Sequence[str], **options: Any) -> Generation | list[Generation]:
        """Continue one text or several, one after another; `options` are those of `generate`."""
        if isinstance(inputs, str):
            return self.generate(inputs, **options)
        return [self.generate(text, **options) for text in inputs]

    def generate(self, prompt: str | Sequence[Message], **options: Any) -> Generation:
        """Generate a text and return it whole; see `stream` for the arguments and errors."""
        stream = self.stream(prompt, **options)
        for _ in stream:
            pass
        assert stream.result is not None
        return stream.result

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        typical_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        overflow: Overflow = "error",
        logits_processors: Sequence[LogitsProcessor] = (),
        grammar: Grammar | None = None,
        tools: ToolUse | None = None,
        template: TemplateOptions | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> TextStream:
        """Generate a text piece by piece.

        Args:
            prompt: a text to continue, or messages with `role` and `content` to answer.
            max_new_tokens: at most so many.
            temperature: 0 always takes the likeliest token; None for what the checkpoint advises, as with the others.
            top_k: choose among so many of the likeliest.
            top_p: choose among the likeliest that make up this probability.
            min_p: choose among those that have at least this share of the likeliest one's probability.
            typical_p: choose among those whose probability is nearest the expected one, and which make up this much.
            repetition_penalty: by which scores of tokens that were seen are divided (or multiplied, below 0).
            seed: for the same text again.
            stop: strings that end the text; they do not come out.
            overflow: what becomes of a prompt that is longer than the context: `error` or `window`.
            logits_processors: what changes the scores of tokens after what the checkpoint itself asks for.
            grammar: what the text must look like; needs the llguidance library.
            tools: functions that the model may call; the calls are in `Generation.tool_calls`. Needs llguidance.
            template: how messages are rendered.
            is_cancelled: asked before each token, and between the parts of a long prompt.

        Raises:
            InputError: the prompt is empty, too long, or no conversation, or has a token that the model does not know.
            UsageError: a setting is out of range, the model takes no conversations, or the grammar cannot be enforced.
            EnvironmentFailure: the engine failed, or a library for grammars is missing.
        """
        started = time.perf_counter()
        wanted: dict[str, Any] = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "typical_p": typical_p,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
        }
        settings = self.tokenizer.settings
        sampling: Sampling = replace(settings.sampling, **{k: v for k, v in wanted.items() if v is not None})
        stops = StopStrings((stop,) if isinstance(stop, str) else stop)
        dialogue = prepared(self.tokenizer, prompt, template or TemplateOptions(), grammar, tools)
        self.tokenizer.check_known(dialogue.tokens, self._loop.decoder.vocabulary)
        fitted = fit(dialogue.tokens, max_new_tokens, self.context, overflow, beginning=settings.beginning)
        run = _Run(self._loop, dialogue, settings.ends, stops, started)
        processors = settings.logits_processors.processors(
            fitted.tokens,
            settings.ends,
            len(fitted.tokens) + fitted.room,
            repetition_penalty=sampling.repetition_penalty,
        )
        sampler = Sampler(
            replace(sampling, repetition_penalty=1.0),
            dialogue.constraint,
            processors=(*processors, *logits_processors),
        )
        return TextStream(run.pieces(fitted.tokens, sampler, fitted.room, max_new_tokens, is_cancelled), run.result)

    def close(self) -> None:
        """Let go of the model."""
        self.session.close()

    def _model_id(self) -> str:
        if not self.session.model_id:
            raise UsageError(
                "The model was opened without its bundle, so that a session cannot be told from those of others.",
                "Open the bundle with `load`.",
            )
        return self.session.model_id


class _Run:
    """One generation: its tokens, its text, its times."""

    def __init__(
        self, loop: TokenLoop, prompt: PreparedPrompt, ends: Sequence[int], stops: StopStrings, started: float
    ) -> None:
        self._loop, self._prompt, self._stops = loop, prompt, stops
        self._ends, self._started = frozenset(ends), started
        self._tokens: list[int] = []
        self._text: list[str] = []
        self._done: Generation | None = None

    def result(self) -> Generation | None:
        return self._done

    def pieces(
        self,
        prompt: tuple[int, ...],
        sampler: Sampler,
        room: int,
        wanted: int,
        is_cancelled: Callable[[], bool],
    ) -> Iterator[str]:
        ends, calls = self._ends, self._prompt.calls
        text = TokenStream(self._prompt.decoder, after=prompt if self._prompt.is_continued else ())
        called: tuple[ToolCall, ...] = ()
        first = last = None
        reason: FinishReason | None = None
        tokens = self._loop.run(prompt, sampler, maximum=room, end_tokens=ends, is_cancelled=is_cancelled)
        try:
            for token in tokens:
                last = time.perf_counter()
                first = first or last
                self._tokens.append(token)
                if token in ends:
                    break
                piece, is_stopped = self._stops.push(text.push(token))
                piece = calls.push(piece) if calls else piece
                if piece:
                    self._text.append(piece)
                    yield piece
                if is_stopped:
                    reason = "stop"
                    break
            rest = ""
            if reason is None:
                rest, is_stopped = self._stops.push(text.flush())
                rest += "" if is_stopped else self._stops.flush()
                reason = "stop" if is_stopped else self._loop.finish_reason or "stop"
                if reason == "length" and room < wanted:
                    reason = "context"
            if calls:
                rest = calls.push(rest)
                held, called = calls.finish()
                rest += held
            if rest:
                self._text.append(rest)
                yield rest
        except GeneratorExit:
            reason = "cancelled"
            raise
        finally:
            tokens.close()  # type: ignore[attr-defined]
            if reason is not None:
                end = time.perf_counter()
                self._done = Generation(
                    text="".join(self._text),
                    tokens=tuple(self._tokens),
                    finish_reason=reason,
                    prompt_tokens=len(prompt),
                    first_token_seconds=(first or end) - self._started,
                    decode_seconds=(last or end) - (first or end),
                    tool_calls=called,
                )


def open_decoder(session: Session, context: int | None = None) -> TokenDecoder:
    """Return the decoder for a model, by how it keeps its cache.

    Raises:
        EnvironmentFailure: it keeps it in a way that this runtime does not know.
    """
    if has_shared_cache(next(iter(session.graphs.values()))):
        return SharedCacheDecoder(session, context=context)
    if has_sliced_cache(next(iter(session.graphs.values()))):
        return SlicedCacheDecoder(session, context=context)
    if any(map(keeps_cache_inside, session.graphs.values())):
        return StatefulDecoder(session, context=context)
    raise EnvironmentFailure(
        "The model keeps its cache in a way that this runtime does not know.", "Update fastserve-runtime."
    )


def open_generation(session: Session, preprocessor: PromptTokenizer) -> TextGeneration:
    """Make the pipeline of a model.

    Raises:
        BundleError: the bundle's context does not fit its model.
        EnvironmentFailure: see `open_decoder`.
    """
    context = preprocessor.settings.context
    try:
        decoder = open_decoder(session, context)
    except (UsageError, MemoryError) as error:
        # The context is the bundle's, and nobody else's mistake.
        raise BundleError(
            f"The bundle's context of {context} tokens does not fit its model: {one_line(error)}.",
            "Export the bundle again.",
        ) from error
    return TextGeneration(session, preprocessor, decoder)
