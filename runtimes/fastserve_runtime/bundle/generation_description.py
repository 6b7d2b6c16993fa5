"""What a bundle says of generating text, without loading anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastserve_runtime.bundle.axes import HEADS
from fastserve_runtime.bundle.manifest import Graph, Manifest, Variant
from fastserve_runtime.bundle.tensor_specs import Dim, TensorSpec
from fastserve_runtime.quantities import format_size

TASK = "text-generation"
_NO_EFFECT = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "seed": None}


def generation_document(manifest: Manifest) -> dict[str, Any] | None:
    """Return what a bundle says of generating text, as JSON; None for other tasks.

    `context` is in tokens, `cache_bytes` tells for each variant how large its cache of keys and values is when the
    context is full, `sampling` is what the checkpoint advises.
    """
    if manifest.task != TASK:
        return None
    settings = manifest.preprocessing.settings
    context = settings.get("context")
    return {
        "context": context,
        "chat_template": isinstance(settings.get("chat_template"), str),
        "sampling": settings.get("sampling", {}),
        "cache_bytes": {v.id: cache_bytes(v, context) for v in manifest.variants} if isinstance(context, int) else {},
    }


def generation_lines(manifest: Manifest) -> list[str]:
    """Say the same in words; nothing for other tasks."""
    document = generation_document(manifest)
    if document is None:
        return []
    sizes = document["cache_bytes"]
    if len(set(sizes.values())) > 1:
        caches = ", ".join(f"{variant} {format_size(size)}" for variant, size in sizes.items())
    else:
        caches = format_size(max(sizes.values(), default=0))
    return [
        f"context   {document['context']} tokens, prompt and answer together",
        f"cache     {caches} of keys and values for so many tokens",
        f"chat      {'with' if document['chat_template'] else 'without'} a chat template",
        f"sampling  {_sampling(document['sampling'])}",
    ]


def _sampling(advised: Any) -> str:
    known = advised if isinstance(advised, Mapping) else {}
    changed = [f"{name} {value}" for name, value in known.items() if value != _NO_EFFECT.get(name)]
    likeliest = [] if known.get("temperature") else ["always the likeliest token"]
    return ", ".join([*likeliest, *changed])


def cache_bytes(variant: Variant, context: int) -> int:
    """Return how many bytes a variant's cache of keys and values has for a full context.

    It is counted where the variant keeps it: in its state, or in the inputs of that graph which has the most.
    """
    if variant.state:
        return sum(_bytes(state.tensor, context) for state in variant.state)
    return max(sum(_bytes(t, context) for t in _caches(graph)) for graph in variant.graphs.values())


def cache_tensors(variant: Variant) -> list[TensorSpec]:
    """Return the tensors that hold keys and values: those of a variant's state, or else the inputs of its graphs."""
    if variant.state:
        return [state.tensor for state in variant.state]
    return [tensor for graph in variant.graphs.values() for tensor in _caches(graph)]


def _caches(graph: Graph) -> list[TensorSpec]:
    return [tensor for tensor in graph.signature.inputs if HEADS in tensor.axes]


def _bytes(tensor: TensorSpec, context: int) -> int:
    bits = re.search(r"\d+$", tensor.dtype)
    size = int(bits[0]) // 8 if bits else 1
    for dim in tensor.dims:
        size *= _length(dim, context)
    return size


def _length(dim: Dim, context: int) -> int:
    """Return a dimension's length; one that is open counts tokens."""
    return dim if isinstance(dim, int) else min(dim.max, context)
