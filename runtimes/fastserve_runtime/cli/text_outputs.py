"""What `run` makes of the texts of a command line, with models that do not generate text, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastserve_runtime.cli.given_texts import given_pairs, given_texts
from fastserve_runtime.cli.view import Table
from fastserve_runtime.errors import UsageError
from fastserve_runtime.preprocessors.text import DEFAULT_LONG_TEXT, LongText, checked_long_text
from fastserve_runtime.results import result_documents, shown_score

if TYPE_CHECKING:
    from fastserve_runtime.bundle.raw_inputs import Text
    from fastserve_runtime.pipelines import Pipeline

RANKING = "text-ranking"
CLASSIFICATION = "text-classification"


@dataclass(frozen=True)
class TextOptions:
    """How texts are given, and what becomes of long ones.

    Attributes:
        long_text: `truncate` or `split`; None where it was not given.
        pair: whether the texts are taken two by two.
        query: what the texts are ranked for, or None.
        prompt: the name of the prompt that is put before each; None where it was not given.
    """

    long_text: str | None = None
    pair: bool = False
    query: str | None = None
    prompt: str | None = None

    def given_flags(self) -> list[str]:
        """Return the flags that were given."""
        flags = {
            "--long-text": self.long_text is not None,
            "--pair": self.pair,
            "--query": self.query is not None,
            "--prompt": self.prompt is not None,
        }
        return [flag for flag, is_given in flags.items() if is_given]


@dataclass(frozen=True)
class TextOutputs:
    """What a pipeline gave.

    Attributes:
        documents: as JSON, one for each text or pair.
        table: how they are shown, but for arrays.
        texts: the samples.
        arrays: the outputs where they are arrays; else None.
    """

    documents: list[dict[str, Any]]
    table: Table | None
    texts: Sequence[Text]
    arrays: Any = None


def text_outputs(pipeline: Pipeline, words: Sequence[str], options: TextOptions) -> TextOutputs:
    """Run a pipeline that has no way of its own on the texts of a command line.

    Raises:
        UsageError: there is no text, or they are not given as the pipeline takes them.
    """
    long_text = checked_long_text(options.long_text or DEFAULT_LONG_TEXT)
    check_options(pipeline.task, options)
    if options.query is not None:
        return _ranked(pipeline, options.query, given_texts(words), long_text, options.prompt)
    texts: Sequence[Text] = given_pairs(words) if options.pair else given_texts(words)
    results = pipeline(texts, long_text=long_text, prompt=options.prompt)
    if pipeline.task == RANKING:
        documents = [{**d, "output": {"score": d["output"]}} for d in result_documents(texts, results)]
        scores = [(shown_score(d["output"]["score"]),) for d in documents]
        return TextOutputs(documents, _table(documents, ("score",), scores), texts)
    documents = result_documents(texts, results)
    if isinstance(documents[0]["output"], dict) and pipeline.task != CLASSIFICATION:
        return TextOutputs(documents, _fields(documents), texts)
    if isinstance(documents[0]["output"], dict):
        return TextOutputs(documents, _classified(documents, getattr(pipeline, "problem_type", None)), texts)
    return TextOutputs(documents, None, texts, results)


def check_options(task: str, options: TextOptions) -> None:
    """Refuse options that go with no bundle of a task, or not with one another.

    Raises:
        UsageError: naming them.
    """
    if options.query is None:
        if task == RANKING and not options.pair:
            raise UsageError(
                "The bundle ranks texts for a query, and none was given.",
                "Give it with --query, or give queries and documents in turn with --pair.",
            )
        return
    if options.pair:
        raise UsageError("--query and --pair cannot go together.", "Leave one out.")
    if task != RANKING:
        raise UsageError(
            f"--query cannot be used with a bundle of the task '{task}'.",
            f"Leave it out, or export a model for --task {RANKING}.",
        )


def _ranked(pipeline: Any, query: str, documents: list[str], long_text: LongText, prompt: str | None) -> TextOutputs:
    found = pipeline.rank(query, documents, long_text=long_text, prompt=prompt)
    shown = [
        {"query": query, "text": d.text, "output": {"rank": place, "index": d.index, "score": d.score}}
        for place, d in enumerate(found, start=1)
    ]
    rows = tuple((str(place), d.text, shown_score(d.score)) for place, d in enumerate(found, start=1))
    return TextOutputs(shown, Table(("rank", "text", "score"), rows, ("rank", "score"), of_texts=True), documents)


def _classified(documents: Sequence[dict[str, Any]], problem_type: str | None) -> Table:
    from fastserve_runtime.conformance.task_quality.text_classification import MULTI_LABEL, REGRESSION

    outputs = [document["output"] for document in documents]
    if problem_type == REGRESSION:
        names = tuple(outputs[0]["scores"]) if len(outputs[0]["scores"]) > 1 else ("value",)
        return _table(documents, names, [tuple(map(shown_score, o["scores"].values())) for o in outputs])
    if problem_type == MULTI_LABEL:
        rows = [(", ".join(f"{label} {o['scores'][label]:.3f}" for label in o["labels"]) or "none",) for o in outputs]
        return _table(documents, ("labels",), rows, are_numbers=False)
    table = _table(documents, ("label", "score"), [(o["label"], f"{o['score']:.3f}") for o in outputs])
    return replace(table, numbers=("score",))


def _fields(documents: Sequence[dict[str, Any]]) -> Table:
    """Make a table of results of which nothing is known but their fields."""
    outputs = [document["output"] for document in documents]
    return _table(documents, tuple(outputs[0]), [tuple(map(str, o.values())) for o in outputs], are_numbers=False)


def _table(
    documents: Sequence[dict[str, Any]],
    names: tuple[str, ...],
    cells: Sequence[tuple[str, ...]],
    *,
    are_numbers: bool = True,
) -> Table:
    ways = [name for name in ("text", "text_pair") if name in documents[0]]
    rows = tuple((*(d[way] for way in ways), *own) for d, own in zip(documents, cells, strict=True))
    headings = ("text", "second text")[: len(ways)]
    return Table((*headings, *names), rows, names if are_numbers else (), of_texts=True)
