"""Reading a file that was exported again, where the shipped one keeps to itself what its delegates compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastserve.bisecting.reading import Inside, Reader, min_output_sqnr_db, tensors
from fastserve.bisecting.reference_model import ReferenceJobs
from fastserve.bisecting.transplanting import transplanted
from fastserve.pipeline.step_inputs import StepInputs
from fastserve_converters.checkpoints.checkpoint import file_sha256
from fastserve_converters.formats import FORMATS, intermediates_exporter
from fastserve_converters.layer_map import IntermediateOutput, intermediate_of
from fastserve_converters.models.reference import INPUTS
from fastserve_converters.pass_words import asked_pass
from fastserve_converters.precisions import RANGE_METHODS
from fastserve_converters.recipe import Recipe, parse_assignment
from fastserve_device_tests.executors.event_trace import trace_events
from fastserve_device_tests.suite.recording import Recording, Run
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.conformance.metrics import sqnr_db
from fastserve_runtime.conformance.recorded_samples import TENSOR, sample_file, sample_files
from fastserve_runtime.errors import EnvironmentFailure

EXPORT_AGAIN = "Export again, to see inside"
_TRACED_SAMPLES = 3


@dataclass(frozen=True)
class ExportedAgain:
    """Files that were exported again.

    Attributes:
        model: as the recipe says.
        with_intermediates: the same, whose outputs are followed by the intermediate outputs' values.
        intermediates: what can be compared with the torch program.
    """

    model: Path
    with_intermediates: Path
    intermediates: list[IntermediateOutput]


def export_again(jobs: ReferenceJobs, variant: Variant, samples: Path) -> ExportedAgain:
    """Export a variant again by its recipe: as it was, and so that what it keeps inside becomes outputs.

    Args:
        jobs: exports the model.
        variant: whose recipe is followed.
        samples: an `.npz` file of inputs; an export takes a few where it needs no calibration data.

    Raises:
        EnvironmentFailure: its format has no way to do so.
    """
    if intermediates_exporter(FORMATS.load(variant.format), jobs.steps.form) is None:
        raise EnvironmentFailure(
            f"The layer map of '{variant.id}' has nothing to compare, and {variant.format} cannot be exported so "
            "that it shows what it computes inside.",
            "Search another variant.",
        )
    precision_spec = jobs.steps.precisions(variant.format)[variant.precision]
    # Without calibration data, the samples are what the export looks at its artifact with.
    given = None if precision_spec.needs_calibration else _as_reference(samples)
    entry = jobs.runner.run(jobs.steps.export_with_intermediates(recipe_of(variant), EXPORT_AGAIN, given))
    intermediates = [intermediate_of(intermediate) for intermediate in entry.result["intermediates"]]
    return ExportedAgain(
        entry.folder / entry.result["model"], entry.folder / entry.result["with_intermediates"], intermediates
    )


def _as_reference(samples: Path) -> StepInputs:
    return StepInputs("files", {INPUTS: samples}, {INPUTS: file_sha256(samples)}, stamps={})


def recipe_of(variant: Variant) -> Recipe:
    """Return the recipe that a manifest tells of a variant."""
    told = variant.recipe
    written = (told.get("calibration") or {}).get("ranges")
    return Recipe(
        variant.format,
        variant.precision,
        passes=tuple(asked_pass(document).words for document in told.get("passes", ())),
        assignment=parse_assignment(told.get("assignment")),
        range_method=next((method for method in RANGE_METHODS if method == written), RANGE_METHODS[0]),
    )


def read_again(reader: Reader, jobs: ReferenceJobs, plain: Recording) -> Inside:
    """Export the reader's variant again and read inside that.

    That it computes what the shipped file does is proven before it is looked into.

    Args:
        reader: reads the variant.
        jobs: exports the model.
        plain: what the shipped file gives.
    """
    again = export_again(jobs, reader.variant, reader.samples_file)
    shipped = bytes(reader.bundle.read(next(iter(reader.variant.graphs.values())).file))
    fresh, content = again.model.read_bytes(), again.with_intermediates.read_bytes()
    told = (
        f"What the delegates of {reader.variant.format} compute inside is not in the file, so it was exported again "
        "from the reference, with what the layers give as further outputs."
    )
    if shipped == fresh:
        notes = [f"{told} The fresh export is the shipped file, byte for byte."]
    else:
        content, difference = _with_shipped_numbers(shipped, fresh, content)
        notes = [told, difference]
    with_intermediates = reader.folder / "intermediates.bin"
    with_intermediates.write_bytes(content)
    (recording,) = reader.record([Run("inside", tensors(again.intermediates), with_intermediates)])
    failure = reader.failure_of(recording, plain)
    if failure:
        notes.append(f"The re-export does not show what the shipped file does: {failure}.")
        return Inside(again.intermediates, [], tuple(notes), is_shipped=False)
    ratio = min_output_sqnr_db(plain, recording)
    shown = "the same bits" if ratio == float("inf") else f"the same within {ratio:.0f} dB"
    notes.append(f"The re-export gives what the shipped file gives on all samples: {shown}.")
    if shipped != fresh:
        notes.append(_traced(reader, shipped, plain, recording, again.intermediates))
    recordings = [(recording.folder, {n: again.intermediates[n] for n in recording.tensors})]
    return Inside(again.intermediates, recordings, tuple(notes), is_shipped=False)


def _with_shipped_numbers(shipped: bytes, fresh: bytes, with_intermediates: bytes) -> tuple[bytes, str]:
    """Return the file with intermediate outputs with what the shipped one has in another way, and how that went.

    In a sentence.
    """
    moved = transplanted(shipped, fresh, with_intermediates)
    if moved is None:
        return with_intermediates, (
            f"The shipped file has {len(shipped)} bytes and a fresh export {len(fresh)}: it was made by other "
            "versions or with other data, or changed since."
        )
    missing = f"; {moved.missing} more have no place there" if moved.missing else ""
    return moved.content, (
        "The shipped file is not what its recipe gives: the difference came during the export or after it. "
        f"{moved.stretches} stretches of its bytes that a fresh export has in another way were put into the "
        f"re-export{missing}."
    )


def _traced(
    reader: Reader, shipped: bytes, plain: Recording, recording: Recording, intermediates: Sequence[IntermediateOutput]
) -> str:
    """Read the shipped file's kernels outside its delegates, and tell whether the re-export has their values."""
    file = reader.folder / "shipped.bin"
    file.write_bytes(shipped)
    numbers = list(sample_files(plain.folder))[:_TRACED_SAMPLES]
    out = reader.folder / "events"
    try:
        kernels = trace_events(file, plain.folder, numbers, out)
    except EnvironmentFailure as error:
        return f"The shipped file's own kernels could not be read beside: {error.problem}"
    pairs = kernels_and_intermediates(kernels, intermediates)
    for number in numbers:
        with (
            np.load(sample_file(out, number), allow_pickle=False) as traced,
            np.load(sample_file(recording.folder, number), allow_pickle=False) as read,
        ):
            for kernel, intermediate in pairs.items():
                left, right = (
                    np.asarray(a, np.float64) for a in (traced[f"{TENSOR}{kernel}"], read[f"{TENSOR}{intermediate}"])
                )
                is_equal = left.size == right.size and (
                    sqnr_db(left.reshape(-1), right.reshape(-1)) >= reader.min_sqnr_db
                )
                if not is_equal:
                    return (
                        f"The event tracer reads other values in the shipped file from "
                        f"{intermediates[intermediate].program_node} on."
                    )
    told = f"{len(pairs)} kernels of the shipped file outside its delegates"
    return f"ExecuTorch's event tracer reads the same in {told}."


def kernels_and_intermediates(kernels: Sequence[str], intermediates: Sequence[IntermediateOutput]) -> dict[int, int]:
    """Return a kernel's call → the intermediate output that it gives, by number, of kinds that occur equally often.

    Args:
        kernels: names such as `native_layer_norm.out`, in the order of their calls.
        intermediates: of the program, in its order.
    """
    kinds = [name.partition(".")[0].removeprefix("native_") for name in kernels]
    pairs: dict[int, int] = {}
    for kind in dict.fromkeys(kinds):
        calls = [n for n, k in enumerate(kinds) if k == kind]
        places = [n for n, intermediate in enumerate(intermediates) if intermediate.program_node.operator == kind]
        # Sums of a head may be computed in another order.
        if len(calls) == len(places) and kind != "sum":
            pairs |= dict(zip(calls, places, strict=True))
    return pairs
