"""A layer of a bisected model, for the tests of what is made of it."""

from __future__ import annotations

from typing import Any

from fastserve.bisecting.layer_judgement import Layer


def layer(module: str, local: float, **changes: Any) -> Layer:
    fields: dict[str, Any] = {
        "module": module,
        "operator": "linear",
        "call": 0,
        "tensor": f"{module}/out",
        "exported": "MatMul",
        "modules": (module,),
        "before": (),
        "local_sqnr_db": local,
        "worst_sample": 1,
        "worst_sqnr_db": local,
        "channel": 4,
        "channel_sqnr_db": local,
        "steady_sqnr_db": local + 20,
        "rounded_sqnr_db": None,
        "cumulative_sqnr_db": local,
    }
    return Layer(**{**fields, **changes})
