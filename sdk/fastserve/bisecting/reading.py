"""Reading what a shipped artifact computes inside, on its target, without changing what the model gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastserve.bundles.manifest_writer import layer_map_place
from fastserve_converters.layer_map import IntermediateOutput, intermediate_of
from fastserve_device_tests.suite.recording import Recording, Run, record
from fastserve_device_tests.targets import Target, as_computed
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.older_names import with_current_names
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.conformance.metrics import sqnr_db
from fastserve_runtime.conformance.policy import executor_policy
from fastserve_runtime.conformance.recorded_samples import OUTPUT, sample_files
from fastserve_runtime.conformance.widths import Width, width_of
from fastserve_runtime.errors import BundleError, EnvironmentFailure

Recordings = Sequence[tuple[Path, Mapping[int, IntermediateOutput]]]
"""Folders of recorded samples, each with number of a tensor in it → the intermediate output that it is."""


@dataclass(frozen=True)
class Inside:
    """What was read inside an artifact.

    Attributes:
        intermediates: what the artifact has to compare.
        recordings: of those that could be read.
        notes: what the user should know of the reading, in sentences.
        is_shipped: whether the shipped file itself was read, and not one that was exported again.
    """

    intermediates: Sequence[IntermediateOutput]
    recordings: Recordings
    notes: tuple[str, ...]
    is_shipped: bool = True


@dataclass
class Reader:
    """Records samples of one variant on one target.

    Attributes:
        bundle: has the variant.
        variant: which is read.
        target: where it runs.
        folder: where the samples and recordings are.
        padded: numbers of samples that keep their padding.
        peak: bytes that a process of the target held at most so far, where that is known.
    """

    bundle: Bundle
    variant: Variant
    target: Target
    folder: Path
    padded: Sequence[int]
    peak: int | None = None

    @property
    def samples_file(self) -> Path:
        """The inputs, an `.npz` file."""
        return self.folder / "samples.npz"

    @property
    def width(self) -> Width:
        """As how exact numbers the target computes the variant."""
        return width_of(as_computed(self.target, self.variant))

    @property
    def min_sqnr_db(self) -> float:
        """So equal must outputs be that count as the same."""
        return executor_policy(self.width).min_sqnr_db

    def plain(self) -> Recording:
        """Record the shipped file's outputs, with nothing read inside.

        Raises:
            EnvironmentFailure: the target cannot run it.
        """
        (plain,) = self.record([Run("plain")])
        if plain.failure:
            raise EnvironmentFailure(f"{self.variant.id} cannot be run on {self.target.NAME}: {plain.failure}")
        return plain

    def record(self, runs: Sequence[Run]) -> list[Recording]:
        """Record runs, all in one process."""
        found = record(
            self.bundle.location, self.variant.id, self.target, self.samples_file, runs, self.folder, self.padded
        )
        for recording in found:
            if recording.peak is not None:
                self.peak = max(self.peak or 0, recording.peak)
        return found

    def failure_of(self, recording: Recording, plain: Recording) -> str:
        """Return why a recording tells nothing of the shipped file: it failed, or looking changed the model's outputs.

        Returns:
            A phrase, empty where the outputs are the same within the executor's policy.
        """
        if recording.failure:
            return recording.failure
        ratio = min_output_sqnr_db(plain, recording)
        is_same = ratio >= self.min_sqnr_db
        return "" if is_same else f"the model's output changes when it is read (SQNR {ratio:.1f} dB)"

    def inside(self, intermediates: Sequence[IntermediateOutput], plain: Recording) -> Inside:
        """Read all of them; where that fails or changes the model's outputs, in halves, down to single ones."""
        found: list[tuple[Path, Mapping[int, IntermediateOutput]]] = []
        pending = [tuple(intermediates)]
        refused: list[str] = []
        while pending:
            group = pending.pop(0)
            (recording,) = self.record([Run(f"inside-{len(list(self.folder.iterdir()))}", tensors(group))])
            failure = self.failure_of(recording, plain)
            if not failure:
                found.append((recording.folder, {n: group[n] for n in recording.tensors}))
            elif len(group) > 1:
                middle = len(group) // 2
                pending = [group[:middle], group[middle:], *pending]
            else:
                refused.append(f"{group[0].program_node}: {failure}")
        notes = []
        if refused:
            notes.append(
                f"{len(refused)} of {len(intermediates)} tensors could not be read without changing the model; the "
                f"first is {refused[0]}."
            )
        elif len(found) > 1:
            notes.append(f"The tensors were read in {len(found)} runs: all together would have changed the model.")
        return Inside(intermediates, found, tuple(notes))


def layer_map_of(bundle: Bundle, variant: Variant) -> list[IntermediateOutput]:
    """Return the intermediate outputs of a variant, from the layer map that ships with it.

    Raises:
        BundleError: the bundle was made before layer maps were shipped, or the map is damaged.
    """
    place = layer_map_place(variant.id)
    if place not in bundle.manifest.files:
        raise BundleError(
            f"The bundle has no layer map for '{variant.id}', so that its layers cannot be told.", "Export it again."
        )
    try:
        return [
            intermediate_of(intermediate)
            for intermediate in with_current_names(json.loads(bytes(bundle.read(place))))["intermediates"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"The layer map of '{variant.id}' is damaged: {error}.", "Export it again.") from error


def tensors(intermediates: Sequence[IntermediateOutput]) -> tuple[str, ...]:
    """Return the names of the intermediate outputs' tensors."""
    return tuple(intermediate.tensor for intermediate in intermediates)


def min_output_sqnr_db(plain: Recording, recording: Recording) -> float:
    """Return how equal the outputs of two recordings are, of the sample where they are least; infinite for the same."""
    return min(_output_ratios(plain, recording), default=float("inf"))


def _output_ratios(plain: Recording, recording: Recording) -> Iterator[float]:
    others = sample_files(recording.folder)
    for number, file in sample_files(plain.folder).items():
        with np.load(file, allow_pickle=False) as left, np.load(others[number], allow_pickle=False) as right:
            # What a decoder gives step by step is in plain recordings alone.
            for name in (n for n in left.files if n.startswith(OUTPUT) and n in right.files):
                first, second = (np.asarray(values[name], np.float64) for values in (left, right))
                if not np.array_equal(first, second, equal_nan=True):
                    yield sqnr_db(first, second)
