"""Finding the layers of a shipped artifact whose output goes wrong.

Tensors inside the shipped file are read on the target and compared with the untouched model, each layer led by what the
artifact had before it. The device tests read, in the target's process; the converters compare, in the converter's
process; between them lie files, of which one sample is in memory at a time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve.cache import Cache
from fastserve.converter_process import ConverterProcess
from fastserve.exporting import default_cache_dir
from fastserve.layer_judgement import Layer, blamed, layer_of
from fastserve.manifest_writer import layer_map_place
from fastserve.model_source import ModelSource, find_model
from fastserve.progress import Reporter, SilentReporter, Step
from fastserve.stages import tool_versions
from fastserve.transplanting import transplanted
from fastserve_converters.checkpoint import Checkpoint, file_sha256, read_checkpoint
from fastserve_converters.formats import FORMATS
from fastserve_converters.layer_map import Tap, tap_of
from fastserve_converters.precisions import Precision
from fastserve_converters.reference import INPUTS
from fastserve_converters.sources_digest import sources_digest
from fastserve_device_tests.event_trace import trace_events
from fastserve_device_tests.recording import OUTPUT, TENSOR, Recording, Run, record, sample_files
from fastserve_device_tests.targets import Target, load_target, target_names
from fastserve_runtime.bundle import Bundle, open_bundle
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.evaluation import evaluation_of
from fastserve_runtime.golden import Golden
from fastserve_runtime.lengths import MASK, own_tokens
from fastserve_runtime.manifest import Variant
from fastserve_runtime.metrics import sqnr_db
from fastserve_runtime.policy import executor_policy, width
from fastserve_runtime.verification import judge_golden, whole_golden

DEFAULT_SAMPLES = 24
MOST_SUSPECTS_ALONE = 4
"""So many suspects are looked at again alone."""
LEAST_REFERENCE_SQNR_DB = 60.0
"""Between what the bundle's golden says of the reference and what the named model gives."""
_GENERATION = "text-generation"

_TAPPED = "tapped"
_TRACED_SAMPLES = 3
_PADDED_SAMPLES = 2
EXPORT_AGAIN = "Export again, to see inside"
READ, COMPARE, ALONE = "Read inside the artifact", "Compare layer by layer", "Look at the suspects alone"


@dataclass(frozen=True)
class Suspect:
    """A layer that is worse than its precision explains.

    Attributes:
        layer: its errors, its torch module and its tensor.
        reason: why it is suspected.
        confirmed_alone: whether it is as bad where nothing but it and what it is computed from was read; None where
            that was not looked at.
        alone_sqnr_db: SQNR of its own error there.
    """

    layer: Layer
    reason: str
    confirmed_alone: bool | None = None
    alone_sqnr_db: float | None = None

    @property
    def module(self) -> str:
        """The torch module."""
        return self.layer.module

    @property
    def operator(self) -> str:
        """What the file calls the operator."""
        return self.layer.exported

    @property
    def tensor(self) -> str:
        """The tensor of the file."""
        return self.layer.tensor

    @property
    def local_sqnr_db(self) -> float:
        """Signal over the error that the layer added, in dB."""
        return self.layer.local_sqnr_db

    @property
    def cumulative_sqnr_db(self) -> float:
        """Signal over all error that has come together by then, in dB."""
        return self.layer.cumulative_sqnr_db

    @property
    def worst_sample(self) -> int | None:
        """The number of the sample where its own error is worst."""
        return self.layer.worst_sample

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "module": self.module,
            "modules": list(self.layer.modules),
            "operator": self.operator,
            "torch_operator": self.layer.operator,
            "tensor": self.tensor,
            "local_sqnr_db": self.local_sqnr_db,
            "cumulative_sqnr_db": self.cumulative_sqnr_db,
            "worst_sample": self.worst_sample,
            "channel": self.layer.channel,
            "reason": self.reason,
            "confirmed_alone": self.confirmed_alone,
            "alone_sqnr_db": self.alone_sqnr_db,
        }


@dataclass(frozen=True)
class Bisection:
    """What a search found.

    Attributes:
        variant: the artifact that was searched.
        target: where it ran.
        suspects: layers that are worse than their precision explains, in the order of execution; the first is blamed.
        layers: all that were compared, in the order of execution.
        output_sqnr_db: of the model's output against the reference, all samples together.
        wrong_outputs: what the suite would say against the model's outputs, in sentences.
        samples: how many were run.
        texts: number of a sample → its text, where it is known.
        unread: tensors of the layer map that could not be read.
        notes: what the user should know, in sentences.
        peak_memory: process → bytes that it held at most, where that is known.
    """

    variant: str
    target: str
    suspects: tuple[Suspect, ...]
    layers: tuple[Layer, ...]
    output_sqnr_db: float
    wrong_outputs: tuple[str, ...]
    samples: int
    texts: Mapping[int, str]
    unread: tuple[str, ...]
    notes: tuple[str, ...]
    peak_memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether nothing is wrong: no layer is suspected, and the outputs are as good as they should be."""
        return not self.suspects and not self.wrong_outputs

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "variant": self.variant,
            "target": self.target,
            "agrees": self.agrees,
            "suspects": [s.as_document() for s in self.suspects],
            "layers": [layer.as_document() for layer in self.layers],
            "output_sqnr_db": self.output_sqnr_db,
            "wrong_outputs": list(self.wrong_outputs),
            "samples": self.samples,
            "unread": list(self.unread),
            "notes": list(self.notes),
            "peak_memory": dict(self.peak_memory),
        }


def bisect(
    bundle: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    *,
    target: str | None = None,
    variant: str | None = None,
    samples: int = DEFAULT_SAMPLES,
    reporter: Reporter | None = None,
    cache_dir: Path | None = None,
) -> Bisection:
    """Find the layers of a shipped artifact whose output goes wrong; see `Bisector.bisect`."""
    with Bisector(str(reference), cache_dir=cache_dir) as bisector:
        return bisector.bisect(Path(bundle), target=target, variant=variant, samples=samples, reporter=reporter)


@dataclass(frozen=True)
class ExportedAgain:
    """Files that were exported again.

    Attributes:
        model: as the recipe says.
        tapped: the same, whose outputs are followed by the taps' values.
        taps: what can be compared with the torch program.
    """

    model: Path
    tapped: Path
    taps: list[Tap]


class Bisector(ClosedAtEnd):
    """Searches artifacts of one model, which stays loaded between the searches."""

    def __init__(
        self,
        reference: str,
        *,
        cache_dir: Path | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
        any_weights: bool = False,
        debug: bool = False,
    ) -> None:
        """Name the model; nothing is loaded before the first search.

        Args:
            reference: the model that the artifacts were made from, as `export` takes it.
            cache_dir: where finished steps of an export are kept; used where an artifact must be exported again.
            allow_pickle: accept weights that are pickles.
            trust_remote_code: run the model's own code.
            any_weights: compare with this model also where it is not the one that the bundle was made from.
            debug: let the converter print.
        """
        self._reference = reference
        self._cache_dir = cache_dir
        self._allow_pickle, self._trust_remote_code = allow_pickle, trust_remote_code
        self._any_weights = any_weights
        self._converter = ConverterProcess(debug=debug)
        self._source: ModelSource | None = None
        self._checkpoints: dict[str, tuple[Checkpoint, str]] = {}

    def close(self) -> None:
        """End the converter process."""
        self._converter.close()

    def bisect(
        self,
        bundle: Path,
        *,
        target: str | None = None,
        variant: str | None = None,
        samples: int = DEFAULT_SAMPLES,
        reporter: Reporter | None = None,
    ) -> Bisection:
        """Search one artifact.

        Args:
            bundle: its directory or zip file.
            target: where it runs; the CPU target of the variant's format if left out.
            variant: which one; the first of the target's format, or the chosen one, if left out.
            samples: how many are run: the golden ones first, then evaluation samples of the bundle.
            reporter: gets told what is being done.

        Raises:
            UsageError: there is no such bundle, variant, target or model, or the model is not the bundle's.
            BundleError: the bundle is damaged, or tells nothing of its layers.
            EnvironmentFailure: the target cannot run here, or a process failed.
        """
        if samples < 1:
            raise UsageError(f"{samples} samples were asked for.", "Ask for at least 1.")
        told = reporter or SilentReporter()
        told.plan([Step(EXPORT_AGAIN, 30), Step(READ, 4), Step(COMPARE, 8), Step(ALONE, 4)])
        with open_bundle(bundle) as source, TemporaryDirectory(prefix="fastserve-bisect-") as folder:
            chosen, on = chosen_pair(source, variant, target)
            checkpoint = self._checkpoint_of(source)
            search = _Search(self, source, chosen, on, checkpoint, Path(folder), samples, told)
            return search.result()

    def layer_errors(
        self,
        checkpoint: Checkpoint,
        variant: Variant,
        recordings: Sequence[tuple[Path, Mapping[int, Tap]]],
        samples: Sequence[int],
        out: Path,
    ) -> dict[str, Any]:
        """Compare recorded samples with the model, in the converter process."""
        length = next(iter(variant.graphs.values())).signature.inputs[0].dims[1]
        result: dict[str, Any] = self._converter.run(
            {
                "job": "layer_errors",
                "source": self.job_source(checkpoint, length if isinstance(length, int) else length.max),
                "out": str(out),
                "has_dynamic_length": not isinstance(length, int),
                "samples": list(samples),
                "recordings": [
                    {"folder": str(place), "taps": {n: tap.as_document() for n, tap in taps.items()}}
                    for place, taps in recordings
                ],
            }
        )
        return result

    def exported_again(
        self, checkpoint: Checkpoint, variant: Variant, samples: Path, reporter: Reporter
    ) -> ExportedAgain:
        """Export a variant again by its recipe: as it was, and so that what it keeps inside becomes outputs.

        Args:
            checkpoint: the model.
            variant: whose recipe is followed.
            samples: an `.npz` file of inputs; an export takes a few where it needs no calibration data.
            reporter: gets told what is being done.

        Raises:
            EnvironmentFailure: its format has no way to do so.
        """
        exporter: Any = FORMATS.load(variant.format)
        if not hasattr(exporter, "export_with_taps"):
            raise EnvironmentFailure(
                f"The layer map of '{variant.id}' has nothing to compare, and {variant.format} cannot be exported so "
                "that it shows what it computes inside.",
                "Search another variant.",
            )
        length = next(iter(variant.graphs.values())).signature.inputs[0].dims[1]
        source = self.job_source(checkpoint, length if isinstance(length, int) else length.max)
        plan: Precision = exporter.PRECISIONS[variant.precision]
        recipe = dict(variant.recipe)
        files = [f for f in checkpoint.files() if f.is_file()]
        key = {
            "model": [file_sha256(f) for f in files],
            "length": source["length"],
            "task": checkpoint.task,
            "recipe": recipe,
            "converters": sources_digest(),
            "tools": tool_versions(exporter.TOOLS),
        }
        calibration = recipe.get("calibration") or {}

        def build(out: Path) -> Any:
            reference = out / "reference"
            if plan.needs_calibration:
                settings = {"data": [], "text_column": "text", "label_column": "label", "seed": 0}
                self._converter.run({"job": "reference", "source": source, "out": str(reference), **settings})
            else:
                reference.mkdir()
                shutil.copyfile(samples, reference / INPUTS)
            return self._converter.run(
                {
                    "job": "tapped_artifact",
                    "source": source,
                    "out": str(out),
                    "format": variant.format,
                    "precision": variant.precision,
                    "range_method": calibration.get("ranges") or "min-max",
                    "base": None,
                    "reference": str(reference),
                    "assignment": recipe.get("assignment"),
                }
            )

        cache = Cache(self._cache_dir or default_cache_dir())
        entry = cache.find(_TAPPED, key)
        if entry is None:
            reporter.start(EXPORT_AGAIN)
            entry = cache.make(_TAPPED, key, build)
            reporter.finish(EXPORT_AGAIN)
        taps = [tap_of(tap) for tap in entry.result["taps"]]
        return ExportedAgain(entry.folder / entry.result["model"], entry.folder / entry.result["tapped"], taps)

    def job_source(self, checkpoint: Checkpoint, length: int) -> dict[str, Any]:
        """Return how the converter process loads the model."""
        return {
            "path": str(checkpoint.root.absolute()),
            "task": checkpoint.task,
            "length": length,
            "allow_pickle": self._allow_pickle,
            "trust_remote_code": self._trust_remote_code,
        }

    def _checkpoint_of(self, bundle: Bundle) -> Checkpoint:
        """Return the model, after comparing its weights with what the bundle says that it was made from."""
        manifest = bundle.manifest
        if manifest.task not in self._checkpoints:
            if self._source is None:
                options = {"allow_pickle": self._allow_pickle, "trust_remote_code": self._trust_remote_code}
                self._source = find_model(self._reference, **options)
            checkpoint = read_checkpoint(
                self._source.directory,
                task=manifest.task,
                allow_pickle=self._allow_pickle,
                trust_remote_code=self._trust_remote_code,
            )
            self._checkpoints[manifest.task] = checkpoint, checkpoint.weights_sha256()
        checkpoint, digest = self._checkpoints[manifest.task]
        if digest != manifest.source.weights_sha256 and not self._any_weights:
            raise UsageError(
                f"'{self._reference}' has other weights than the model that the bundle was made from "
                f"('{manifest.source.name}').",
                "Name that model, or say --other-reference to compare with this one all the same.",
            )
        return checkpoint


def chosen_pair(bundle: Bundle, variant: str | None, target: str | None) -> tuple[Variant, Target]:
    """Return which variant is searched on which target.

    Raises:
        UsageError: one is not known, they do not fit, or the bundle's task is not supported.
    """
    manifest = bundle.manifest
    if manifest.task == _GENERATION:
        raise UsageError(
            "bisect compares encoders; the bundle's model generates text.",
            "Look at the layers' losses with inspect, or at conform's verdicts.",
        )
    on = None if target is None else load_target(target)
    if variant is not None:
        chosen = manifest.variant(variant)
    else:
        ordered = sorted(manifest.variants, key=lambda v: v.id != manifest.chosen)
        fitting = [v for v in ordered if on is None or _takes(on, v)]
        if not fitting:
            raise UsageError(f"The bundle has no variant for {target}.", "Name another target.")
        chosen = fitting[0]
    if on is None:
        found = [t for t in map(load_target, target_names()) if _is_usual(t) and _takes(t, chosen)]
        if not found:
            raise UsageError(f"No target of this machine takes '{chosen.id}'.", "Name one with --target.")
        on = found[0]
    if not _takes(on, chosen):
        raise UsageError(
            f"{on.NAME} does not take the variant '{chosen.id}' ({chosen.format}, {chosen.precision}).",
            "Name another target or variant.",
        )
    return chosen, on


def _is_usual(target: Target) -> bool:
    return (target.PROCESSOR, target.EXECUTED_BY) == ("cpu", "hardware")


def _takes(target: Target, variant: Variant) -> bool:
    is_format = variant.format == target.FORMAT and variant.target in {None, target.NAME}
    return is_format and (target.PRECISIONS is None or variant.precision in target.PRECISIONS)


def layer_map_of(bundle: Bundle, variant: Variant) -> list[Tap]:
    """Return the taps of a variant, from the layer map that ships with it.

    Raises:
        BundleError: the bundle was made before layer maps were shipped, or the map is damaged.
    """
    place = layer_map_place(variant.id)
    if place not in bundle.manifest.files:
        raise BundleError(
            f"The bundle has no layer map for '{variant.id}', so that its layers cannot be told.", "Export it again."
        )
    try:
        return [tap_of(tap) for tap in json.loads(bytes(bundle.read(place)))["taps"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"The layer map of '{variant.id}' is damaged: {error}.", "Export it again.") from error


@dataclass
class _Search:
    """One search."""

    bisector: Bisector
    bundle: Bundle
    variant: Variant
    target: Target
    checkpoint: Checkpoint
    folder: Path
    wanted: int
    reporter: Reporter
    notes: list[str] = field(default_factory=list)
    peaks: dict[str, int] = field(default_factory=dict)
    tapped: Path | None = None
    padded: tuple[int, ...] = ()

    def result(self) -> Bisection:
        """Do it."""
        golden = whole_golden(self.bundle, self.variant, self._golden_place())
        inputs, texts = self._inputs(golden)
        count = len(next(iter(inputs.values())))
        np.savez(self.folder / "samples.npz", **inputs)  # type: ignore[arg-type]  # its keyword arguments are the arrays
        taps = layer_map_of(self.bundle, self.variant)
        self.reporter.start(READ)
        (plain,) = self._record([Run("plain")])
        if plain.failure:
            raise EnvironmentFailure(f"{self.variant.id} cannot be run on {self.target.NAME}: {plain.failure}")
        if taps:
            recordings = self._read_inside(taps, plain)
        else:
            taps, recordings = self._read_again(plain)
        self.reporter.finish(READ)
        self.reporter.start(COMPARE)
        if not recordings:
            raise EnvironmentFailure(
                f"{self.target.NAME} gives nothing from inside '{self.variant.id}'. {' '.join(self.notes)}".strip(),
                "Search the same variant on another target, or another variant.",
            )
        document = self._compare(recordings, range(count), "compare")
        layers = tuple(layer_of(d) for d in document["taps"])
        self._check_reference(golden, count)
        reasons = blamed(layers, self._width)
        self.reporter.finish(COMPARE)
        self.reporter.start(ALONE)
        if self.tapped is None:
            suspects = tuple(self._looked_at_alone(layers, reasons, taps, plain, count))
        else:
            suspects = tuple(Suspect(layers[number], reason) for number, reason in reasons.items())
        self.reporter.finish(ALONE)
        read = {tap.tensor for _, own in recordings for tap in own.values()}
        return Bisection(
            variant=self.variant.id,
            target=self.target.NAME,
            suspects=suspects,
            layers=layers,
            output_sqnr_db=min((d["sqnr_db"] for d in document["outputs"].values()), default=0.0),
            wrong_outputs=tuple(self._wrong_outputs(golden, plain, count)),
            samples=count - len(self.padded),
            texts=texts,
            unread=tuple(tap.tensor for tap in taps if tap.tensor not in read),
            notes=tuple(self.notes),
            peak_memory=self.peaks,
        )

    @property
    def _precision(self) -> str:
        """As which precision the target computes the variant."""
        precisions = self.target.PRECISIONS
        return self.variant.precision if precisions is None else precisions[self.variant.precision]

    @property
    def _width(self) -> str:
        return width(self._precision)

    def _golden_place(self) -> str:
        if self.variant.golden is None:
            raise BundleError(f"The bundle has no golden for '{self.variant.id}'.", "Export it again.")
        return self.variant.golden

    def _inputs(self, golden: Golden) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
        """Return the inputs of the golden, and behind them those of evaluation samples, with the texts known."""
        names = [spec.name for spec in next(iter(self.variant.graphs.values())).signature.inputs]
        inputs: dict[str, NDArray[Any]] = {name: golden.inputs[name][: self.wanted] for name in names}
        texts = {number: str(text) for number, text in enumerate(golden.texts[: self.wanted])}
        more = self.wanted - len(texts)
        evaluation = evaluation_of(self.bundle) if more > 0 else None
        if evaluation is not None:
            first = evaluation.first(more).inputs
            inputs = {name: np.concatenate([inputs[name], first[name]]) for name in names}
        return self._with_padded(inputs), texts

    def _with_padded(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the inputs with the shortest ones once more behind them, whose padding stays: masks count there."""
        length = next(iter(self.variant.graphs.values())).signature.inputs[0].dims[1]
        if isinstance(length, int) or MASK not in inputs:
            return inputs
        count = len(inputs[MASK])
        shortest = np.argsort(own_tokens(inputs), kind="stable")[:_PADDED_SAMPLES]
        self.padded = tuple(range(count, count + len(shortest)))
        return {name: np.concatenate([value, value[shortest]]) for name, value in inputs.items()}

    def _record(self, runs: Sequence[Run]) -> list[Recording]:
        samples = self.folder / "samples.npz"
        found = record(self.bundle.location, self.variant.id, self.target, samples, runs, self.folder, self.padded)
        for recording in found:
            if recording.peak is not None:
                self.peaks["target"] = max(self.peaks.get("target", 0), recording.peak)
        return found

    def _read_inside(self, taps: Sequence[Tap], plain: Recording) -> list[tuple[Path, Mapping[int, Tap]]]:
        """Read all taps; where that fails or changes the model's outputs, in halves, down to single ones."""
        found: list[tuple[Path, Mapping[int, Tap]]] = []
        pending = [tuple(taps)]
        refused: list[str] = []
        while pending:
            group = pending.pop(0)
            (recording,) = self._record([Run(f"inside-{len(list(self.folder.iterdir()))}", _tensors(group))])
            failure = recording.failure or self._changed(plain, recording)
            if not failure:
                found.append((recording.folder, {n: group[n] for n in recording.tensors}))
            elif len(group) > 1:
                middle = len(group) // 2
                pending = [group[:middle], group[middle:], *pending]
            else:
                refused.append(f"{group[0].place}: {failure}")
        if refused:
            self.notes.append(
                f"{len(refused)} of {len(taps)} tensors could not be read without changing the model; the first is "
                f"{refused[0]}."
            )
        elif len(found) > 1:
            self.notes.append(f"The tensors were read in {len(found)} runs: all together would have changed the model.")
        return found

    def _read_again(self, plain: Recording) -> tuple[list[Tap], list[tuple[Path, Mapping[int, Tap]]]]:
        """Read a file that was exported again, since the shipped one keeps to itself what its delegates compute.

        That it computes what the shipped file does is proven before it is looked into.
        """
        again = self.bisector.exported_again(self.checkpoint, self.variant, self.folder / "samples.npz", self.reporter)
        shipped = bytes(self.bundle.read(next(iter(self.variant.graphs.values())).file))
        fresh, content = again.model.read_bytes(), again.tapped.read_bytes()
        told = (
            f"What the delegates of {self.variant.format} compute inside is not in the file, so it was exported again "
            "from the reference, with what the layers give as further outputs."
        )
        if shipped == fresh:
            self.notes.append(f"{told} The fresh export is the shipped file, byte for byte.")
        else:
            self.notes.append(told)
            content = self._with_shipped_numbers(shipped, fresh, content)
        self.tapped = self.folder / "tapped.bin"
        self.tapped.write_bytes(content)
        (recording,) = self._record([Run("inside", _tensors(again.taps), self.tapped)])
        failure = recording.failure or self._changed(plain, recording)
        if failure:
            self.notes.append(f"The re-export does not show what the shipped file does: {failure}.")
            return again.taps, []
        ratio = min(_output_ratios(plain, recording), default=float("inf"))
        shown = "the same bits" if ratio == float("inf") else f"the same within {ratio:.0f} dB"
        self.notes.append(f"The re-export gives what the shipped file gives on all samples: {shown}.")
        if shipped != fresh:
            self.notes.append(self._traced(shipped, plain, recording, again.taps))
        return again.taps, [(recording.folder, {n: again.taps[n] for n in recording.tensors})]

    def _traced(self, shipped: bytes, plain: Recording, recording: Recording, taps: Sequence[Tap]) -> str:
        """Read the shipped file's kernels outside its delegates, and tell whether the re-export has their values."""
        file = self.folder / "shipped.bin"
        file.write_bytes(shipped)
        numbers = list(sample_files(plain.folder))[:_TRACED_SAMPLES]
        out = self.folder / "events"
        try:
            kernels = trace_events(file, plain.folder, numbers, out)
        except EnvironmentFailure as error:
            return f"The shipped file's own kernels could not be read beside: {error.problem}"
        pairs = kernels_and_taps(kernels, taps)
        least = executor_policy(self._precision).least_sqnr_db
        for number in numbers:
            with (
                np.load(out / f"{number:04d}.npz", allow_pickle=False) as traced,
                np.load(recording.folder / f"{number:04d}.npz", allow_pickle=False) as read,
            ):
                for kernel, tap in pairs.items():
                    left, right = (
                        np.asarray(a, np.float64) for a in (traced[f"{TENSOR}{kernel}"], read[f"{TENSOR}{tap}"])
                    )
                    if left.size != right.size or not sqnr_db(left.reshape(-1), right.reshape(-1)) >= least:
                        return f"The event tracer reads other values in the shipped file from {taps[tap].place} on."
        told = f"{len(pairs)} kernels of the shipped file outside its delegates"
        return f"ExecuTorch's event tracer reads the same in {told}."

    def _with_shipped_numbers(self, shipped: bytes, fresh: bytes, tapped: bytes) -> bytes:
        moved = transplanted(shipped, fresh, tapped)
        if moved is None:
            self.notes.append(
                f"The shipped file has {len(shipped)} bytes and a fresh export {len(fresh)}: it was made by other "
                "versions or with other data, or changed since."
            )
            return tapped
        missing = f"; {moved.missing} more have no place there" if moved.missing else ""
        self.notes.append(
            "The shipped file is not what its recipe gives: the difference came during the export or after it. "
            f"{moved.stretches} stretches of its bytes that a fresh export has in another way were put into the "
            f"re-export{missing}."
        )
        return moved.content

    def _changed(self, plain: Recording, recording: Recording) -> str:
        """Return how far looking changed the model's outputs, empty where it did not beyond the executor's policy."""
        least = executor_policy(self._precision).least_sqnr_db
        ratio = min(_output_ratios(plain, recording), default=float("inf"))
        return "" if ratio >= least else f"the model's output changes when it is read (SQNR {ratio:.1f} dB)"

    def _compare(
        self, recordings: Sequence[tuple[Path, Mapping[int, Tap]]], samples: Sequence[int], name: str
    ) -> dict[str, Any]:
        document = self.bisector.layer_errors(self.checkpoint, self.variant, recordings, samples, self.folder / name)
        if document["peak"] is not None:
            self.peaks["converter"] = document["peak"]
        return document

    def _looked_at_alone(
        self, layers: Sequence[Layer], reasons: Mapping[int, str], taps: Sequence[Tap], plain: Recording, count: int
    ) -> Iterator[Suspect]:
        """Yield the suspects; the first ones were read again with only what they are computed from."""
        by_tensor = {tap.tensor: tap for tap in taps}
        first = list(reasons)[:MOST_SUSPECTS_ALONE]
        groups = {n: tuple(by_tensor[layers[i].tensor] for i in (*layers[n].before, n)) for n in first}
        runs = [Run(f"alone-{n}", _tensors(group)) for n, group in groups.items()]
        recordings = dict(zip(groups, self._record(runs), strict=True)) if runs else {}
        for number, reason in reasons.items():
            layer = layers[number]
            recording = recordings.get(number)
            if recording is None:
                yield Suspect(layer, reason)
                continue
            failure = recording.failure or self._changed(plain, recording)
            if failure:
                self.notes.append(f"{layer.name} could not be looked at alone: {failure}.")
                yield Suspect(layer, reason)
                continue
            read = [(recording.folder, {n: groups[number][n] for n in recording.tensors})]
            document = self._compare(read, range(count), f"alone-{number}-compared")
            again = next(layer_of(d) for d in document["taps"] if d["tensor"] == layer.tensor)
            others = [again if n == number else other for n, other in enumerate(layers)]
            is_confirmed = number in blamed(others, self._width)
            if not is_confirmed:
                self.notes.append(
                    f"{layer.name} is right where it is looked at alone ({again.local_sqnr_db:.1f} dB): reading other "
                    "layers changed what it computes."
                )
            yield Suspect(layer, reason, is_confirmed, again.local_sqnr_db)

    def _check_reference(self, golden: Golden, count: int) -> None:
        """Compare what the model gives with what the golden says of it."""
        ratios = []
        for number in range(min(count - len(self.padded), len(golden.texts))):
            with np.load(self.folder / "compare" / "trace" / f"{number:04d}.npz", allow_pickle=False) as trace:
                for name, expected in golden.reference.items():
                    actual = trace[f"{OUTPUT}{name}"]
                    part = expected[number : number + 1][tuple(slice(d) for d in actual.shape)]
                    ratios.append(sqnr_db(np.asarray(part, np.float64), np.asarray(actual, np.float64)))
        if ratios and min(ratios) < LEAST_REFERENCE_SQNR_DB:
            self.notes.append(
                f"The reference gives other outputs than the bundle's golden says (SQNR {min(ratios):.1f} dB): it is "
                "another model, or its libraries compute it in another way."
            )

    def _wrong_outputs(self, golden: Golden, plain: Recording, count: int) -> Iterator[str]:
        """Judge the outputs of the shipped file on the golden samples as the suite does."""
        total = len(golden.texts)
        if count - len(self.padded) < total:
            return
        files = sample_files(plain.folder)
        outputs = {}
        for name, expected in golden.reference.items():
            rows = []
            for number in range(total):
                with np.load(files[number], allow_pickle=False) as sample:
                    value = sample[f"{OUTPUT}{name}"]
                behind = [(0, full - own) for full, own in zip(expected.shape[1:], value.shape[1:], strict=True)]
                rows.append(np.pad(value, [(0, 0), *behind]))
            outputs[name] = np.concatenate(rows)
        for verdict in judge_golden(self.bundle.manifest.task, self.variant, golden, outputs, self.target.NAME):
            if verdict.outcome.is_failure:
                yield f"{verdict.check}: {verdict.message}"


def kernels_and_taps(kernels: Sequence[str], taps: Sequence[Tap]) -> dict[int, int]:
    """Return number of a kernel's call → number of the tap that it gives, of kinds that occur equally often.

    Args:
        kernels: names such as `native_layer_norm.out`, in the order of their calls.
        taps: of the program, in its order.
    """
    kinds = [name.partition(".")[0].removeprefix("native_") for name in kernels]
    pairs: dict[int, int] = {}
    for kind in dict.fromkeys(kinds):
        calls = [n for n, k in enumerate(kinds) if k == kind]
        places = [n for n, tap in enumerate(taps) if tap.place.operator == kind]
        # Sums of a head may be computed in another order.
        if len(calls) == len(places) and kind != "sum":
            pairs |= dict(zip(calls, places, strict=True))
    return pairs


def _tensors(taps: Sequence[Tap]) -> tuple[str, ...]:
    return tuple(tap.tensor for tap in taps)


def _output_ratios(plain: Recording, recording: Recording) -> Iterator[float]:
    others = sample_files(recording.folder)
    for number, file in sample_files(plain.folder).items():
        with np.load(file, allow_pickle=False) as left, np.load(others[number], allow_pickle=False) as right:
            for name in (n for n in left.files if n.startswith(OUTPUT)):
                first, second = (np.asarray(values[name], np.float64) for values in (left, right))
                if not np.array_equal(first, second, equal_nan=True):
                    yield sqnr_db(first, second)
