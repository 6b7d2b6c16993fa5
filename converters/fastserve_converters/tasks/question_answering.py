"""Task `question-answering`: where the answer to a question begins and ends in its context (SQuAD)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.task import ModelOutput, Pairs
from fastserve_converters.columns import Columns
from fastserve_runtime.bundle.axes import BATCH, TOKENS

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from fastserve_converters.checkpoints.checkpoint import Checkpoint
    from fastserve_converters.data import LabelKind, Sample
    from fastserve_runtime.preprocessors.text import Windows

HEADS = ("ForQuestionAnswering",)
HEAD_WEIGHTS = (("qa_outputs.weight",),)
HEAD_ROWS = {"qa_outputs.weight": 2}
"""A start and an end: Transformers can load a head with more rows, and cannot run it."""
IN_ANY_MODEL = False
AUTO_CLASS = "AutoModelForQuestionAnswering"
UNUSED = ("pooler",)
HAS_LABELS = False
POOLS = False
MODEL = "encoder"
RANKS = False
PAIRS: Pairs = "always"
COLUMNS = Columns("question", "context", "answers", "answers")
LENGTH = 384
READS_CONTEXTS = True


START = ModelOutput("start_logits", "start_logits", (BATCH, TOKENS))
END = ModelOutput("end_logits", "end_logits", (BATCH, TOKENS))


def outputs(checkpoint: Checkpoint) -> tuple[ModelOutput, ...]:
    """Return the scores of tokens as an answer's first and as its last."""
    return START, END


def settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return nothing: how contexts are read is in the preprocessing's settings."""
    return {}


def label_kind(checkpoint: Checkpoint) -> LabelKind:
    """Return what labels are: answers, of which each is right."""
    from fastserve_converters.data import Answers

    return Answers()


def known(samples: Sequence[Sample], windows: Windows) -> dict[str, NDArray[np.generic]]:
    """Return where the tokens of windows stand in their contexts, and what stands there."""
    from fastserve_runtime.pipelines.question_answering import known_of_windows

    return known_of_windows(windows, [sample.content for sample in samples])


def reference_outputs(
    model: torch.nn.Module, checkpoint: Checkpoint, inputs: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Return both outputs, shape [n, tokens]."""
    result = model(**inputs)
    return {output.name: getattr(result, output.field) for output in outputs(checkpoint)}
