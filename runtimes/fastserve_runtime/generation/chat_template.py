"""A conversation as the text that a model was trained on, by its checkpoint's Jinja template, without Transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import BundleError, EnvironmentFailure, InputError, UsageError, one_line
from fastserve_runtime.generation.template_limits import LimitReached, Meter, measured_by
from fastserve_runtime.installation import install_command

if TYPE_CHECKING:
    from types import TracebackType

ROLES = ("system", "user", "assistant", "tool", "developer")
MAX_SOURCE = 64 * 1024
"""Characters that a template may have; those of known models have some thousand, few above 20 thousand."""
_TEMPLATE_FILE = "<template>"
_CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG "
"""Marks where the last message ends in the rendered text, as in Transformers; the space tells whether it is trimmed."""
_LONGEST_SENTENCE = 500


class ChatTemplate:
    """Renders conversations as Transformers' `apply_chat_template` does.

    A template is a program that comes with a bundle. It runs in this process, in Jinja's sandbox for immutable values,
    which keeps it from Python's internals, files and the network, and in which everything that can take long or make
    much is measured (`template_sandbox`). So a rendering ends with an error

    - soon after `max_seconds`: the clock is looked at in each step of a loop and in each call, filter and test;
    - as soon as it makes more than `max_output` characters, a single value of more than 4 times as many, or values of
      more than 128 times as many in all, an item of a list counting as 64 characters. By default that bounds the
      memory to about 128 MB, and 4 times that for text of signs that Python keeps in 4 bytes, such as emoji.

    The limits of this: no single operation of Python is interrupted, and each is bounded by the sizes above, so a
    hostile template may exceed `max_seconds` by some tenths of a second on a slow machine. Compiling a template is
    bounded by the length of its source alone, to some seconds and some ten MB for one made to be slow. And all rests
    on Jinja's sandbox, of which escapes were found and mended before version 3.1.6: templates of strangers belong into
    a process with limits of the operating system. Filters that no known chat template uses (such as `pprint`, `urlize`,
    `wordwrap`, `xmlattr`) and attributes of other than plain values do not exist here.

    One template may be rendered from several threads at the same time.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str] | None = None,
        *,
        max_output: int = 1024 * 1024,
        max_seconds: float = 2.0,
    ) -> None:
        """Compile a template.

        Args:
            source: the Jinja template.
            special_tokens: the text of special tokens by the names that templates know, such as `bos_token`.
            max_output: characters that a rendering may have.
            max_seconds: how long a rendering may take.

        Raises:
            BundleError: the template is too long, or no Jinja template.
            EnvironmentFailure: jinja2 is missing or too old.
            UsageError: a limit is not above 0.
        """
        if max_output < 1 or not max_seconds > 0:
            raise UsageError(
                f"A chat template cannot be limited to {max_output} characters and {max_seconds} seconds.",
                "Give limits above 0.",
            )
        if len(source) > MAX_SOURCE:
            raise BundleError(
                f"The chat template has {len(source)} characters; at most {MAX_SOURCE} are taken.",
                "Export the model with a shorter one.",
            )
        self.max_output = max_output
        self.max_seconds = max_seconds
        self.special_tokens = dict(special_tokens or {})
        self._template = _compiled(source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,  # noqa: FBT001, FBT002 -- Transformers' signature
        *,
        continue_final_message: bool = False,
        **extra: Any,
    ) -> str:
        """Return a conversation's text.

        Args:
            messages: at least one; each has a `role`, one of `ROLES`, and a `content`, a string, and may have more
                that the template knows.
            add_generation_prompt: whether the text ends with the beginning of the model's answer.
            continue_final_message: whether the text ends where the last message does, so that the model goes on with
                it.
            extra: more values for the template, such as `tools`: strings, numbers, booleans, None, lists, mappings.

        Raises:
            InputError: a message has another form or role, or the template refuses the conversation, with its words.
            UsageError: a value of `extra` is of another type.
            BundleError: the template fails, or takes or makes too much.
        """
        values: dict[str, Any] = {
            "tools": None,
            "documents": None,
            **self.special_tokens,
            **{name: _plain(value, name) for name, value in extra.items()},
            "messages": _checked(messages),
            "add_generation_prompt": add_generation_prompt,
        }
        size = sum(len(message["content"]) for message in values["messages"])
        if size > self.max_output:
            raise InputError(
                f"The conversation has {size} characters; at most {self.max_output} are taken.", "Shorten it."
            )
        if not continue_final_message:
            return self._rendered(values)
        values["messages"][-1]["content"] += _CONTINUED
        return _up_to_mark(self._rendered(values))

    def _rendered(self, values: Mapping[str, Any]) -> str:
        from fastserve_runtime.generation.template_functions import TemplateRefusal

        meter = Meter(self.max_output, self.max_seconds)
        pieces = []
        try:
            with measured_by(meter):
                for piece in self._template.generate(**values):
                    meter.emit(len(piece))
                    pieces.append(piece)
        except TemplateRefusal as error:
            sentence = _short(error)
            raise InputError(
                f"The model's chat template refuses the conversation: {sentence}.", "Change the messages."
            ) from error
        except LimitReached as error:
            raise BundleError(
                f"The chat template {error}{_place(error)}.", "Shorten the conversation, or export another template."
            ) from None
        except Exception as error:  # a template can raise whatever Python can
            raise BundleError(
                f"The chat template fails{_place(error)}: {_short(error)}.",
                "Check that the messages have what it needs, or export another template.",
            ) from error
        return "".join(pieces)


def _up_to_mark(text: str) -> str:
    """Return a rendered conversation up to the end of its last message."""
    end = text.rfind(_CONTINUED.strip())
    if end < 0:
        raise InputError(
            "The model's chat template does not show the last message, so that it cannot be continued.",
            "Leave continue_final_message out.",
        )
    return text[:end] if text.startswith(_CONTINUED, end) else text[:end].rstrip()


def _compiled(source: str) -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise EnvironmentFailure(
            f"The jinja2 library, which chat templates need, cannot be imported: {error}.",
            f"Install it: {install_command('text')}.",
        ) from error
    version = tuple(int(part) for part in jinja2.__version__.split(".")[:3] if part.isdigit())
    if version < (3, 1, 6):
        raise EnvironmentFailure(
            f"jinja2 {jinja2.__version__} is installed; its sandbox has known holes before 3.1.6.",
            f"Update it: {install_command('text')}.",
        )
    from fastserve_runtime.generation.template_sandbox import MeteredEnvironment

    try:
        return MeteredEnvironment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise BundleError(
            f"The chat template has an error in line {error.lineno}: {_short(error)}.",
            "Export the model with a correct one.",
        ) from error
    except Exception as error:  # such as nesting that is too deep for Jinja's or Python's compiler
        raise BundleError(
            f"The chat template cannot be compiled: {_short(error)}.",
            "Export the model with a simpler one.",
        ) from error


def _checked(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise InputError(f"Messages cannot be {messages!r:.60}.", "Give a list of at least one message.")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InputError(f"Message {index} is {message!r:.60}.", "Give a mapping with 'role' and 'content'.")
        for name in ("role", "content"):
            if not isinstance(message.get(name), str):
                given = f"is {message[name]!r:.60}" if name in message else "is missing"
                raise InputError(f"The {name} of message {index} {given}.", f"Give '{name}' as a string.")
        if message["role"] not in ROLES:
            raise InputError(
                f"The role of message {index} is {message['role']!r:.60}.", f"Choose one of {', '.join(ROLES)}."
            )
    return [_plain(message, f"Message {index}") for index, message in enumerate(messages)]


def _plain(value: Any, name: str, depth: int = 0) -> Any:
    """Return a copy made of Python's own plain types, whose methods the sandbox knows."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # an enumeration's own `str` gives its name
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if depth < 50:
        if isinstance(value, Mapping):
            return {_plain(k, name, depth + 1): _plain(v, name, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [_plain(item, name, depth + 1) for item in value]
    raise InputError(
        f"{name} holds {value!r:.60}, which templates do not take.",
        "Give strings, numbers, booleans, None, lists and mappings, at most 50 deep.",
    )


def _short(error: BaseException) -> str:
    text = one_line(error) or type(error).__name__
    return text if len(text) <= _LONGEST_SENTENCE else f"{text[:_LONGEST_SENTENCE]}…"


def _place(error: BaseException) -> str:
    """Return the line of the template that an error came from, in parentheses behind a space; nothing if unknown."""
    line = None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _TEMPLATE_FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f" (line {line})"
