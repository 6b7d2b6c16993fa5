"""What layers of a model compute: their output tensors by torch module, and running a model up to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.onnx.files import JOINT, MODEL
from fastserve_converters.formats.onnx.portable import BIAS, module_of

if TYPE_CHECKING:
    import onnx_ir as ir


def layer_tensors(folder: Path) -> dict[str, str]:
    """Return torch module name → tensor with its output, for an artifact's linear layers, embeddings and norms.

    Layers that were fused away are left out: the projections inside a QAttention have no tensor of their own. Of a
    layer that is called several times, the first call counts.
    """
    import onnx_ir as ir

    model = ir.load(folder / MODEL)
    names = {str(value.name) for node in model.graph for value in node.outputs}
    named = [n for n in model.graph if _is_layer(n)]
    found = {module_of(n.name): str(n.outputs[0].name) for n in named}
    # A layer's last node, which adds its bias, gives its output.
    found |= {module_of(n.name): str(n.outputs[0].name) for n in named if str(n.name).endswith(BIAS)}
    return {module: module if module in names else tensor for module, tensor in found.items()}


def _is_layer(node: ir.Node) -> bool:
    name = node.name or ""
    is_ours = "." in name and not name.startswith("node_") and not node.op_type.endswith("uantizeLinear")
    return is_ours and "#" not in name and JOINT not in name


def layer_reader(
    file: Path, tensors: Mapping[str, str]
) -> Callable[[Mapping[str, NDArray[np.generic]]], dict[str, NDArray[np.floating]]]:
    """Return a function that runs a sample (inputs by name) and gives what layers computed, by torch module name.

    Args:
        file: a model.
        tensors: torch module name → tensor, as `layer_tensors` gives them.
    """
    import onnx
    import onnxruntime

    model = onnx.load(str(file))
    outputs = {o.name for o in model.graph.output}
    wanted = sorted(set(tensors.values()))
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def read(sample: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.floating]]:
        if not wanted:
            return {}  # of no names the engine would give all outputs
        values = dict(zip(wanted, session.run(wanted, dict(sample)), strict=True))
        return {module: np.asarray(values[tensor], np.float32) for module, tensor in tensors.items()}

    return read
