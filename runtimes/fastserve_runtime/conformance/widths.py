"""How exact an artifact's numbers are: the class of precisions whose limits hold for it.

A variant's recipe says it, since who made the artifact knows it. Bundles from before recipes said so have only the
precisions that are named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.errors import BundleError

Width = Literal["fp32", "fp16", "fp16-arithmetic", "int16", "int8", "int4"]
"""`fp16` is what is stored so, `fp16-arithmetic` what has products and sums of 16 bits too. `int16` has activations of
16 bits and weights of 8. Of integers of several sizes the smallest counts."""
WIDTHS: tuple[Width, ...] = get_args(Width)
HALF_ARITHMETIC: Width = "fp16-arithmetic"
"""As which an accelerator computes floats that has no larger ones."""
FLOATS: frozenset[Width] = frozenset({"fp32", "fp16", "fp16-arithmetic"})

FIELD = "width"
"""Of a recipe."""

_BEFORE_RECIPES_SAID_IT: Mapping[str, Width] = {
    "fp32": "fp32", "fp32-fused": "fp32", "fp16": "fp16", "a16w8": "int16",
    "int8": "int8", "int8-dynamic": "int8", "int8-static": "int8", "int8-weight-only": "int8",
    "int4": "int4", "mixed": "int4", "int4-embedding-int8": "int4", "int8-embedding-int4": "int4", "source": "int4",
}  # fmt: skip


def width_of(variant: Variant) -> Width:
    """Return how exact a variant's numbers are.

    Raises:
        BundleError: its recipe says something that this runtime does not know, or nothing of a precision that it does
            not know either.
    """
    written = variant.recipe.get(FIELD, _BEFORE_RECIPES_SAID_IT.get(variant.precision))
    for width in WIDTHS:
        if width == written:
            return width
    told = f"the width {written!r:.80}" if FIELD in variant.recipe else "no width, and its precision is not known"
    raise BundleError(
        f"The variant '{variant.id}' ({variant.precision:.80}) has {told}, so there are no limits to judge it by.",
        f"Export it again, or update FastServe; there are: {', '.join(WIDTHS)}.",
    )


def with_width(variant: Variant, width: str) -> Variant:
    """Return a variant whose numbers count as so exact."""
    return replace(variant, recipe={**variant.recipe, FIELD: width})
