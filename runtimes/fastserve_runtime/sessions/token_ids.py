"""Token ids, held against the table that they are looked up in before any engine sees them.

Engines differ in what they make of an id that is not in the table. Of ONNX Runtime's operators, `Gather` takes negative
ones for rows counted from the end, and `GatherBlockQuantized` gives zeros; ExecuTorch's kernels for tables of 4 bits
read what lies behind the table, and may end the process. Here it is one error for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.axes import VOCABULARY, dim_of
from fastserve_runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from fastserve_runtime.bundle.manifest import Manifest, Variant
    from fastserve_runtime.bundle.tensor_specs import Signature
    from fastserve_runtime.sessions.session import Tensor, Tensors

INPUT_IDS = "input_ids"
LOGITS = "logits"
VOCABULARY_SIZE = "vocabulary_size"
"""The setting of a manifest's preprocessing that tells how many rows the table has; bundles of before lack it."""


def vocabulary_size(settings: Mapping[str, Any]) -> int | None:
    """Return how many ids a model knows, as the settings of its preprocessing say; None where they do not.

    Raises:
        BundleError: what they say is no count.
    """
    size = settings.get(VOCABULARY_SIZE)
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size < 2**31:
        raise BundleError(
            f"The bundle's '{VOCABULARY_SIZE}' is {size!r:.40}, which is no count of tokens.", "Export it again."
        )
    return size


def id_rows(graphs: Mapping[str, Signature], vocabulary: int | None = None) -> dict[str, int]:
    """Return how many rows the table has that a graph's ids are looked up in, for each graph of which that is known.

    Args:
        graphs: by name.
        vocabulary: how many the manifest tells; if it does not, decoders know as many as they score.
    """
    rows = {}
    for name, signature in graphs.items():
        known = vocabulary or _scored(signature)
        if known is not None and any(t.name == INPUT_IDS for t in signature.inputs):
            rows[name] = known
    return rows


def _scored(signature: Signature) -> int | None:
    sizes = [dim_of(tensor, VOCABULARY) for tensor in signature.outputs if tensor.name == LOGITS]
    return next((size for size in sizes if isinstance(size, int)), None)


def check_input_ids(inputs: Tensors, rows: int) -> None:
    """Refuse inputs of a graph whose `input_ids` are not all in its table.

    Raises:
        InputError: naming the id.
    """
    ids = inputs.get(INPUT_IDS)
    if ids is not None:
        check_ids(ids, rows, f"Input '{INPUT_IDS}'")


def check_ids(ids: Tensor, rows: int, holder: str) -> None:
    """Refuse ids that are not in a table.

    Args:
        ids: integers of any shape.
        rows: how many the table has.
        holder: what holds the ids, for the message.

    Raises:
        InputError: naming the id.
    """
    if ids.size == 0 or ids.dtype.kind not in "iu":
        return
    lowest, highest = (ids.item(),) * 2 if ids.size == 1 else (ids.min(), ids.max())
    if lowest < 0 or highest >= rows:
        raise InputError(
            f"{holder} holds the id {int(lowest if lowest < 0 else highest)}; the model has the ids 0 to {rows - 1}.",
            "Give ids of this model's tokenizer.",
        )


def rows_of(manifest: Manifest, variant: Variant) -> int | None:
    """Return how many ids a bundle's variant knows, None where nothing tells.

    Raises:
        BundleError: what the manifest tells is no count.
    """
    signatures = {name: graph.signature for name, graph in variant.graphs.items()}
    return min(id_rows(signatures, vocabulary_size(manifest.preprocessing.settings)).values(), default=None)
