"""What the user should know of an export, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastserve.cache.cache import Entry
from fastserve.exporting.length import length_notes
from fastserve.exporting.request import ExportRequest
from fastserve.search.candidate import Candidate
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task, usual_columns
from fastserve_converters.data import Table, unused_texts
from fastserve_converters.models.sources import form_of_task


def unmeasured_notes(candidates: Sequence[Candidate]) -> Iterator[str]:
    """Say which candidates nothing was measured of."""
    made = [c for c in candidates if c.target is not None and c.failure is None]
    if made:
        yield (
            f"Latency and memory of {', '.join(c.id for c in made)} were not judged: nothing is measured on their "
            "targets. Their quality is that of the same model on an executor that is trusted."
        )


def data_notes(request: ExportRequest, tables: Sequence[Table], checkpoint: Checkpoint) -> Iterator[str]:
    """Name columns of texts that are not used, such as the second texts of pairs."""
    task: Task = TASKS.load(checkpoint.task)
    columns = request.columns(usual_columns(task))
    used = [name for name in (columns.text, columns.pair, columns.label) if name is not None]
    names = dict.fromkeys(name for table in tables for name in unused_texts(table, used))
    for name in names:
        way = (
            f" If the model takes pairs of texts, export it with --text-pair-column {name}."
            if task.PAIRS == "optional" and not checkpoint.takes_pairs
            else ""
        )
        yield f"The data's column '{name}' holds texts too and is not used: '{columns.text}' is.{way}"


def quality_notes(request: ExportRequest, reference: Entry, checkpoint: Checkpoint, length: int) -> Iterator[str]:
    """Say what the model's files leave open, how long its texts are, and what its quality rests on."""
    count = reference.result.get("evaluation_samples", reference.result["evaluation"])
    yield from checkpoint.notes
    yield from length_notes(checkpoint, length, was_asked=request.sequence_length is not None)
    yield from reference.result.get("notes", ())
    texts = "pairs of texts" if checkpoint.takes_pairs else "texts"
    unit = "stretches of text" if form_of_task(checkpoint.task) == "cached" else texts
    if not request.data:
        yield (
            f"No --data was given: quality was judged on {count} {unit} that ship with FastServe. "
            "Your own texts say more about your use."
        )
    else:
        label = "" if reference.result["labels"] is None else ", with labels"
        yield f"Quality was judged on {count} {unit} of your data{label}."
        if count < 200 and unit == texts:
            yield f"{count} evaluation {texts} are few: the interval of the quality is wide."
    if checkpoint.licence is None and not checkpoint.licence_files():
        yield "The checkpoint's licence is unknown: find it before you pass the bundle on."
    elif checkpoint.licence is None:
        yield "The checkpoint's model card names no licence; its files were copied into the bundle."
