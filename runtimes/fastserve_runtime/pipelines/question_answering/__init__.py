"""Task `question-answering`: the stretch of a context that answers a question, or that it has no answer.

Contexts longer than the model are read in overlapping windows; what Transformers' pipeline did up to version 4 gives
the same answers and scores. See `conformance.answer_spans` for how spans are chosen.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.raw_inputs import TEXT_PAIR, Text
from fastserve_runtime.bundle.task_checks import check_encoder, not_of_task, tensors_named
from fastserve_runtime.conformance.answers import END, LONGEST_ANSWER, START
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.errors import BundleError, InputError, UsageError
from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.pipelines.question_answering.questions import (
    CONTEXT,
    QUESTION,
    QuestionInputs,
    add_question_flags,
    asked_pairs,
    given_pairs,
    served_options,
)
from fastserve_runtime.preprocessors.context_windows import ContextSettings, checked_context_settings, context_tokens
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor, Windows
from fastserve_runtime.preprocessors.text_pairs import TextPairSettings
from fastserve_runtime.preprocessors.text_samples import Inputs, is_pair
from fastserve_runtime.results import Results, Table, shown_score
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.conformance.comparison import Comparison

ROUTE = "/v1/answer"
OUTPUT_KINDS: Mapping[str, str] = {START: "logits", END: "logits"}


@dataclass(frozen=True)
class Answer:
    """An answer in its place.

    Attributes:
        score: the probability of its first token, times that of its last; the sum where several spans or windows give
            the same text.
        start: the answer's first character in the context, counted in code points as Python does.
        end: the character behind its last one.
        answer: the text; empty where the context has no answer.
    """

    score: float
    start: int
    end: int
    answer: str


class QuestionAnswering(TextPipeline):
    """Called with a question and a context, returns the best `Answer`; with several, a list."""

    task = "question-answering"

    def __call__(
        self,
        inputs: QuestionInputs | None = None,
        *,
        question: str | None = None,
        context: str | None = None,
        top_k: int = 1,
        handle_impossible_answer: bool = False,
        max_answer_len: int = LONGEST_ANSWER,
        max_question_len: int | None = None,
        doc_stride: int | None = None,
        align_to_words: bool = True,
        long_text: LongText = "split",
        prompt: str | None = None,
    ) -> Any:
        """Answer one question or several.

        Args:
            inputs: a pair of question and context, a mapping with these two, or several of either. Names and meanings
                of the others are those of Transformers.
            question: instead of `inputs`, with `context`.
            context: what the answer is looked for in.
            top_k: return so many of the best answers to each question, as a list; with 1 the answer itself.
            handle_impossible_answer: say that there is no answer, by an empty one, where that is the likeliest.
            max_answer_len: tokens of an answer at most.
            max_question_len: a question with more tokens is cut, with a warning; as the bundle says if left out.
            doc_stride: tokens that neighbouring windows of a context share; as the bundle says if left out.
            align_to_words: widen answers to whole words.
            long_text: `split` reads long contexts in windows, `truncate` their beginning alone.
            prompt: the name of the prompt that is put before the question; None: the default one, `""`: none.

        Raises:
            UsageError: it is not given as it must be, or a number is too small.
            InputError: a question or a context is empty, or leaves no room for the other.
        """
        from fastserve_runtime.conformance.answer_spans import Span, answered, candidates

        pairs, is_one = given_pairs(inputs, question, context)
        _check_at_min_1(top_k=top_k, max_answer_len=max_answer_len)
        settings = checked_context_settings(self._contexts(), doc_stride, max_question_len)
        windows = self.preprocessor.windows(pairs, long_text, prompt=prompt, context=settings)
        outputs = self._run(windows)
        tokens = context_tokens(windows.encodings, align_to_words=align_to_words)
        answers = []
        for number, pair in enumerate(pairs):
            rows = windows.of_text(number)
            if not tokens.is_context[rows].any():
                raise InputError(
                    f"The context {pair[1]!r:.60} of question {number + 1} has no token that the model knows as text.",
                    "Give a context with words.",
                )
            spans, null = answered(
                outputs, tokens.is_context, tokens.spans, [pair[1]] * len(windows.text_of), rows,
                maximum=candidates(top_k, align_to_words=align_to_words), longest=max_answer_len,
            )  # fmt: skip
            if handle_impossible_answer:
                spans = sorted([*spans, Span("", 0, 0, null)], key=lambda span: -span.score)
            # Values that are not finite give no span at all.
            found = [Answer(s.score, s.start, s.end, s.text) for s in spans[:top_k]] or [Answer(0.0, 0, 0, "")]
            answers.append(found[0] if top_k == 1 else found)
        return answers[0] if is_one else answers

    def _contexts(self) -> ContextSettings:
        settings = self.preprocessor.settings
        if not isinstance(settings, TextPairSettings) or settings.context is None:
            raise BundleError(
                "The bundle answers questions, and its preprocessing says nothing of contexts.", "Export it again."
            )
        return settings.context


def open_pipeline(
    session: Session,
    preprocessor: TextPreprocessor,
    settings: Mapping[str, Any],  # noqa: ARG001 -- as of others
) -> QuestionAnswering:
    """Make the pipeline of this task; `settings` are the manifest's `task_settings`, of which it needs none."""
    return QuestionAnswering(session, preprocessor)


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model gives no start and end of answers, or takes no contexts; see `manifest_checks`.

    Raises:
        BundleError: naming what it gives or takes.
    """
    check_encoder(manifest, (START, END))
    for name in (START, END):
        if len(tensors_named(manifest, name)) < sum(len(variant.graphs) for variant in manifest.variants):
            raise not_of_task(manifest, f"a graph of it gives no {name}")
    if manifest.preprocessing.kind != TEXT_PAIR or manifest.preprocessing.settings.get("context") is None:
        raise not_of_task(manifest, "its preprocessing takes no questions with contexts")


def rehearse(pipeline: QuestionAnswering, texts: Inputs) -> object:
    """Answer a golden's questions, but for those that are empty or whose context is."""
    given = [(pair[0], pair[1]) for pair in texts if is_pair(pair)]
    return pipeline([pair for pair in given if all(part.strip() for part in pair)])


def _check_at_min_1(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise UsageError(f"{name} is {value}.", "Give at least 1.")


def known_of_windows(windows: Windows, samples: Sequence[Text]) -> dict[str, NDArray[np.generic]]:
    """Return what quality is judged by beside a model's inputs and outputs, shape [windows, ...]."""
    from fastserve_runtime.pipelines.question_answering._quality import known_of_windows as known

    return known(windows, samples)


def quality(compared: Comparison) -> Quality:
    """Compare answers: with labels by their F1, without by that which the reference expects of them."""
    from fastserve_runtime.pipelines.question_answering._quality import quality as judged

    return judged(compared)


task_metric = quality
"""What `conform` judges."""


def add_run_flags(parser: ArgumentParser) -> None:
    """Add the flags that the command `run` has for bundles of this task."""
    add_question_flags(parser)


def run_arguments(pipeline: QuestionAnswering, arguments: Namespace) -> Results:
    """Answer what the command line asks.

    Raises:
        UsageError: nothing is asked, or questions and contexts are not given as they must be.
        InputError: a file is no text or has a line that is no question.
    """
    from fastserve_runtime.pipelines._text_run import text_options

    pairs = asked_pairs(arguments)
    found = pipeline(
        pairs,
        top_k=arguments.top_k,
        handle_impossible_answer=arguments.handle_impossible_answer,
        max_answer_len=arguments.max_answer_len,
        max_question_len=arguments.max_question_len,
        doc_stride=arguments.doc_stride,
        **text_options(arguments),
    )
    documents, rows = [], []
    for (question, context), own in zip(pairs, found, strict=True):
        answers = own if isinstance(own, list) else [own]
        output = [asdict(answer) for answer in answers] if isinstance(own, list) else asdict(own)
        documents.append({QUESTION: question, CONTEXT: context, "output": output})
        rows += [(question, a.answer or "(none)", f"{a.start}–{a.end}", shown_score(a.score)) for a in answers]
    headings = (QUESTION, "answer", "characters", "score")
    return Results(documents, (Table(headings, tuple(rows), ("characters", "score"), of_texts=True),))


def served(pipeline: QuestionAnswering, document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Answer a request's questions one by one: `input` is an object with `question` and `context`, or a list of such.

    Raises:
        UsageError: a field is wrong or unknown.
        InputError: a question or a context is empty.
    """
    options = served_options(document)
    pairs, _ = given_pairs(document.get("input"), None, None)
    for pair in pairs:
        found = pipeline([pair], **options)[0]
        yield {"answers": [asdict(answer) for answer in (found if isinstance(found, list) else [found])]}
