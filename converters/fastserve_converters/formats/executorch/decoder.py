"""Decoders of text as ExecuTorch programs that keep their cache, everything but attention lowered to XNNPACK.

One method takes prompts and single tokens. Beside it the file has the constants that ExecuTorch's own runner of
language models looks for, under its names, so that it runs there as well as in our runtime.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_converters.formats import ExportJob
from fastserve_converters.precisions import INT8, Precision, WeightScheme, decoder_precisions
from fastserve_runtime.bundle.axes import BATCH, CACHE_AXES, TOKENS, VOCABULARY
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, Requirement, StateSpec
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.stateful import INPUT_IDS, LOGITS, MAX_CONTEXT, POSITION

if TYPE_CHECKING:
    from fastserve_converters.models.cached_part import CachedPart
    from fastserve_converters.models.decoder.form import DecoderForm

_INT4 = WeightScheme(4, group=32, scale="bfloat16")
"""The same for tables, so that the head can share their quantized weights."""

PRECISIONS: Mapping[str, Precision] = decoder_precisions(INT8, _INT4, INT8)

MODEL = "model.pte"
METHOD = "forward"
CHUNK = 128
"""So many tokens of a prompt in one call: more need memory for their activations and are no quicker."""

MIN_CONTEXT = 4


def export(job: ExportJob[CachedPart]) -> Artifact:
    """Write `model.pte`; see `CachedExporter.export`.

    Raises:
        UsageError: the context is too small, or XNNPACK has no kernel for a layer's scheme.
    """
    from fastserve_converters.formats.executorch.decoder_lowering import lowered_decoder
    from fastserve_converters.formats.executorch.decoder_program import decoder_program
    from fastserve_converters.formats.executorch.shared_segments import with_shared_segments

    if job.part.module.context < MIN_CONTEXT:
        raise UsageError(
            f"A context of {job.part.module.context} tokens is too small for ExecuTorch.",
            f"Take at least {MIN_CONTEXT}.",
        )
    chunk = min(CHUNK, job.part.module.context - 1)
    lowered = lowered_decoder(decoder_program(job.part.module, job.weights, chunk), runner_constants(job, chunk))
    content = with_shared_segments(lowered.content)
    (job.out / MODEL).write_bytes(content)
    return Artifact(
        files=(MODEL,),
        graphs=_graphs(job.part.module, chunk),
        operators=count_operators(Counter(lowered.operators)),
        expected_placement=ExpectedPlacement("cpu", "XNNPACK", lowered.delegated, lowered.total),
        requires=Requirement("executorch", _release(), ("XnnpackBackend",), ()),
        state=_state(job.part.module),
    )


def runner_constants(job: ExportJob[CachedPart], chunk: int) -> dict[str, Any]:
    """Return what ExecuTorch's runner of language models asks a program, by its names."""
    constants: dict[str, Any] = {
        "get_max_context_len": job.part.module.context,
        "get_max_seq_len": chunk,
        "get_vocab_size": job.part.module.head.out_features,
        "use_kv_cache": True,
        "enable_dynamic_shape": True,
    }
    beginning, ends = job.prompts.get("beginning"), job.prompts.get("ends")
    if beginning is not None:
        constants["get_bos_id"] = int(beginning)
    if ends:
        constants["get_eos_ids"] = [int(end) for end in ends]
    return constants


def _graphs(form: DecoderForm, chunk: int) -> dict[str, Graph]:
    tokens = TensorSpec(INPUT_IDS, "int64", (1, SymbolicDim("tokens", 1, chunk)), (BATCH, TOKENS))
    position = TensorSpec(POSITION, "int64", (1,), (BATCH,))
    logits = TensorSpec(LOGITS, "float32", (1, form.head.out_features), (BATCH, VOCABULARY))
    room = TensorSpec(MAX_CONTEXT, "int64", ())
    return {
        "main": Graph(MODEL, METHOD, Signature((tokens, position), (logits,))),
        MAX_CONTEXT: Graph(MODEL, "get_max_context_len", Signature((), (room,))),
    }


def _state(form: DecoderForm) -> tuple[StateSpec, ...]:
    return tuple(
        StateSpec(
            TensorSpec(
                f"{kind}.{layer}",
                "float32",
                (settings.key_value_heads, form.context, settings.head_dim),
                CACHE_AXES[1:],
            ),
            "never needed: tokens at a position replace what was kept from there on",
        )
        for layer, settings in enumerate(form.settings)
        for kind in ("keys", "values")
    )


def _release() -> str:
    from importlib.metadata import version

    return version("executorch")
