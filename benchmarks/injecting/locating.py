"""Whether a search for the wrong layer names the module that a fault sits in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from fastserve_runtime.errors import FastServeError
from injecting.fault import Case, Fault

Place = Literal["exact", "block", "elsewhere", "nowhere", "failed"]
"""The first suspect is the fault's own module; another one of the same block, that is of the same transformer layer,
the embeddings or the head; of another block; there is none; or the search failed."""

SAMPLES = 14
"""As many as a bundle has goldens."""
_LAYER = re.compile(r"layers?\.\d+")


def place_of(found: str | None, wanted: tuple[str, ...]) -> Place:
    """Tell how near a module is to those that a fault may be said to sit in.

    Args:
        found: the module that was named, or None.
        wanted: ends of the names of modules; the empty one is the whole model.
    """
    if found is None:
        return "nowhere"
    if any(found == end or (end and found.endswith(f".{end}")) for end in wanted):
        return "exact"
    return "block" if any(block_of(found) == block_of(end) for end in wanted) else "elsewhere"


def block_of(module: str) -> str:
    """Return the block of a module: `layer.3`, `embeddings`, `head` or the empty one."""
    layer = _LAYER.search(module)
    if layer:
        return layer.group()
    return next((block for block in ("embeddings", "head") if block in module.split(".")), "")


def locate(bisector: Any, fault: Fault, case: Case, strength: float, layers: int) -> dict[str, Any]:
    """Inject a fault of a strength and search for it.

    Args:
        bisector: a `fastserve.bisecting.Bisector` of the case's model.
        fault: one of the network.
        case: into what.
        strength: how strong.
        layers: number of transformer layers.

    Returns:
        As JSON: `strength`, `place` (a `Place`), `module` (the first suspect's) and `wanted`.
    """
    wanted = tuple(module.format(layer=layers // 2) for module in fault.modules)
    injected = fault.inject(case, strength)
    try:
        found = bisector.bisect(Path(injected.bundle), variant=case.variant, samples=SAMPLES)
    except FastServeError as error:
        return {"strength": strength, "place": "failed", "module": None, "wanted": wanted, "error": str(error)}
    module = found.suspects[0].module if found.suspects else None
    modules = found.suspects[0].layer.modules if found.suspects else (None,)
    places = [place_of(m, wanted) for m in modules] or [place_of(module, wanted)]
    order = ("exact", "block", "elsewhere", "nowhere")
    return {"strength": strength, "place": min(places, key=order.index), "module": module, "wanted": wanted}
