"""What no manifest may say, whatever a bundle is for: sizes that nothing has, and a task that its model does not do.

Numbers of a manifest decide how much memory is taken before a model is asked: each has an upper bound here, above all
that models have today, and is compared with the other numbers that it depends on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fastserve_runtime.bundle.axes import TOKENS, dim_of
from fastserve_runtime.bundle.generation_description import cache_bytes, cache_tensors
from fastserve_runtime.bundle.manifest import Manifest, Variant
from fastserve_runtime.bundle.raw_inputs import OF_TEXTS, PROMPTS
from fastserve_runtime.bundle.task_checks import REMEDY
from fastserve_runtime.bundle.tensor_specs import UNBOUNDED, Dim, TensorSpec, bounds, describe_dims
from fastserve_runtime.errors import BundleError, UsageError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.plugins import PIPELINES
from fastserve_runtime.quantities import format_size

MAX_TOKENS = 2**18
"""Of one text, which is padded to so many; the longest encoders take 131072 today."""
MAX_CONTEXT = 2**24
"""Of a decoder; the longest take ten million tokens today."""
MAX_VOCABULARY = 2**24
MAX_DIMENSIONS = 16
MAX_TENSOR_BYTES = 2**32
"""Of one input, output or state, where open dimensions are as small as they may be."""
MAX_CACHE_BYTES = 2**40
"""Of the keys and values of a whole context."""
DTYPES: Mapping[str, int] = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
}  # fmt: skip
"""Type of a tensor's elements → bytes of one."""
_MASK = "attention_mask"


def check_manifest(manifest: Manifest) -> None:
    """Refuse what cannot be true of a model that runs.

    Raises:
        BundleError: a dimension, a type or a number is one that no model has, or the task is not the model's.
    """
    for variant in manifest.variants:
        for where, tensor in _tensors(variant):
            _check_tensor(f"{where} '{tensor.name}' of variant '{variant.id}'", tensor)
    settings = manifest.preprocessing.settings
    _check_number(settings, "vocabulary_size", 1, MAX_VOCABULARY, optional=True)
    if manifest.preprocessing.kind in OF_TEXTS:
        _check_sequence_length(manifest, _check_number(settings, "sequence_length", 1, MAX_TOKENS))
    elif manifest.preprocessing.kind == PROMPTS:
        _check_context(manifest, _check_number(settings, "context", 2, MAX_CONTEXT))
    _check_task(manifest)


def _tensors(variant: Variant) -> Iterator[tuple[str, TensorSpec]]:
    for graph in variant.graphs.values():
        yield from (("the input", tensor) for tensor in graph.signature.inputs)
        yield from (("the output", tensor) for tensor in graph.signature.outputs)
    yield from (("the state", state.tensor) for state in variant.state)


def _check_tensor(what: str, tensor: TensorSpec) -> None:
    if tensor.dtype not in DTYPES:
        raise BundleError(f"manifest.json gives {what} the type '{tensor.dtype:.40}', which no tensor has.", REMEDY)
    if len(tensor.dims) > MAX_DIMENSIONS or not all(map(_is_possible, tensor.dims)):
        dims = describe_dims(tensor.dims[:MAX_DIMENSIONS])
        raise BundleError(f"manifest.json gives {what} the dimensions {dims:.200}, which no tensor has.", REMEDY)
    size = DTYPES[tensor.dtype] * math.prod(d if isinstance(d, int) else max(d.min, 1) for d in tensor.dims)
    if size > MAX_TENSOR_BYTES:
        dims = describe_dims(tensor.dims)
        raise BundleError(
            f"manifest.json gives {what} the dimensions {dims}, {format_size(size)}; at most "
            f"{format_size(MAX_TENSOR_BYTES)} are taken for one.",
            REMEDY,
        )


def _is_possible(dim: Dim) -> bool:
    if isinstance(dim, int):
        return 1 <= dim <= UNBOUNDED
    return dim.min <= dim.max <= UNBOUNDED and dim.max >= 1 and dim.step >= 1


def _check_number(settings: Mapping[str, Any], name: str, minimum: int, maximum: int, *, optional: bool = False) -> int:
    if optional and name not in settings:
        return minimum
    value = Fields(dict(settings), "preprocessing.settings").count(name)
    if not minimum <= value <= maximum:
        raise BundleError(
            f"manifest.json gives the model a {name} of {value}; this runtime takes from {minimum} to {maximum}.",
            REMEDY,
        )
    return value


def _check_sequence_length(manifest: Manifest, length: int) -> None:
    """Compare the tokens that texts are padded to with what each variant's largest graph takes."""
    for variant in manifest.variants:
        tensors = [t for graph in variant.graphs.values() for t in graph.signature.inputs if t.name == _MASK]
        maximum = max((_largest(dim) for t in tensors if (dim := dim_of(t, TOKENS)) is not None), default=length)
        if length > maximum:
            raise BundleError(
                f"manifest.json has texts padded to {length} tokens, and variant '{variant.id}' takes {maximum}.",
                REMEDY,
            )


def _check_context(manifest: Manifest, context: int) -> None:
    """Compare the context with the room that each variant has for keys and values."""
    for variant in manifest.variants:
        caches = cache_tensors(variant)
        room = max((_largest(dim) for tensor in caches for dim in tensor.dims), default=context)
        if context > room:
            raise BundleError(
                f"manifest.json has a context of {context} tokens, and variant '{variant.id}' has room for {room}.",
                REMEDY,
            )
        size = cache_bytes(variant, context)
        if size > MAX_CACHE_BYTES:
            raise BundleError(
                f"manifest.json gives variant '{variant.id}' a cache of {format_size(size)}; at most "
                f"{format_size(MAX_CACHE_BYTES)} are taken for one.",
                REMEDY,
            )


def _largest(dim: Dim) -> int:
    return bounds(dim)[1]


def _check_task(manifest: Manifest) -> None:
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
