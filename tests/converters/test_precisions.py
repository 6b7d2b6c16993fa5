"""What a precision says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastserve_converters.formats import FORMATS, cached_exporter
from fastserve_converters.lowerings import LOWERINGS
from fastserve_converters.precisions import FP32, INT8, WeightScheme
from fastserve_runtime.errors import UsageError

FLOATS = {"fp32": "fp32", "fp32-fused": "fp32", "fp16": "fp16"}
INTEGERS = {
    "int8": "int8",
    "int8-dynamic": "int8",
    "int8-static": "int8",
    "int8-weight-only": "int8",
    "a16w8": "int16",
    "int4": "int4",
    "int4-embedding-int8": "int4",
    "int8-embedding-int4": "int4",
    "mixed": "int4",
    "source": "int4",
}


def of_everything() -> dict[str, set[str]]:
    formats = [FORMATS.load(name) for name in FORMATS.built_in()]
    decoders = [found for f in formats if (found := cached_exporter(f)) is not None]
    widths: dict[str, set[str]] = {}
    for part in (*formats, *decoders, *(LOWERINGS.load(name) for name in LOWERINGS.built_in())):
        for name, precision in part.PRECISIONS.items():
            widths.setdefault(name, set()).add(precision.width)
    return widths


def test_a_precision_is_as_exact_in_every_format() -> None:
    assert of_everything() == {name: {width} for name, width in (FLOATS | INTEGERS).items()}


def test_weights_of_a_size_without_limits_are_refused() -> None:
    with pytest.raises(UsageError, match="no limits to judge weights of 2 bits"):
        _ = replace(FP32, linear=WeightScheme(2), embedding=INT8).width
