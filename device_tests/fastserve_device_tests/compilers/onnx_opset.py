"""Writing an ONNX model in an older operator set, for compilers that do not read the newest one.

Nothing is approximated: an operator that the older set has with the same meaning stays, `Gelu` becomes the operators
that define it, and any other newer operator is refused.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastserve_runtime.errors import BundleError

_STANDARD_DOMAINS = {"", "ai.onnx"}
_GELU = "Gelu"


def lower_opset(model: Any, opset: int) -> Any:
    """Return a model whose operators are all of an operator set, or of an older one.

    Args:
        model: an `onnx.ModelProto`; it stays as it is.
        opset: the newest version of ONNX's own operators that may stay. A model of it or of an older one is returned
            unchanged.

    Raises:
        BundleError: it has operators that this set does not have, or that are not ONNX's own.
    """
    onnx = importlib.import_module("onnx")
    entries = [entry for entry in model.opset_import if entry.domain in _STANDARD_DOMAINS]
    version = max((entry.version for entry in entries), default=1)
    unknown = sorted(set(_unknown_operators(onnx, model, version, opset)))
    if unknown:
        raise BundleError(
            f"The model has operators that ONNX's operator set {opset} lacks: {', '.join(unknown)}.",
            "Export a portable precision, such as fp32.",
        )
    if version <= opset:
        return model
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    if any(node.op_type == _GELU for node in lowered.graph.node):
        _expand_gelus(onnx, lowered)
    for entry in lowered.opset_import:
        if entry.domain in _STANDARD_DOMAINS:
            entry.version = opset
    return lowered


def _unknown_operators(onnx: Any, model: Any, version: int, opset: int) -> Iterator[str]:
    """Yield what has no equal in the older set; `Gelu` has one where it stands in the outermost graph."""
    for node, is_outermost in _nodes(model.graph, is_outermost=True):
        if node.domain not in _STANDARD_DOMAINS:
            yield f"{node.domain}.{node.op_type}"
        elif not (is_outermost and node.op_type == _GELU) and _changed_in(onnx, node.op_type, version) > opset:
            yield node.op_type


def _nodes(graph: Any, *, is_outermost: bool) -> Iterator[tuple[Any, bool]]:
    """Yield the nodes of a graph and of the graphs inside its nodes (`If`, `Loop`)."""
    for node in graph.node:
        yield node, is_outermost
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _nodes(inner, is_outermost=False)


def _changed_in(onnx: Any, operator: str, version: int) -> float:
    """Return the version in which an operator became what it is in `version`; infinite for one that is not there."""
    try:
        since: int = onnx.defs.get_schema(operator, version, "").since_version
    except onnx.defs.SchemaError:
        return math.inf
    return since


def _expand_gelus(onnx: Any, model: Any) -> None:
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.value_info)}
    nodes: list[Any] = []
    for node in graph.node:
        if node.op_type == _GELU:
            expansion = _Expansion(onnx, node.output[0], types.get(node.input[0], onnx.TensorProto.FLOAT), [], [])
            expansion.write_gelu(node)
            nodes += expansion.nodes
            graph.initializer.extend(expansion.constants)
        else:
            kept = onnx.NodeProto()
            kept.CopyFrom(node)
            nodes.append(kept)
    del graph.node[:]
    graph.node.extend(nodes)


@dataclass
class _Expansion:
    """The nodes that stand in the place of one, and their constants. Its output's name makes theirs unique."""

    onnx: Any
    output: str
    element_type: int
    nodes: list[Any]
    constants: list[Any]

    def write_gelu(self, gelu: Any) -> None:
        """Write x · ½ · (1 + erf(x / √2)), or with the tanh that approximates it, where the model asks for that.

        The order of the operators is the one that PyTorch exported before there was a `Gelu`, which compilers
        recognize and fuse.
        """
        values = gelu.input[0]
        attributes = {a.name: self.onnx.helper.get_attribute_value(a) for a in gelu.attribute}
        if attributes.get("approximate", b"none") == b"tanh":
            cube = self._node("Mul", self._node("Mul", values, values, "square"), values, "cube")
            bent = self._node("Add", values, self._node("Mul", cube, self._constant(0.044715), "bend"), "bent")
            inner = self._node("Mul", bent, self._constant(math.sqrt(2 / math.pi)), "inner")
            curve = self._node("Tanh", inner, name="curve")
        else:
            curve = self._node("Erf", self._node("Div", values, self._constant(math.sqrt(2)), "inner"), name="curve")
        shifted = self._node("Add", curve, self._constant(1.0), "shifted")
        product = self._node("Mul", values, shifted, "product")
        node = self.onnx.helper.make_node("Mul", [product, self._constant(0.5)], [self.output], name=gelu.name)
        self.nodes.append(node)

    def _node(self, operator: str, first: str, second: str | None = None, name: str = "") -> str:
        """Write a node, and return the name of its output."""
        output = f"{self.output}/{name}"
        inputs = [first] if second is None else [first, second]
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], name=output))
        return output

    def _constant(self, value: float) -> str:
        name = f"{self.output}/constant_{len(self.constants)}"
        self.constants.append(self.onnx.helper.make_tensor(name, self.element_type, [], [value]))
        return name
