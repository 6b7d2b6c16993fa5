"""One search: what is read, compared and judged, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastserve.bisecting.layer_judgement import Layer, blamed, layer_of
from fastserve.bisecting.outputs import reference_note, wrong_outputs
from fastserve.bisecting.re_exporting import read_again
from fastserve.bisecting.reading import Reader, Recordings, layer_map_of, tensors
from fastserve.bisecting.reference_model import ReferenceJobs
from fastserve.bisecting.results import Bisection, Suspect
from fastserve.bisecting.samples import samples_of
from fastserve.progress import Reporter
from fastserve_converters.layer_map import IntermediateOutput
from fastserve_device_tests.suite.recording import Recording, Run
from fastserve_device_tests.targets import Target, as_computed
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.conformance.verification import whole_golden
from fastserve_runtime.errors import BundleError, EnvironmentFailure

MAX_SUSPECTS_ALONE = 4
"""So many suspects are looked at again alone."""
READ, COMPARE, ALONE = "Read inside the artifact", "Compare layer by layer", "Look at the suspects alone"
_COMPARED = "compare"


@dataclass
class Search:
    """One search.

    Attributes:
        bundle: has the variant.
        variant: which artifact is searched.
        target: where it runs.
        jobs: compares with the model.
        folder: for files between processes.
        wanted: how many samples are run.
        reporter: gets told what is being done.
        notes: what the user should know so far, in sentences.
    """

    bundle: Bundle
    variant: Variant
    target: Target
    jobs: ReferenceJobs
    folder: Path
    wanted: int
    reporter: Reporter
    notes: list[str] = field(default_factory=list)
    _converter_peak: int | None = None

    def result(self) -> Bisection:
        """Do it.

        Raises:
            BundleError: the bundle is damaged, or tells nothing of its layers.
            EnvironmentFailure: the target cannot run here or shows nothing, or a process failed.
        """
        golden = whole_golden(self.bundle, self.variant, self._golden_place())
        samples = samples_of(self.bundle, self.variant, golden, self.wanted)
        reader = Reader(self.bundle, self.variant, self.target, self.folder, samples.padded)
        samples.write(reader.samples_file)
        intermediates = layer_map_of(self.bundle, self.variant)
        self.reporter.start(READ)
        plain = reader.plain()
        inside = reader.inside(intermediates, plain) if intermediates else read_again(reader, self.jobs, plain)
        self.notes += inside.notes
        self.reporter.finish(READ)
        self.reporter.start(COMPARE)
        if not inside.recordings:
            raise EnvironmentFailure(
                f"{self.target.NAME} gives nothing from inside '{self.variant.id}'. {' '.join(self.notes)}".strip(),
                "Search the same variant on another target, or another variant.",
            )
        document = self._compare(inside.recordings, samples.count, _COMPARED)
        layers = tuple(layer_of(d) for d in document["intermediates"])
        note = reference_note(golden, self.folder / _COMPARED / "trace", samples.distinct)
        if note is not None:
            self.notes.append(note)
        reasons = blamed(layers, reader.width)
        self.reporter.finish(COMPARE)
        self.reporter.start(ALONE)
        if inside.is_shipped:
            suspects = tuple(self._looked_at_alone(reader, layers, reasons, inside.intermediates, plain, samples.count))
        else:
            suspects = tuple(Suspect(layers[number], reason) for number, reason in reasons.items())
        self.reporter.finish(ALONE)
        read = {intermediate.tensor for _, own in inside.recordings for intermediate in own.values()}
        task = self.bundle.manifest.task
        computed = as_computed(self.target, self.variant)
        wrong = wrong_outputs(task, computed, self.target.NAME, golden, plain, samples.distinct)
        peaks = {"target": reader.peak, "converter": self._converter_peak}
        return Bisection(
            variant=self.variant.id,
            target=self.target.NAME,
            suspects=suspects,
            layers=layers,
            output_sqnr_db=min((d["sqnr_db"] for d in document["outputs"].values()), default=0.0),
            wrong_outputs=tuple(wrong),
            samples=samples.distinct,
            texts=samples.texts,
            unread=tuple(
                intermediate.tensor for intermediate in inside.intermediates if intermediate.tensor not in read
            ),
            notes=tuple(self.notes),
            peak_memory={process: peak for process, peak in peaks.items() if peak is not None},
        )

    def _golden_place(self) -> str:
        if self.variant.golden is None:
            raise BundleError(f"The bundle has no golden for '{self.variant.id}'.", "Export it again.")
        return self.variant.golden

    def _compare(self, recordings: Recordings, count: int, name: str) -> dict[str, Any]:
        document = self.jobs.layer_errors(recordings, range(count), self.folder / name)
        if document["peak"] is not None:
            self._converter_peak = document["peak"]
        return document

    def _looked_at_alone(
        self,
        reader: Reader,
        layers: Sequence[Layer],
        reasons: Mapping[int, str],
        intermediates: Sequence[IntermediateOutput],
        plain: Recording,
        count: int,
    ) -> Iterator[Suspect]:
        """Yield the suspects; the first ones were read again with only what they are computed from."""
        by_tensor = {intermediate.tensor: intermediate for intermediate in intermediates}
        first = list(reasons)[:MAX_SUSPECTS_ALONE]
        groups = {n: tuple(by_tensor[layers[i].tensor] for i in (*layers[n].before, n)) for n in first}
        runs = [Run(f"alone-{n}", tensors(group)) for n, group in groups.items()]
        recordings = dict(zip(groups, reader.record(runs), strict=True)) if runs else {}
        for number, reason in reasons.items():
            layer = layers[number]
            recording = recordings.get(number)
            if recording is None:
                yield Suspect(layer, reason)
                continue
            failure = reader.failure_of(recording, plain)
            if failure:
                self.notes.append(f"{layer.name} could not be looked at alone: {failure}.")
                yield Suspect(layer, reason)
                continue
            read = [(recording.folder, {n: groups[number][n] for n in recording.tensors})]
            document = self._compare(read, count, f"alone-{number}-compared")
            again = next(layer_of(d) for d in document["intermediates"] if d["tensor"] == layer.tensor)
            others = [again if n == number else other for n, other in enumerate(layers)]
            is_confirmed = number in blamed(others, reader.width)
            if not is_confirmed:
                self.notes.append(
                    f"{layer.name} is right where it is looked at alone ({again.local_sqnr_db:.1f} dB): reading other "
                    "layers changed what it computes."
                )
            yield Suspect(layer, reason, is_confirmed, again.local_sqnr_db)
