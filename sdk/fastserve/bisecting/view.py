"""What a search for wrong layers found, for a terminal and for Model Explorer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastserve.bisecting.layer_judgement import Layer
from fastserve.bisecting.results import Bisection, Suspect

_MAX_DB = 140.0
"""An error that is smaller has no bar: floats of 32 bits are not more exact."""
_VALUE = 9
_MIN_BAR, _MAX_BAR = 10, 40
_SUSPECT_COLOUR, _LAYER_COLOUR = "#d93025", "#81c995"


def plot_lines(bisection: Bisection, width: int, *, is_ascii: bool) -> Iterator[str]:
    """Yield a line for each layer, in the order of execution: its name, a bar for its own error, and that in dB.

    Args:
        bisection: what was found.
        width: columns of the terminal.
        is_ascii: whether the terminal has no other characters.
    """
    full, suspect = ("#", ">") if is_ascii else ("\u2588", "\u25b6")
    suspected = {s.layer for s in bisection.suspects}
    names = [layer.name for layer in bisection.layers]
    widest = max(map(len, names), default=0)
    bar = max(_MIN_BAR, min(_MAX_BAR, width - widest - _VALUE - 4))
    room = max(1, width - bar - _VALUE - 4)
    for layer, name in zip(bisection.layers, names, strict=True):
        mark = suspect if layer in suspected else " "
        length = round(bar * error_share(layer))
        yield f"{mark} {shortened(name, room):<{min(widest, room)}} {full * length:<{bar}}{_ratio(layer):>{_VALUE}}"


def error_share(layer: Layer) -> float:
    """Return how large a layer's own error is, from 0 (that of floats) to 1 (as large as the signal)."""
    return min(1.0, max(0.0, 1 - layer.local_sqnr_db / _MAX_DB))


def shortened(name: str, width: int) -> str:
    """Return a name in so many columns: its end tells more than its beginning."""
    return name if len(name) <= width else f"..{name[len(name) - width + 2 :]}"


def _ratio(layer: Layer) -> str:
    return (
        "exact"
        if layer.local_sqnr_db > 900
        else "wrong"
        if layer.local_sqnr_db < -900
        else f"{layer.local_sqnr_db:.1f} dB"
    )


def conclusion(bisection: Bisection) -> Iterator[str]:
    """Yield what came of the search, in sentences."""
    for number, suspect in enumerate(bisection.suspects):
        head = "The first wrong layer" if number == 0 else "Also wrong"
        yield f"{head}: {described(suspect, bisection)}"
    if bisection.suspects:
        pass
    elif bisection.wrong_outputs:
        yield (
            "The model's outputs are wrong, but no single layer is worse than its precision explains: the precision "
            "may be too coarse for this model."
        )
    else:
        yield "No layer is worse than its precision explains, and the outputs are as good as they should be."
    for reason in bisection.wrong_outputs:
        yield f"Output, {reason}."
    yield from bisection.notes


def described(suspect: Suspect, bisection: Bisection) -> str:
    """Return a suspect in a sentence."""
    layer = suspect.layer
    words = f"{layer.module or 'the model itself'}, {suspect.operator} ({layer.operator} in PyTorch): {suspect.reason}."
    others = [m for m in layer.modules if m != layer.module]
    if others:
        words += f" It was compared as one with {', '.join(m or 'the model itself' for m in others)}."
    if layer.channel is not None and _is_one_channel(layer):
        words += f" Channel {layer.channel} has most of the error."
    if layer.worst_sample is not None:
        text = bisection.texts.get(layer.worst_sample)
        words += f" Worst on sample {layer.worst_sample}" + (f" ({text[:40]!r})." if text else ".")
    confirmed = {True: " Looked at alone it is as bad.", False: " Looked at alone it is right.", None: ""}
    return words + confirmed[suspect.confirmed_alone]


def _is_one_channel(layer: Layer) -> bool:
    """Whether one channel's error is over a hundred times that of the channels on average."""
    return layer.channel_sqnr_db is not None and layer.channel_sqnr_db < layer.local_sqnr_db - 10


def overlay_document(bisection: Bisection) -> dict[str, Any]:
    """Return each layer's own error as node data of Google's Model Explorer, which lays it over the model's graph.

    Its key is the name of a node's output tensor
    (https://github.com/google-ai-edge/model-explorer/wiki/2.-User-Guide#custom-node-data).
    """
    suspected = {s.layer for s in bisection.suspects}
    results = {
        layer.tensor: {
            "value": round(layer.local_sqnr_db, 2),
            "bgColor": _SUSPECT_COLOUR if layer in suspected else _LAYER_COLOUR,
        }
        for layer in bisection.layers
    }
    return {"name": f"SQNR of each layer's own error in dB, {bisection.target}", "results": results}
