"""Questions and their contexts, as a call or a command line gives them."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from fastserve_runtime.bundle.raw_inputs import TextPair
from fastserve_runtime.conformance.answers import LONGEST_ANSWER
from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.preprocessors.text_samples import Inputs, is_pair
from fastserve_runtime.standard_input import standard_input_text

QUESTION, CONTEXT = "question", "context"
_OPTIONS: Mapping[str, type] = {
    "top_k": int,
    "handle_impossible_answer": bool,
    "max_answer_len": int,
    "max_question_len": int,
    "doc_stride": int,
    "align_to_words": bool,
    "prompt": str,
}
"""What a request may say, by the names of the pipeline's arguments, and its type."""
QuestionInputs: TypeAlias = Inputs | Mapping[str, str] | Sequence[Mapping[str, str]]
"""A pair of question and context, a mapping with these two, or several of either."""


def given_pairs(
    inputs: QuestionInputs | None, question: str | None, context: str | None
) -> tuple[list[TextPair], bool]:
    """Return a call's pairs, and whether it was one rather than several."""
    if inputs is None:
        return [_pair({QUESTION: question, CONTEXT: context}, 1)], True
    if question is not None or context is not None:
        raise UsageError("Questions were given twice, as inputs and by name.", "Leave one out.")
    if isinstance(inputs, Mapping) or (isinstance(inputs, tuple) and is_pair(inputs)):
        return [_pair(inputs, 1)], True
    if isinstance(inputs, str) or not len(inputs):
        given = f"the single text {inputs!r:.60}" if isinstance(inputs, str) else "none"
        raise UsageError(
            f"A question and its context are wanted; {given} was given.", 'Give ("the question", "the context").'
        )
    return [_pair(one, number) for number, one in enumerate(inputs, 1)], False


def _pair(given: object, number: int) -> TextPair:
    if isinstance(given, Mapping):
        given = given.get(QUESTION), given.get(CONTEXT)
    if not is_pair(given):
        raise UsageError(
            f"Question {number} is {given!r:.60}; a question and a context are wanted.",
            'Give ("the question", "the context"), or an object with both.',
        )
    for name, text in zip((QUESTION, CONTEXT), given, strict=True):
        if not text.strip():
            raise InputError(f"The {name} of question {number} is empty.", f"Give a {name} with words.")
    return given[0], given[1]


def add_question_flags(parser: ArgumentParser) -> None:
    """Add the flags that the command `run` has for bundles of this task."""
    from fastserve_runtime.pipelines._text_run import add_text_flags

    add_text_flags(parser, usual="split")
    parser.add_argument("--question", action="append", metavar="TEXT", help="Answer this; may be given again.")
    parser.add_argument("--context", metavar="TEXT", help="Look for the answers here; '-' is standard input.")
    parser.add_argument("--context-file", type=Path, metavar="FILE", help="Look for the answers in this text file.")
    parser.add_argument(
        "--questions-file", type=Path, metavar="FILE", help='Answer each line of it: {"question": …, "context": …}.'
    )
    parser.add_argument("--top-k", type=int, default=1, metavar="K", help="Show the K best answers.")
    parser.add_argument("--handle-impossible-answer", action="store_true", help="Say so where a context has no answer.")
    parser.add_argument("--max-answer-len", type=int, default=LONGEST_ANSWER, metavar="N", help="Tokens of an answer.")
    parser.add_argument("--max-question-len", type=int, metavar="N", help="Tokens after which questions are cut.")
    parser.add_argument("--doc-stride", type=int, metavar="N", help="Tokens that windows of a long context share.")


def asked_pairs(arguments: Namespace) -> list[TextPair]:
    """Return the questions and contexts of a command line.

    Raises:
        UsageError: nothing is asked, or questions and contexts are not given as they must be.
        InputError: a file is no text, or has a line that is no question.
    """
    words, questions = list(arguments.texts or ()), arguments.question or []
    places = {
        "--questions-file": arguments.questions_file is not None,
        "--question": bool(questions),
        "--pair": arguments.pair or (bool(words) and not questions),
    }
    ways = [flag for flag, is_given in places.items() if is_given]
    if len(ways) != 1 or (words and questions):
        raise UsageError(
            f"Questions were given by {' and '.join(ways)}." if ways else "No question was given.",
            "Give --question with --context or --context-file, or --questions-file, or both texts with --pair.",
        )
    if ways == ["--questions-file"]:
        return _questions_of(arguments.questions_file)
    if ways == ["--pair"]:
        if not arguments.pair or len(words) % 2:
            raise UsageError(
                f"{len(words)} texts were given; a question goes with a context.",
                "Give --question and --context, or the two in turn with --pair.",
            )
        return list(zip(words[::2], words[1::2], strict=True))
    if (arguments.context is None) == (arguments.context_file is None):
        raise UsageError("A question needs one context.", "Give --context, '-' for standard input, or --context-file.")
    if arguments.context_file is not None:
        context = _text_of(arguments.context_file)
    else:
        context = standard_input_text() if arguments.context == "-" else arguments.context
    return [(question, context) for question in questions]


def _text_of(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")  # line ends as they are: offsets count them
    except OSError as error:
        raise UsageError(f"The file '{file}' cannot be read: {error.strerror}.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The file '{file}' is not UTF-8 at byte {error.start + 1}.", "Save it as UTF-8.") from error


def _questions_of(file: Path) -> list[TextPair]:
    pairs = []
    for number, line in enumerate(_text_of(file).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"Line {number} of '{file}' is no JSON: {error}.", "Write one object a line."
                ) from error
            pairs.append(_pair(row, number))
    if not pairs:
        raise InputError(f"The file '{file}' has no question.", "Write one object a line.")
    return pairs


def served_options(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a request's JSON, by the names of the pipeline's arguments.

    Raises:
        UsageError: a field is unknown, or is not of the kind that it must be.
    """
    unknown = sorted(document.keys() - _OPTIONS.keys() - {"input"})
    if unknown:
        raise UsageError(f"The request has the field '{unknown[0]:.40}'.", f"Known are: input, {', '.join(_OPTIONS)}.")
    if not isinstance(document.get("input"), (Mapping, list)):
        raise UsageError(
            "The request has no 'input' that is an object or a list.", 'Give {"question": "…", "context": "…"}.'
        )
    options = {name: value for name, value in document.items() if name in _OPTIONS}
    for name, value in options.items():
        # True is an int in Python, not in JSON.
        if type(value) is not _OPTIONS[name]:
            wanted = {int: "a whole number", bool: "true or false", str: "a string"}[_OPTIONS[name]]
            raise UsageError(f"{name} is {value!r:.40}.", f"Give {wanted}.")
    return options
