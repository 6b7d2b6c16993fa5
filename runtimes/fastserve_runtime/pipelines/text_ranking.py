"""Task `text-ranking`: how well documents answer a query, and their order.

Quality is, without labels, Spearman's correlation between the variant's and the reference's scores, with nDCG@10
against the reference's order beside it; with labels (how relevant a document is) the variant's nDCG@10 divided by the
reference's, with both and the MRR@10 beside it.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_runtime.activations import activation_of, sigmoid
from fastserve_runtime.bundle.axes import CLASSES, dim_of
from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.raw_inputs import TEXT_PAIR
from fastserve_runtime.bundle.task_checks import check_encoder, not_of_task, tensors_named
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.pipelines._text_pipeline import TextPipeline
from fastserve_runtime.preprocessors.text import LongText, TextPreprocessor
from fastserve_runtime.preprocessors.text_samples import Inputs
from fastserve_runtime.results import Results, Table, result_documents, result_table, shown_score
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.activations import Activation
    from fastserve_runtime.conformance.comparison import Comparison

LOGITS = "logits"
OUTPUT_KINDS: Mapping[str, str] = {LOGITS: "logits"}
NDCG = "nDCG@10 against the reference's order"
NDCG_RATIO = "nDCG@10 ÷ reference's"
_USUAL_ACTIVATION = "sigmoid"


@dataclass(frozen=True)
class RankedDocument:
    """A document in its place.

    Attributes:
        index: which of the given documents it is, from 0.
        score: how well it answers the query; more is better.
        text: the document.
    """

    index: int
    score: float
    text: str


class TextRanking(TextPipeline):
    """Called with a pair of query and document, returns its score; with several, an array of scores, shape [n].

    `rank` orders documents by their scores.
    """

    task = "text-ranking"

    def __init__(self, session: Session, preprocessor: TextPreprocessor, activation: Activation = sigmoid) -> None:
        super().__init__(session, preprocessor)
        self._activation = activation

    def __call__(
        self, inputs: Inputs, *, long_text: LongText = "truncate", prompt: str | None = None
    ) -> float | NDArray[np.float64]:
        """Score one pair of query and document, or several; `prompt` names what is put before the query."""
        pairs, is_one = self._samples(inputs)
        _, outputs = self._outputs(pairs, long_text, prompt)
        logits = outputs[LOGITS].astype("float64")
        if logits.shape[-1] != 1:
            raise BundleError(f"The model gives {logits.shape[-1]} scores for a document; a ranking needs one.")
        scores = self._activation(logits)[:, 0]
        return float(scores[0]) if is_one else scores

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_k: int | None = None,
        long_text: LongText = "truncate",
        prompt: str | None = None,
    ) -> list[RankedDocument]:
        """Return documents, the best first; of equal ones the earlier given.

        Args:
            query: what is looked for.
            documents: at least one.
            top_k: return so many of the best; all if left out.
            long_text: `truncate`, since pairs cannot be split.
            prompt: the name of the prompt that is put before the query; None: the default one, `""`: none.

        Raises:
            UsageError: there is no document, or `top_k` is below 1.
        """
        import numpy as np

        if isinstance(documents, str) or not documents:
            given = "one string" if isinstance(documents, str) else "none"
            raise UsageError(f"Documents are wanted; {given} was given.", "Give a list of at least one text.")
        if top_k is not None and top_k < 1:
            raise UsageError(f"The best {top_k} documents were asked for.", "Ask for at least 1.")
        scores = np.atleast_1d(self([(query, document) for document in documents], long_text=long_text, prompt=prompt))
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [RankedDocument(int(i), float(scores[i]), documents[i]) for i in order]


def open_pipeline(session: Session, preprocessor: TextPreprocessor, settings: Mapping[str, Any]) -> TextRanking:
    """Make the pipeline of this task; `settings` are the manifest's `task_settings`."""
    return TextRanking(session, preprocessor, activation_of(settings, _USUAL_ACTIVATION))


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose model gives no logits, not one for each document, or takes no pairs; see `task_checks`.

    Raises:
        BundleError: naming what it gives or takes.
    """
    check_encoder(manifest, OUTPUT_KINDS)
    for scores in tensors_named(manifest, LOGITS):
        classes = dim_of(scores, CLASSES)
        if isinstance(classes, int) and classes != 1:
            raise not_of_task(manifest, f"its model gives {classes} scores for a document")
    if manifest.preprocessing.kind != TEXT_PAIR:
        raise not_of_task(manifest, "its preprocessing takes no pairs of texts")


def quality(compared: Comparison) -> Quality:
    """Compare scores, or with labels the rankings of each query's documents."""
    import numpy as np

    from fastserve_runtime.conformance.metrics import ratio_interval
    from fastserve_runtime.conformance.retrieval import QUERY, counted, ndcg_by_query, reciprocal_ranks

    by_scores = task_metric(compared)
    queries = compared.inputs.get(QUERY)
    if compared.labels is None or queries is None:
        return by_scores
    relevance = np.asarray(compared.labels, np.float64)
    if not any(True for _ in counted(relevance, queries)):
        return by_scores
    left, right = (scores[:, 0] for scores in compared.first_outputs())
    wanted, found = (ndcg_by_query(relevance, scores, queries) for scores in (left, right))
    interval = ratio_interval(found, wanted, seed=compared.seed)
    beside = {
        "nDCG@10": float(found.mean()),
        "reference's nDCG@10": float(wanted.mean()),
        "MRR@10": float(reciprocal_ranks(relevance, right, queries).mean()),
        "reference's MRR@10": float(reciprocal_ranks(relevance, left, queries).mean()),
        by_scores.name: by_scores.value,
    }
    return Quality(NDCG_RATIO, interval.value, interval.low, interval.high, len(found), beside)


def task_metric(compared: Comparison) -> Quality:
    """Compare scores by their rank correlation, and beside it the order of each query's documents.

    Args:
        compared: logits, shape [n, 1]; its inputs have `query`, the number of each sample's query, shape [n], where
            several documents share one.
    """
    from fastserve_runtime.conformance.retrieval import QUERY, mean_ndcg, order_relevance
    from fastserve_runtime.conformance.scores import score_quality

    left, right = compared.first_outputs()
    queries = compared.inputs.get(QUERY)
    beside = {}
    if queries is not None:
        beside[NDCG] = mean_ndcg(order_relevance(left[:, 0], queries), right[:, 0], queries)
    return score_quality(left, right, compared.seed, beside)


def add_run_flags(parser: ArgumentParser) -> None:
    """Add the flags that the command `run` has for bundles of this task."""
    from fastserve_runtime.pipelines._text_run import add_text_flags

    add_text_flags(parser)
    parser.add_argument("--query", metavar="TEXT", help="Rank the texts for this query, with a model that ranks texts.")


def run_arguments(pipeline: TextRanking, arguments: Namespace) -> Results:
    """Rank the texts of a command line for its query, or score its pairs.

    Raises:
        UsageError: there is no query, or the texts are not given as they must be.
    """
    from fastserve_runtime.pipelines._text_run import given_samples, text_options

    query: str | None = arguments.query
    if query is None and not arguments.pair:
        raise UsageError(
            "The bundle ranks texts for a query, and none was given.",
            "Give it with --query, or give queries and documents in turn with --pair.",
        )
    if query is not None and arguments.pair:
        raise UsageError("--query and --pair cannot go together.", "Leave one out.")
    samples: Any = given_samples(arguments)
    if query is not None:
        found = pipeline.rank(query, samples, **text_options(arguments))
        shown = [
            {"query": query, "text": d.text, "output": {"rank": place, "index": d.index, "score": d.score}}
            for place, d in enumerate(found, start=1)
        ]
        rows = tuple((str(place), d.text, shown_score(d.score)) for place, d in enumerate(found, start=1))
        return Results(shown, (Table(("rank", "text", "score"), rows, ("rank", "score"), of_texts=True),))
    scores: Any = pipeline(samples, **text_options(arguments))
    documents = [{**d, "output": {"score": d["output"]}} for d in result_documents(samples, scores)]
    cells = [(shown_score(d["output"]["score"]),) for d in documents]
    return Results(documents, (result_table(documents, ("score",), cells, ("score",)),))
