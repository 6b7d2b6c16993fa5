"""Jobs of the converter process on a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fastserve.cache.code_digests import code_digest
from fastserve.cache.keys import tool_versions
from fastserve.pipeline.step import Made
from fastserve.pipeline.step_inputs import StepInputs, entry_inputs
from fastserve.pipeline.subject import Subject
from fastserve.pipeline.workshop import Workshop

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Read:
    """Files of a needed step that a job reads.

    Attributes:
        need: the step's name among the needs.
        names: which; those that it has of them. None: all.
    """

    need: str
    names: tuple[str, ...] | None = None

    def inputs(self, made: Made) -> StepInputs:
        """Return them with their digests."""
        entry = made[self.need]
        return entry_inputs(entry, None if self.names is None else [n for n in self.names if n in entry.files])


@dataclass(frozen=True)
class ConverterJob:
    """A job: all that the process is told is in the key, and it gets folders of the files in the key and no others.

    Attributes:
        subject: the model.
        job: what the process is asked.
        code: modules and parts that it runs there.
        tools: distributions whose versions decide the result.
        reads: field of the request → the files that it finds there.
        further: what is asked beside `job`, out of what the needs gave.
        places: fields that say where single files are whose contents are in `job` or `further`.
        environment: variables that must be set before the process starts.
    """

    subject: Subject
    job: Mapping[str, Any]
    code: tuple[str | object, ...]
    tools: Sequence[str]
    reads: Mapping[str, Read | StepInputs] = field(default_factory=lambda: _NOTHING)
    further: Callable[[Made], Mapping[str, Any]] = lambda _: _NOTHING
    places: Callable[[Made], Mapping[str, Any]] = lambda _: _NOTHING
    environment: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    def key(self, made: Made) -> dict[str, Any]:
        """Return the request, the model, the files that are read, and what reads them."""
        return {
            "job": {**self.job, **self.further(made)},
            **self.subject.key(),
            "reads": {name: dict(inputs.digests) for name, inputs in self._inputs(made).items()},
            "tools": tool_versions(sorted(set(self.tools))),
            "code": code_digest(*self.code),
        }

    def do(self, made: Made, out: Path, workshop: Workshop) -> Any:
        """Have the process do it."""
        folders = {name: str(workshop.folders.folder(inputs)) for name, inputs in self._inputs(made).items()}
        asked = {**self.job, **self.further(made), **self.places(made), **folders, "out": str(out)}
        with self.subject.lent(workshop.folders) as source:
            return workshop.converter(self.environment).run({**asked, "source": source})

    def _inputs(self, made: Made) -> dict[str, StepInputs]:
        return {name: r.inputs(made) if isinstance(r, Read) else r for name, r in self.reads.items()}
