"""Checking a bundle with the runtime alone: integrity, preprocessing, and the goldens of what runs here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.reader import Bundle, open_bundle
from fastserve_runtime.conformance.verdict import EXECUTOR, PIPELINE, PREPROCESSING, QUALITY, Outcome, Verdict
from fastserve_runtime.conformance.widths import width_of
from fastserve_runtime.errors import (
    EXIT_CONFORMANCE,
    EXIT_ENVIRONMENT,
    EXIT_OK,
    BundleError,
    EnvironmentFailure,
    FastServeError,
    InputError,
    UsageError,
)
from fastserve_runtime.plugins import PIPELINES
from fastserve_runtime.variants import check_portable, checked_threads, open_preprocessor, open_variant, usable_engine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.bundle.golden import Arrays, Golden
    from fastserve_runtime.conformance.policy import Judgement, Policy
    from fastserve_runtime.sessions.session import Engine, Session


class Rehearsal(Protocol):
    """What `verify` does with a pipeline; a module may offer its own as `rehearse`, else the pipeline is called."""

    def __call__(self, pipeline: Any, inputs: Any) -> object:
        """Use an open pipeline as an app would, on the raw inputs of a golden; see `Preprocessor.raw_inputs`.

        Raises:
            FastServeError: it does not take them.
        """


@dataclass(frozen=True)
class Verification:
    """The verdicts of a bundle's check."""

    verdicts: tuple[Verdict, ...]

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The checks that found something wrong."""
        return tuple(v for v in self.verdicts if v.outcome.is_failure)

    @property
    def has_run(self) -> bool:
        """Whether at least one variant was executed."""
        return any(v.outcome is not Outcome.NOT_RUN and v.check != PREPROCESSING for v in self.verdicts)


def verify(
    bundle: Bundle | str | os.PathLike[str],
    *,
    variant: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
) -> Verification:
    """Check a bundle.

    Args:
        bundle: an open bundle, or the path of one.
        variant: check this one only.
        engine: use this engine and no other.
        threads: how many threads one call may use.

    Raises:
        BundleError: a file is missing, altered or damaged, or a golden lacks what it should hold.
        UsageError: fewer than 1 threads were asked for.
    """
    if not isinstance(bundle, Bundle):
        with open_bundle(os.fspath(bundle)) as opened:
            return verify(opened, variant=variant, engine=engine, threads=threads)
    bundle.check_integrity()
    manifest = bundle.manifest
    variants = manifest.variants if variant is None else (manifest.variant(variant),)
    verdicts: list[Verdict] = []
    for candidate in variants:
        verdicts.extend(verify_variant(bundle, candidate, engine=engine, threads=checked_threads(threads)))
    return Verification(tuple(verdicts))


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return what a command ends with that has these verdicts; NOT_RUN never counts as passed."""
    seen = tuple(verdicts)
    if any(v.outcome.is_failure for v in seen):
        return EXIT_CONFORMANCE
    has_passed = any(v.outcome is Outcome.PASS and v.check != PREPROCESSING for v in seen)
    return EXIT_OK if has_passed else EXIT_ENVIRONMENT


def reasons(verdicts: Iterable[Verdict]) -> str:
    """Return every message of the verdicts once, as one text."""
    return " ".join(sorted({v.message for v in verdicts if v.message}))


def verdicts_document(verdicts: Iterable[Verdict], **head: Any) -> dict[str, Any]:
    """Return verdicts as JSON behind the fields of the head."""
    return {**head, "verdicts": [v.as_document() for v in verdicts]}


def verify_variant(
    bundle: Bundle, variant: Variant, *, engine: str | None = None, threads: int = 1
) -> Iterator[Verdict]:
    """Judge one variant's preprocessing and outputs on its golden samples."""
    if variant.golden is None:
        yield Verdict(variant.id, variant.format, QUALITY, Outcome.NOT_RUN, "the bundle has no golden for it")
        return
    try:
        check_portable(variant)
        found = usable_engine(variant, engine)
        PIPELINES.load(bundle.manifest.task)  # says how outputs are judged
    except (EnvironmentFailure, UsageError) as error:
        yield Verdict(variant.id, variant.format, QUALITY, Outcome.NOT_RUN, str(error))
        return
    golden = whole_golden(bundle, variant, variant.golden)
    yield _check_preprocessing(bundle, variant, golden)
    yield from _check_outputs(bundle, variant, found, golden, threads)


def judge_golden(task: str, variant: Variant, golden: Golden, outputs: Arrays, target: str) -> Iterator[Verdict]:
    """Judge outputs against the reference's (realistic samples only) and against the artifact's recorded ones (all)."""
    from fastserve_runtime.conformance.policy import comparable, executor_policy, quality_policy

    width = width_of(variant)
    for name, found in outputs.items():
        kind = output_kind(task, name)
        mask = counted_rows(variant, name, golden.inputs)
        policy = quality_policy(kind, width)
        rows = golden.realistic
        reference, artifact, actual = (
            comparable(kind, a) for a in (golden.reference[name], golden.artifact[name], found)
        )
        quality = _judge(policy, reference, actual, mask, rows)
        yield _verdict(variant, target, QUALITY, name, quality)
        everything = _judge(executor_policy(width), artifact, actual, mask, rows | True)
        yield _verdict(variant, target, EXECUTOR, name, everything)


def output_kind(task: str, name: str) -> str:
    """Return by which kind of policy an output is judged, as the task's pipeline says."""
    pipeline = PIPELINES.load(task)
    kinds: Mapping[str, str] = pipeline.OUTPUT_KINDS
    return kinds.get(name, getattr(pipeline, "DEFAULT_OUTPUT_KIND", "hidden"))


def whole_golden(bundle: Bundle, variant: Variant, file: str) -> Golden:
    """Read a variant's golden file.

    Raises:
        BundleError: it is damaged, or lacks what it should hold for each of its samples.
    """
    from fastserve_runtime.bundle.golden import read_golden

    golden = read_golden(bundle.read(file))
    inputs, outputs = _golden_names(bundle.manifest.task, variant)
    parts: dict[str, NDArray[np.generic] | None] = {"texts": golden.texts, "realistic": golden.realistic}
    if golden.pair_texts is not None:
        parts["pair_texts"] = golden.pair_texts
    for group, names in (("inputs", inputs), ("reference", outputs), ("artifact", outputs)):
        arrays: Arrays = getattr(golden, group)
        parts |= {f"{group}/{name}": arrays.get(name) for name in names}
    for name, array in parts.items():
        if array is None or array.shape[:1] != (golden.texts.size,) or not array.size:
            raise BundleError(f"The golden of variant '{variant.id}' has no '{name}' for each of its samples.")
    check_known_ids(bundle, variant, golden)
    return golden


def check_known_ids(bundle: Bundle, variant: Variant, golden: Golden) -> None:
    """Refuse a golden with ids that its model does not know.

    Raises:
        BundleError: naming the id.
    """
    from fastserve_runtime.generation.traces import CANDIDATES, TOKENS
    from fastserve_runtime.sessions.token_ids import INPUT_IDS, check_ids, rows_of

    rows = rows_of(bundle.manifest, variant)
    for name in (INPUT_IDS, TOKENS, CANDIDATES):
        if rows is not None and name in golden.inputs:
            try:
                check_ids(golden.inputs[name], rows, f"The golden of variant '{variant.id}'")
            except InputError as error:
                raise BundleError(error.problem, "Export the bundle again.") from error


def _golden_names(task: str, variant: Variant) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what inputs and outputs a golden must have: the task's, or else those of the model itself."""
    module = PIPELINES.load(task)
    own: tuple[str, ...] | None = getattr(module, "GOLDEN_INPUTS", None)
    if own is not None:
        return own, tuple(module.OUTPUT_KINDS)
    signature = next(iter(variant.graphs.values())).signature
    return tuple(t.name for t in signature.inputs), tuple(t.name for t in signature.outputs)


def _check_preprocessing(bundle: Bundle, variant: Variant, golden: Golden) -> Verdict:
    try:
        differing = open_preprocessor(bundle).differing(golden)
    except EnvironmentFailure as error:
        return Verdict(variant.id, variant.format, PREPROCESSING, Outcome.NOT_RUN, str(error))
    except InputError as error:
        return Verdict(variant.id, variant.format, PREPROCESSING, Outcome.RUN_FAILED, str(error))
    if differing:
        message = f"the preprocessing gives another '{differing[0]}' than when the bundle was made"
        return Verdict(variant.id, variant.format, PREPROCESSING, Outcome.OUTPUT_MISMATCH, message)
    return Verdict(variant.id, variant.format, PREPROCESSING, Outcome.PASS)


def _check_outputs(bundle: Bundle, variant: Variant, engine: Engine, golden: Golden, threads: int) -> Iterator[Verdict]:
    from fastserve_runtime.sessions.workload import run_golden

    target = engine.NAME
    try:
        session = open_variant(bundle, variant, engine, threads=threads)
    except FastServeError as error:
        yield Verdict(variant.id, target, QUALITY, Outcome.LOAD_FAILED, str(error))
        return
    with session:
        try:
            outputs = run_golden(bundle.manifest.task, session, golden.inputs)
        except FastServeError as error:
            yield Verdict(variant.id, target, QUALITY, Outcome.RUN_FAILED, str(error))
            return
        refusal = _pipeline_refusal(bundle, session, golden)
    yield from judge_golden(bundle.manifest.task, variant, golden, outputs, target)
    if refusal is not None:
        yield Verdict(variant.id, target, PIPELINE, Outcome.RUN_FAILED, refusal)


def _pipeline_refusal(bundle: Bundle, session: Session, golden: Golden) -> str | None:
    """Return why the task's pipeline does not take the golden's own inputs, as `run` would say it; None if it does."""
    import warnings

    manifest = bundle.manifest
    module = PIPELINES.load(manifest.task)
    try:
        preprocessor = open_preprocessor(bundle)
    except EnvironmentFailure:
        return None  # the check of the preprocessing says so
    rehearse: Rehearsal = getattr(module, "rehearse", lambda pipeline, inputs: pipeline(inputs))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some of them are meant to be cut off
            pipeline = module.open_pipeline(session, preprocessor, manifest.task_settings)
            rehearse(pipeline, preprocessor.raw_inputs(golden))
    except FastServeError as error:
        return str(error)
    return None


def counted_rows(variant: Variant, output: str, inputs: Arrays) -> NDArray[np.bool_] | None:
    """Return which vectors, or which scores of tokens, of an output count, shape [samples, tokens]; None: all.

    What a model gives for each token counts where a token stands: what it gives for padding is never used. Of a decoder
    these are the tokens that are scored.
    """
    from fastserve_runtime.bundle.axes import BATCH, TOKENS
    from fastserve_runtime.generation.traces import SCORED
    from fastserve_runtime.sessions.lengths import MASK

    mask = inputs.get(SCORED)
    if mask is None:
        tensors = [t for graph in variant.graphs.values() for t in graph.signature.outputs if t.name == output]
        is_by_token = any(t.axes[:2] == (BATCH, TOKENS) for t in tensors)
        mask = inputs.get(MASK) if is_by_token else None
    if mask is None:
        return None
    counted: NDArray[np.bool_] = mask != 0
    return counted


def _judge(
    policy: Policy,
    expected: NDArray[np.generic],
    actual: NDArray[np.generic],
    mask: NDArray[np.bool_] | None,
    rows: NDArray[np.bool_],
) -> Judgement:
    from fastserve_runtime.conformance.policy import judge

    if expected.shape != actual.shape:
        return judge(policy, expected, actual)
    return judge(policy, expected[rows], actual[rows], None if mask is None else mask[rows])


def _verdict(variant: Variant, target: str, check: str, output: str, judgement: Judgement) -> Verdict:
    outcome = Outcome.PASS if judgement.passed else Outcome.OUTPUT_MISMATCH
    message = "" if judgement.passed else f"{output}: {judgement.reason}"
    return Verdict(variant.id, target, check, outcome, message, judgement.figures)
