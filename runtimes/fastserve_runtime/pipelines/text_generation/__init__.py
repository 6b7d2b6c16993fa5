"""Task `text-generation`: the continuation of a text, or the answer in a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.manifest import Manifest
from fastserve_runtime.bundle.raw_inputs import OF_TEXTS
from fastserve_runtime.bundle.task_checks import not_of_task
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.generation.traces import INPUTS, LOG_PROBABILITIES, NEXT_TOKEN
from fastserve_runtime.sessions.session import Session

if TYPE_CHECKING:
    from fastserve_runtime.conformance.comparison import Comparison
    from fastserve_runtime.generation.decoding_workload import GenerationWorkload
    from fastserve_runtime.generation.prompt_tokenizer import PromptTokenizer
    from fastserve_runtime.pipelines.text_generation.pipeline import TextGeneration
    from fastserve_runtime.sessions.session import Tensors

OUTPUT_KINDS: Mapping[str, str] = {LOG_PROBABILITIES: "log-probabilities", NEXT_TOKEN: "log-probabilities"}
GOLDEN_INPUTS = INPUTS
RUN_MODULE = "fastserve_runtime.cli.generation"


def open_pipeline(
    session: Session,
    preprocessor: PromptTokenizer,
    settings: Mapping[str, Any],  # noqa: ARG001 -- the same for every task
) -> TextGeneration:
    """Make the pipeline of this task.

    Raises:
        BundleError: the bundle's context does not fit its model.
        EnvironmentFailure: the model keeps its cache in a way that this runtime does not know.
    """
    from fastserve_runtime.pipelines.text_generation.pipeline import open_generation

    return open_generation(session, preprocessor)


def open_workload(session: Session, inputs: Tensors, timed: int | None = None) -> GenerationWorkload:
    """Make what is measured of this task; see `fastserve_runtime.sessions.workload.OpenWorkload`."""
    from fastserve_runtime.generation.decoding_workload import GenerationWorkload
    from fastserve_runtime.pipelines.text_generation.pipeline import open_decoder

    return GenerationWorkload(open_decoder(session), inputs, timed)


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose inputs are not prompts; see `task_checks`.

    Raises:
        BundleError: naming what they are.
    """
    if manifest.preprocessing.kind in OF_TEXTS:
        raise not_of_task(manifest, "its model takes whole texts and continues none")


def quality(compared: Comparison) -> Quality:
    """Compare both models' log-probabilities of the next tokens of the evaluation traces."""
    from fastserve_runtime.pipelines.text_generation._quality import quality as judged

    return judged(compared)


def rehearse(pipeline: TextGeneration, texts: Sequence[str]) -> object:
    """Generate one token behind the first text; see `fastserve_runtime.conformance.verification.Rehearsal`."""
    return pipeline.generate(texts[0], max_new_tokens=1)
