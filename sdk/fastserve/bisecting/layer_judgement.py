"""Which layers of an artifact are worse than their precision explains, from the errors of all of them.

A layer's own error is judged by a least ratio for its precision, and by the layers that do the same elsewhere in the
model: a rounded layer that is far below its like is wrong even if a coarser precision would be allowed that much.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastserve_runtime.conformance.widths import HALF_ARITHMETIC, Width

MIN_SQNR_DB: Mapping[Width, float] = {
    "fp32": 80.0, "fp16": 50.0, HALF_ARITHMETIC: 30.0, "int16": 5.0, "int8": 10.0, "int4": 8.0,
}  # fmt: skip
"""Of a layer's own error. The least of honest layers of MiniLM and of random encoders, in ONNX Runtime and LiteRT, were
130 dB in fp32, 67 in fp16, 7 in a16w8 (squares of an embedding, in one scale), 17 in int8 and 20 in int4.
Where sums have 16 bits too, a layer must have what the policies ask of a whole model's hidden states."""
_HALVES: frozenset[Width] = frozenset({"fp16", HALF_ARITHMETIC})
_MIN_OF_SUMS_DB: Mapping[Width, float] = {"fp32": 80.0, "int16": 28.0, "int8": 28.0, "int4": 12.0}
"""Of a layer that computes in floats and may add a rounded table, of positions for one: in int8 honest ones had 37 dB
in MiniLM and 49 in random encoders. The lookup of a table alone has 33 in MiniLM, and 18 in int4."""
_LOOKUP = "embedding"
_MARGIN_OF_LOOKUPS_DB = 6.0
"""Twice the error that rounding a table to 8 bits row by row explains; honest lookups of MiniLM in ONNX and TFLite, and
of random encoders in all formats, were within 0.4 dB of it."""
_RESHAPED = "view"
"""Where a file computes in one operator what ends with a reshape in PyTorch, such as attention."""
_NOT_FINITE_DB = -999.0
"""What the comparison says of values that are not finite."""
FLOAT_DB = 100.0
"""Where layers of a kind have more, they compute in floats of 32 bits."""
_ONE_OPERATOR: Mapping[str, str] = {"Sum": "Add"}
"""What optimizers write in another way and engines compute alike."""


_LENIENCY_DB: Mapping[Width, float] = {"int16": 35.0}
"""So much less is enough where some layers have ranges set beforehand and others have not: honest layers of MiniLM in
a16w8 have 14 dB in the one case, on texts that leave the range, with channels at -10, and 42 in the other."""


@dataclass(frozen=True)
class Measure:
    """Something that is compared between rounded layers that are alike.

    Attributes:
        words: what it is.
        margin_db: so far may a layer be below the median of its like. Honest ones of MiniLM were at most 9, 19 and 15
            dB below in their own error, their worst channel (13 with ranges taken at run time) and the steady part.
        enough_db: a layer with so much is not blamed for having less than its like: in 16 bits, where each scale stands
            for the range of all tokens, honest ones differ by 40 dB.
    """

    words: str
    margin_db: float
    enough_db: float


_MEASURES: Mapping[str, Measure] = {
    "local_sqnr_db": Measure("SQNR of its own error", 12, 35),
    "channel_sqnr_db": Measure("SQNR of its worst channel", 23, 20),
    "steady_sqnr_db": Measure("SQNR of the part of its error that is the same for every token", 20, 30),
}


@dataclass(frozen=True)
class Layer:
    """A node where an artifact was compared with its reference.

    Attributes:
        module: the torch module that it is in.
        operator: PyTorch's name for what is computed there.
        call: which one of that name in that module, from 0.
        tensor: the tensor of the file that holds its result.
        exported: what the file calls the operator that gives it.
        modules: all torch modules of what lies between this node and those compared before it.
        before: numbers of the layers that it is computed from.
        local_sqnr_db: signal over the error that this layer added, all samples together.
        worst_sample: the number of the sample where that is least.
        worst_sqnr_db: what it is there.
        channel: the channel with the largest error; None where channels mean nothing.
        channel_sqnr_db: the mean channel's signal over the error of that channel.
        steady_sqnr_db: signal over the part of the error that is the same for every token.
        rounded_sqnr_db: signal over the error of the same rows rounded to 8 bits, each with a scale of its own.
        cumulative_sqnr_db: signal over all error that has come together by then.
    """

    module: str
    operator: str
    call: int
    tensor: str
    exported: str
    modules: tuple[str, ...]
    before: tuple[int, ...]
    local_sqnr_db: float
    worst_sample: int | None
    worst_sqnr_db: float | None
    channel: int | None
    channel_sqnr_db: float | None
    steady_sqnr_db: float | None
    rounded_sqnr_db: float | None
    cumulative_sqnr_db: float

    @property
    def name(self) -> str:
        """The module and the operator, for people."""
        if self.operator == _RESHAPED:
            return f"{self.module or '(model)'}: {self.exported}"
        number = f" {self.call + 1}" if self.call else ""
        return f"{self.module or '(model)'}: {self.operator}{number}"

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**self.__dict__, "modules": list(self.modules), "before": list(self.before)}


def layer_of(document: Mapping[str, Any]) -> Layer:
    """Read a layer from what the converter's comparison gives."""
    local = document["local"]
    return Layer(
        module=document["module"],
        operator=document["operator"],
        call=document["call"],
        tensor=document["tensor"],
        exported=document["exported"],
        modules=tuple(document["modules"]),
        before=tuple(document["before"]),
        local_sqnr_db=local["sqnr_db"],
        worst_sample=local["worst_sample"],
        worst_sqnr_db=local["worst_sqnr_db"],
        channel=local["channel"],
        channel_sqnr_db=local["channel_sqnr_db"],
        steady_sqnr_db=local["steady_sqnr_db"],
        rounded_sqnr_db=local["rounded_sqnr_db"],
        cumulative_sqnr_db=document["cumulative"]["sqnr_db"],
    )


def blamed(layers: Sequence[Layer], width: Width) -> dict[int, str]:
    """Return number of a layer → why it is worse than its precision explains, in the order of execution.

    Args:
        layers: all that were compared, in the order of execution.
        width: how exact the artifact's precision is, as `fastserve_runtime.conformance.widths.width_of` says.
    """
    found = {}
    for number, layer in enumerate(layers):
        reason = _reason(layer, layers, width)
        if reason:
            found[number] = reason
    return found


def _reason(layer: Layer, layers: Sequence[Layer], width: Width) -> str:
    floor = MIN_SQNR_DB[width]
    if layer.local_sqnr_db < floor:
        return f"SQNR of its own error is {layer.local_sqnr_db:.1f} dB, at least {floor:g} is wanted in {width}"
    if layer.operator == _LOOKUP and width == "int8" and layer.rounded_sqnr_db is not None:
        return _reason_of_lookup(layer.local_sqnr_db, layer.rounded_sqnr_db)
    alike = [o for o in peers(layer, layers) if _is_finite(o)]
    if not alike:
        return _reason_alone(layer, layers, width)
    is_float = statistics.median(o.local_sqnr_db for o in alike) > FLOAT_DB
    for name, measure in _MEASURES.items():
        own: float | None = getattr(layer, name)
        others: list[float] = [value for o in alike if (value := getattr(o, name)) is not None]
        if own is None or not others:
            continue
        usual = statistics.median(others)
        if is_float and width not in _HALVES:
            # What floats give is far above in all three.
            limit = MIN_SQNR_DB["fp32"] - (0 if name == "local_sqnr_db" else measure.margin_db)
        elif width in _HALVES:
            limit = min(usual - measure.margin_db, MIN_SQNR_DB[width] + measure.margin_db)
        else:
            limit = min(usual - measure.margin_db, measure.enough_db - _LENIENCY_DB.get(width, 0.0))
        if own < limit:
            return f"{measure.words} is {own:.1f} dB, where layers like it have {min(usual, FLOAT_DB):.1f} or more"
    return ""


def _reason_of_lookup(own_db: float, explained_db: float) -> str:
    if own_db >= explained_db - _MARGIN_OF_LOOKUPS_DB:
        return ""
    return f"SQNR of its own error is {own_db:.1f} dB, rounding its rows to int8 gives {explained_db:.1f}"


def _reason_alone(layer: Layer, layers: Sequence[Layer], width: Width) -> str:
    """Judge a layer that has none like it, such as a sum of embeddings: as floats if its operator is that elsewhere."""
    same = [o for o in layers if o is not layer and _kind(o) == _kind(layer) and _is_finite(o)]
    if not same or width in _HALVES or min(o.local_sqnr_db for o in same) <= FLOAT_DB:
        return ""
    minimum = _MIN_OF_SUMS_DB[width]
    if layer.local_sqnr_db >= minimum:
        return ""
    return (
        f"SQNR of its own error is {layer.local_sqnr_db:.1f} dB, and {layer.exported} computes in floats elsewhere: "
        f"at least {minimum:g} is wanted of what has only its tables rounded"
    )


def _is_finite(layer: Layer) -> bool:
    """Whether a layer has values to compare: behind one that is not finite, the reference that is led has none too."""
    return layer.cumulative_sqnr_db > _NOT_FINITE_DB


def _kind(layer: Layer) -> tuple[str, str]:
    return layer.operator, _ONE_OPERATOR.get(layer.exported, layer.exported)


def peers(layer: Layer, layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers that do the same elsewhere: in other blocks, or in modules that are called the same."""
    others = [
        o
        for o in layers
        if o is not layer and (o.operator, o.exported, o.call) == (layer.operator, layer.exported, layer.call)
    ]
    alike = [o for o in others if _role(o.module) == _role(layer.module)]
    return alike or [o for o in others if _last(o.module) == _last(layer.module)]


def _role(module: str) -> str:
    """Return a module's name without the numbers of repeated blocks."""
    return re.sub(r"\d+", "#", module)


def _last(module: str) -> str:
    return module.rpartition(".")[2]
