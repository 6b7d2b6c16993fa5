"""Texts that must follow a grammar: which tokens may come next, by the llguidance library.

llguidance (https://github.com/guidance-ai/llguidance) walks an Earley parser over the prefix tree of a vocabulary and
gives, for every step, a mask of the tokens after which the text can still become a sentence of the grammar. Scores of
all others become -inf before a token is chosen, so that whatever the model prefers, what comes out is valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import EnvironmentFailure, UsageError, one_line
from fastserve_runtime.installation import install_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PLACE = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
_WHITE_SPACE = r"\n? {0,12}"
"""What may stand between the parts of JSON. Without a bound, a weak model may write blanks up to the end."""
_REASON = "error:"
_OVERLAPPING = "its oneOf has choices that cannot be told apart; anyOf takes such"
LONGEST_GRAMMAR = 256 * 1024
"""Characters that a grammar may have."""


class GrammarRefused(UsageError):
    """A grammar or schema that is wrong, or asks for what cannot be enforced."""


@dataclass(frozen=True)
class Grammar:
    """What a text must look like.

    Attributes:
        source: a grammar of llguidance: Lark, with `%json {...}` for JSON schemas.
        title: what it is, as messages name it.
    """

    source: str
    title: str = "The grammar"

    @classmethod
    def of_json_object(cls) -> Grammar:
        """Return the grammar of any JSON object."""
        return cls.of_json_schema({"type": "object"})

    @classmethod
    def of_json_schema(cls, schema: Mapping[str, Any]) -> Grammar:
        """Return the grammar of JSON that a schema (JSON Schema 2020-12) allows.

        Raises:
            GrammarRefused: the schema is larger than is taken.
        """
        source = f"%llguidance {{}}\nstart: {json_rule(schema)}\n"
        return cls(_bounded(source, "The JSON schema"), "The JSON schema")

    @classmethod
    def of_lark(cls, source: str) -> Grammar:
        """Return a grammar in llguidance's dialect of Lark.

        Raises:
            GrammarRefused: it is larger than is taken.
        """
        return cls(_bounded(source, "The grammar"))


def json_rule(schema: Mapping[str, Any]) -> str:
    """Return the part of a grammar that stands for JSON of a schema."""
    return "%json " + json.dumps({**schema, "x-guidance": {"whitespace_pattern": _WHITE_SPACE}})


class GrammarCompiler:
    """Makes constraints of grammars for one tokenizer, whose prefix tree is built once, when first needed."""

    def __init__(self, tokenizer_json: str, ends: Sequence[int]) -> None:
        """Take a tokenizer.

        Args:
            tokenizer_json: the content of `tokenizer.json`.
            ends: ids that end a text; they may come where the text is a whole sentence of the grammar.
        """
        self._json, self._ends = tokenizer_json, list(ends)
        self._tokenizer: Any = None

    def constraint(self, grammar: Grammar) -> GrammarConstraint:
        """Return a constraint at the beginning of a text.

        Raises:
            GrammarRefused: the grammar is wrong, or has what cannot be enforced.
            EnvironmentFailure: llguidance is not installed, or does not know this kind of tokenizer.
        """
        llguidance = _library()
        if self._tokenizer is None:
            try:
                self._tokenizer = llguidance.LLTokenizer(self._json, eos_token=self._ends or None)
            except ValueError as error:
                raise EnvironmentFailure(
                    f"The model's tokenizer is of a kind that no grammar can be enforced with: {one_line(error)}.",
                    "Leave the grammar, the response format and the tools out.",
                ) from error
        matcher = llguidance.LLMatcher(self._tokenizer, grammar.source, log_level=0)
        if matcher.is_error():
            raise GrammarRefused(f"{grammar.title} cannot be enforced: {_sentence(matcher)}.", "Change it.")
        return GrammarConstraint(matcher)


class GrammarConstraint:
    """Where in a grammar a text is, and what may come next. It serves one generation."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def is_complete(self) -> bool:
        """Whether the text is a sentence of the grammar that nothing can be added to."""
        return bool(self._matcher.is_stopped())

    def masked(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores of the next token with -inf where it may not come.

        Args:
            scores: shape [vocabulary]; left as they are.

        Raises:
            EnvironmentFailure: the text became too much for the parser.
        """
        import numpy as np

        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        bits = np.unpackbits(mask, bitorder="little")[: scores.size]
        allowed = np.zeros(scores.size, bool)
        # Rows that pad the model's table have no token.
        allowed[: bits.size] = bits
        return np.where(allowed, scores, np.float32(-np.inf))

    def accept(self, token: int) -> None:
        """Go on behind a token that was chosen.

        Raises:
            EnvironmentFailure: it was none of those that may come, or became too much for the parser.
        """
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EnvironmentFailure(
                f"The grammar could not be followed: {_sentence(self._matcher)}.",
                "Simplify the grammar or schema.",
            )


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise EnvironmentFailure(
            f"The llguidance library, which grammars, response formats and tools need, cannot be imported: {error}.",
            f"Install it: {install_command('grammar')}.",
        ) from error
    return llguidance


def _sentence(matcher: Any) -> str:
    # Behind the first line stands the place in a grammar that the user did not write; where that line only announces a
    # reason, the reason comes as the line of an error below.
    lines = str(matcher.get_error()).strip().splitlines()
    reason = next((line for line in lines[1:] if line.startswith(_REASON)), "")
    sentence = _PLACE.sub("", lines[0]).rstrip(":.") + (f": {reason.removeprefix(_REASON).strip()}" if reason else "")
    return _OVERLAPPING if "coerce_one_of" in sentence else sentence[:300].rstrip(".")


def _bounded(source: str, title: str) -> str:
    if len(source) > LONGEST_GRAMMAR:
        raise GrammarRefused(
            f"{title} has {len(source)} characters; at most {LONGEST_GRAMMAR} are taken.", "Shorten it."
        )
    return source
