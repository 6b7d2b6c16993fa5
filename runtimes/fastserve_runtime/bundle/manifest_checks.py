"""What no manifest may say, whatever a bundle is for: sizes that nothing has, and a task that its model does not do.

Numbers of a manifest decide how much memory is taken before a model is asked: each has an upper bound here, above all
that models have today, and is compared with the other numbers that it depends on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastserve_runtime.bundle.axes import BATCH, TOKENS, dim_of
from fastserve_runtime.bundle.generation_description import cache_bytes, cache_tensors
from fastserve_runtime.bundle.manifest import UNBOUNDED, Dim, Manifest, TensorSpec, Variant, bounds, describe_dims
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.plugins import PIPELINES
from fastserve_runtime.preprocessors.text import KIND as TEXTS
from fastserve_runtime.preprocessors.text import POOLING_MASK, TOKEN_TYPES
from fastserve_runtime.quantities import format_size

MOST_TOKENS = 2**18
"""Of one text, which is padded to so many; the longest encoders take 131072 today."""
MOST_CONTEXT = 2**24
"""Of a decoder; the longest take ten million tokens today."""
MOST_VOCABULARY = 2**24
MOST_DIMENSIONS = 16
MOST_TENSOR_BYTES = 2**32
"""Of one input, output or state, where open dimensions are as small as they may be."""
MOST_CACHE_BYTES = 2**40
"""Of the keys and values of a whole context."""
DTYPES: Mapping[str, int] = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
}  # fmt: skip
"""Type of a tensor's elements → bytes of one."""
PROMPTS = "prompt-tokenizer"
"""The kind of preprocessing of decoders; here, so that looking at a manifest needs no numpy."""
_MASK = "attention_mask"
_OF_TEXTS = {"input_ids": "int32", _MASK: "float32", TOKEN_TYPES: "int32", POOLING_MASK: "float32"}
_OF_TEXTS_ALWAYS = {"input_ids", _MASK}
_REMEDY = "Export the bundle again, or get it from where it was made."


def check_manifest(manifest: Manifest) -> None:
    """Refuse what cannot be true of a model that runs.

    Raises:
        BundleError: a dimension, a type or a number is one that no model has, or the task is not the model's.
    """
    for variant in manifest.variants:
        for where, tensor in _tensors(variant):
            _check_tensor(f"{where} '{tensor.name}' of variant '{variant.id}'", tensor)
    settings = manifest.preprocessing.settings
    _check_number(settings, "vocabulary_size", 1, MOST_VOCABULARY, optional=True)
    if manifest.preprocessing.kind == TEXTS:
        _check_sequence_length(manifest, _check_number(settings, "sequence_length", 1, MOST_TOKENS))
    elif manifest.preprocessing.kind == PROMPTS:
        _check_context(manifest, _check_number(settings, "context", 2, MOST_CONTEXT))
    _check_task(manifest)


def _tensors(variant: Variant) -> Iterator[tuple[str, TensorSpec]]:
    for graph in variant.graphs.values():
        yield from (("the input", tensor) for tensor in graph.signature.inputs)
        yield from (("the output", tensor) for tensor in graph.signature.outputs)
    yield from (("the state", state.tensor) for state in variant.state)


def _check_tensor(what: str, tensor: TensorSpec) -> None:
    if tensor.dtype not in DTYPES:
        raise BundleError(f"manifest.json gives {what} the type '{tensor.dtype:.40}', which no tensor has.", _REMEDY)
    if len(tensor.dims) > MOST_DIMENSIONS or not all(map(_is_possible, tensor.dims)):
        dims = describe_dims(tensor.dims[:MOST_DIMENSIONS])
        raise BundleError(f"manifest.json gives {what} the dimensions {dims:.200}, which no tensor has.", _REMEDY)
    size = DTYPES[tensor.dtype] * math.prod(d if isinstance(d, int) else max(d.min, 1) for d in tensor.dims)
    if size > MOST_TENSOR_BYTES:
        dims = describe_dims(tensor.dims)
        raise BundleError(
            f"manifest.json gives {what} the dimensions {dims}, {format_size(size)}; at most "
            f"{format_size(MOST_TENSOR_BYTES)} are taken for one.",
            _REMEDY,
        )


def _is_possible(dim: Dim) -> bool:
    if isinstance(dim, int):
        return 1 <= dim <= UNBOUNDED
    return dim.min <= dim.max <= UNBOUNDED and dim.max >= 1 and dim.step >= 1


def _check_number(settings: Mapping[str, Any], name: str, least: int, most: int, *, optional: bool = False) -> int:
    if optional and name not in settings:
        return least
    value = Fields(dict(settings), "preprocessing.settings").count(name)
    if not least <= value <= most:
        raise BundleError(
            f"manifest.json gives the model a {name} of {value}; this runtime takes from {least} to {most}.", _REMEDY
        )
    return value


def _check_sequence_length(manifest: Manifest, length: int) -> None:
    """Compare the tokens that texts are padded to with what each variant's largest graph takes."""
    for variant in manifest.variants:
        tensors = [t for graph in variant.graphs.values() for t in graph.signature.inputs if t.name == _MASK]
        most = max((_largest(dim) for t in tensors if (dim := dim_of(t, TOKENS)) is not None), default=length)
        if length > most:
            raise BundleError(
                f"manifest.json has texts padded to {length} tokens, and variant '{variant.id}' takes {most}.", _REMEDY
            )


def _check_context(manifest: Manifest, context: int) -> None:
    """Compare the context with the room that each variant has for keys and values."""
    for variant in manifest.variants:
        caches = cache_tensors(variant)
        room = max((_largest(dim) for tensor in caches for dim in tensor.dims), default=context)
        if context > room:
            raise BundleError(
                f"manifest.json has a context of {context} tokens, and variant '{variant.id}' has room for {room}.",
                _REMEDY,
            )
        size = cache_bytes(variant, context)
        if size > MOST_CACHE_BYTES:
            raise BundleError(
                f"manifest.json gives variant '{variant.id}' a cache of {format_size(size)}; at most "
                f"{format_size(MOST_CACHE_BYTES)} are taken for one.",
                _REMEDY,
            )


def _largest(dim: Dim) -> int:
    return bounds(dim)[1]


def _check_task(manifest: Manifest) -> None:
    from fastserve_runtime.bundle.task_manifests import TASK_MANIFESTS

    if manifest.task in TASK_MANIFESTS.built_in():
        TASK_MANIFESTS.load(manifest.task).check_manifest(manifest)
        return
    try:
        pipeline = PIPELINES.load(manifest.task)
    except UsageError as error:
        raise BundleError(
            f"The bundle is for the task '{manifest.task:.60}', which is not known here.",
            f"Update fastserve-runtime, or install what adds that task. {error.remedy}",
        ) from error
    check = getattr(pipeline, "check_manifest", None)
    if check is not None:
        check(manifest)


def check_encoder(manifest: Manifest, outputs: Sequence[str]) -> None:
    """Refuse a bundle of texts whose variants do not take what texts become, or do not give what its pipeline reads.

    Args:
        manifest: the bundle's.
        outputs: what the pipeline reads, of which a variant gives one at least.

    Raises:
        BundleError: naming what the model takes or gives instead.
    """
    if manifest.preprocessing.kind == PROMPTS:
        raise not_of_task(manifest, "its model continues prompts")
    for variant in manifest.variants:
        names = {t.name for graph in variant.graphs.values() for t in graph.signature.outputs}
        if not names & set(outputs):
            given = ", ".join(sorted(names)) or "nothing"
            raise not_of_task(manifest, f"variant '{variant.id}' gives {given:.200}, not {' or '.join(outputs)}")
        # What a chip's compiler makes may take its inputs in another form.
        if manifest.preprocessing.kind == TEXTS and variant.target is None:
            for graph in variant.graphs.values():
                _check_text_inputs(f"variant '{variant.id}'", graph.signature.inputs)


def _check_text_inputs(what: str, inputs: Sequence[TensorSpec]) -> None:
    """Compare a graph's inputs with the tensors that texts become; see `TextPreprocessor`."""
    found = {tensor.name: tensor for tensor in inputs}
    given = ", ".join(found) or "nothing"
    if len(found) != len(inputs) or not _OF_TEXTS_ALWAYS <= found.keys() <= _OF_TEXTS.keys():
        raise BundleError(f"manifest.json has {what} take {given:.200}, which is not what texts become.", _REMEDY)
    for name, tensor in found.items():
        is_by_token = tensor.axes == (BATCH, TOKENS)
        if tensor.dtype != _OF_TEXTS[name] or not is_by_token or _bounds(tensor) != _bounds(found[_MASK]):
            stated = f"{tensor.dtype} {describe_dims(tensor.dims):.200}"
            raise BundleError(
                f"manifest.json gives the input '{name}' of {what} as {stated}; texts become {_OF_TEXTS[name]} "
                "[samples, tokens].",
                _REMEDY,
            )


def _bounds(tensor: TensorSpec) -> list[tuple[int, int]]:
    return [bounds(dim) for dim in tensor.dims]


def tensors_named(manifest: Manifest, name: str) -> list[TensorSpec]:
    """Return the outputs of that name of all variants."""
    graphs = [graph for variant in manifest.variants for graph in variant.graphs.values()]
    return [tensor for graph in graphs for tensor in graph.signature.outputs if tensor.name == name and tensor.dims]


def not_of_task(manifest: Manifest, reason: str) -> BundleError:
    """Return the error for a bundle whose model does not do what its task says."""
    return BundleError(f"The bundle is for the task '{manifest.task}', but {reason}.", _REMEDY)
