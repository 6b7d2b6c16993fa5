"""Passes of an export: from the checkpoint that the user gave to the one that is exported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastserve.cache.records import Entry
from fastserve.exporting.resolving import Resolved
from fastserve.pipeline.runner import Runner
from fastserve.pipeline.steps import ModelSteps
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.worker.pass_job import CHECKPOINT


@dataclass(frozen=True)
class AfterPasses:
    """What is exported.

    Attributes:
        steps: on it; without passes those on the model that the user gave.
        entries: what each pass gave, in order.
    """

    steps: ModelSteps
    entries: tuple[Entry, ...] = ()

    def notes(self, original: Entry, reference: Entry) -> Iterator[str]:
        """Give what the user should know of the passes, in sentences, and of the model that they left.

        Args:
            original: the reference of the model that the user gave.
            reference: that of the model that is exported.
        """
        for entry in self.entries:
            yield from entry.result["notes"]
        if self.entries:
            yield from (note for note in reference.result["notes"] if note not in original.result["notes"])


def after_passes(asked: Resolved, runner: Runner) -> AfterPasses:
    """Run the passes, one after the other; each works on the checkpoint that the one before it wrote.

    Raises:
        FastServeError: one of them cannot be done.
    """
    steps = asked.steps()
    if not asked.passes:
        return AfterPasses(steps)
    assert isinstance(asked.checkpoint, Checkpoint)
    checkpoint, entries = asked.checkpoint, []
    runner.plan([steps.reference])
    for each in asked.passes:
        entry = runner.run(steps.passed(each))
        checkpoint = read_checkpoint(
            entry.folder / CHECKPOINT,
            task=checkpoint.task,
            allow_pickle=asked.request.allow_pickle,
            truncate_dim=checkpoint.truncate_dim,
            pairs=checkpoint.takes_pairs,
        )
        steps = ModelSteps(asked.subject_of(checkpoint), steps.data, original=steps.judged_against)
        entries.append(entry)
    return AfterPasses(steps, tuple(entries))
