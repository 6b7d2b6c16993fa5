"""The model that artifacts are compared with, and the jobs that the converter process does on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastserve.cache.cache import Cache
from fastserve.cache.folder import default_cache_dir
from fastserve.devices import DEVICES
from fastserve.model_source import ModelSource, find_model, is_program
from fastserve.pipeline.runner import Runner
from fastserve.pipeline.steps import ModelSteps
from fastserve.pipeline.subject import ModelSubject, checkpoint_subject
from fastserve.pipeline.workshop import Workshop
from fastserve.progress import Reporter
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.layer_map import IntermediateOutput
from fastserve_converters.pass_words import asked_pass
from fastserve_converters.programs.torch_program import TorchProgram, read_program
from fastserve_runtime.bundle.axes import TOKENS, dim_of
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.raw_inputs import TEXT_PAIR
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.bundle.tensor_specs import Dim, bounds
from fastserve_runtime.closing import ClosedAtEnd
from fastserve_runtime.errors import UsageError


@dataclass(frozen=True)
class ReferenceJobs:
    """Does steps on the model, for one variant.

    Attributes:
        runner: does those of an export.
        steps: describes them.
        has_dynamic_length: whether the variant takes any number of tokens.
    """

    runner: Runner
    steps: ModelSteps
    has_dynamic_length: bool

    def layer_errors(
        self, recordings: Sequence[tuple[Path, Mapping[int, IntermediateOutput]]], samples: Sequence[int], out: Path
    ) -> dict[str, Any]:
        """Compare recorded samples with the model.

        Args:
            recordings: folders of recorded samples, each with number of a tensor → the intermediate output that it is.
            samples: their numbers.
            out: a folder for what the model gives.
        """
        job = {
            "job": "layer_errors",
            "out": str(out),
            "has_dynamic_length": self.has_dynamic_length,
            "samples": list(samples),
            "recordings": [
                {
                    "folder": str(place),
                    "intermediates": {n: intermediate.as_document() for n, intermediate in intermediates.items()},
                }
                for place, intermediates in recordings
            ],
        }
        workshop = self.runner.workshop
        with self.steps.subject.lent(workshop.folders) as source:
            result: dict[str, Any] = workshop.converter().run({**job, "source": source})
        return result


@dataclass(frozen=True)
class _Found:
    """The model as a bundle's task describes it."""

    model: Checkpoint | TorchProgram
    weights_sha256: str
    subjects: dict[int, ModelSubject] = field(default_factory=dict)


class ReferenceModel(ClosedAtEnd):
    """The named model, found at the first bundle that is compared with it."""

    def __init__(
        self,
        name: str,
        *,
        cache_dir: Path | None,
        allow_pickle: bool,
        trust_remote_code: bool,
        any_weights: bool,
        debug: bool,
    ) -> None:
        """Name the model; see `Bisector`."""
        self._name = name
        self._cache = Cache(cache_dir or default_cache_dir())
        self._allow_pickle, self._trust_remote_code = allow_pickle, trust_remote_code
        self._any_weights = any_weights
        self._workshop = Workshop(self._cache, DEVICES.load("local"), debug=debug)
        self._source: ModelSource | None = None
        self._found: dict[tuple[str, bool, int | None], _Found] = {}

    def close(self) -> None:
        """End the converter process, and let go of what is used in the cache."""
        self._workshop.close()
        self._cache.close()

    def jobs(self, bundle: Bundle, variant: Variant, reporter: Reporter) -> ReferenceJobs:
        """Return what does steps on the model for a variant.

        Raises:
            UsageError: there is no such model, or it is not the one that the bundle was made from.
        """
        _refuse_passes(variant)
        found = self._found_for(bundle)
        if isinstance(found.model, TorchProgram):
            # Its open axes are its own, so that every precision has them.
            subject = ModelSubject(found.model, found.model.job_source())
            return ReferenceJobs(Runner(self._cache, self._workshop, reporter), ModelSteps(subject), False)  # noqa: FBT003
        length = _length_of(variant)
        _, longest = bounds(length)
        if longest not in found.subjects:
            found.subjects[longest] = checkpoint_subject(
                found.model,
                longest,
                allow_pickle=self._allow_pickle,
                trust_remote_code=self._trust_remote_code,
            )
        return ReferenceJobs(
            runner=Runner(self._cache, self._workshop, reporter),
            steps=ModelSteps(found.subjects[longest]),
            has_dynamic_length=not isinstance(length, int),
        )

    def _found_for(self, bundle: Bundle) -> _Found:
        """Return the model, after comparing its weights with what the bundle says that it was made from."""
        manifest = bundle.manifest
        takes_pairs = manifest.preprocessing.kind == TEXT_PAIR
        truncate_dim = manifest.task_settings.get("truncate_dim")
        described = manifest.task, takes_pairs, truncate_dim
        if described not in self._found:
            if self._source is None:
                options = {"allow_pickle": self._allow_pickle, "trust_remote_code": self._trust_remote_code}
                self._source = find_model(self._name, **options)
            model: Checkpoint | TorchProgram
            if is_program(self._name):
                model = read_program(self._source.directory)
            else:
                model = read_checkpoint(
                    self._source.directory,
                    task=manifest.task,
                    allow_pickle=self._allow_pickle,
                    trust_remote_code=self._trust_remote_code,
                    truncate_dim=truncate_dim,
                    pairs=takes_pairs,
                )
            self._found[described] = _Found(model, model.weights_sha256())
        found = self._found[described]
        if found.weights_sha256 != manifest.source.weights_sha256 and not self._any_weights:
            raise UsageError(
                f"'{self._name}' has other weights than the model that the bundle was made from "
                f"('{manifest.source.name}').",
                "Name that model, or say --other-reference to compare with this one all the same.",
            )
        return found


def _refuse_passes(variant: Variant) -> None:
    """Refuse a variant whose checkpoint is not the one that users can name.

    Raises:
        UsageError: naming the passes that changed it.
    """
    passes = [asked_pass(document).words for document in variant.recipe.get("passes", ())]
    if passes:
        raise UsageError(
            f"'{variant.id}' was made after passes ({', '.join(passes)}), and bisect compares with the model as it was "
            "given.",
            "Bisect a bundle that was exported without --pass.",
        )


def _length_of(variant: Variant) -> Dim:
    """Return how many tokens a variant of a checkpoint takes.

    Raises:
        UsageError: it takes something else than tokens.
    """
    tensors = (tensor for graph in variant.graphs.values() for tensor in graph.signature.inputs)
    dim = next((dim for tensor in tensors if (dim := dim_of(tensor, TOKENS)) is not None), None)
    if dim is None:
        raise UsageError(
            f"Variant '{variant.id}' does not take texts.", "Name the program (.pt2) that the bundle was made from."
        )
    return dim
