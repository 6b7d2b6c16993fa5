"""An ONNX artifact's files: what is read, written and said of them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_converters.artifact import GRAPH_OPTIMIZATION, Artifact, count_operators
from fastserve_converters.formats import ExportJob
from fastserve_converters.layer_map import (
    LAYER_MAP,
    group_by_module,
    kept_intermediates,
    read_intermediates,
    read_modules,
    write_layer_map,
)
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, Requirement
from fastserve_runtime.bundle.tensor_specs import Signature

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastserve_converters.models.model import TracedPart

MODEL = "model.onnx"
JOINT = " + "
"""Between the modules in the name of what several have in common."""
_ENGINE = "onnxruntime"
# First release that reads the IR version: https://onnxruntime.ai/docs/reference/compatibility.html
_MIN_RUNTIME = {8: (1, 14), 9: (1, 17), 10: (1, 18), 11: (1, 22)}
_MIN_FOR_OPERATOR = {"GatherBlockQuantized": (1, 23), "MatMulNBits": (1, 22)}
"""First release with the forms that are written here: integers of 8 bits, or two of 4 in a byte."""

_OPSET_OF_UINT4 = 21


def copy_layer_map(base: Path, folder: Path) -> None:
    """Take over a base's layer map, where tensors keep their names."""
    shutil.copyfile(base / LAYER_MAP, folder / LAYER_MAP)


def modules_by_tensor(folder: Path) -> dict[str, str]:
    """Return tensor → torch module, as an artifact's layer map has them."""
    known = read_modules(folder)
    return {name: module for module, names in known.items() for name in names}


def update_layer_map(folder: Path, model: ir.Model) -> None:
    """Leave out tensors of the layer map that rewriting removed, and add the constants that it called by modules."""
    known = read_modules(folder)
    given = {str(value.name): node.op_type for node in model.graph for value in node.outputs}
    tensors = given.keys() | model.graph.initializers.keys()
    # What it multiplies can be had beside it; its node is named by its projections.
    joint = {part: n.op_type for n in model.graph if n.op_type == "QAttention" for part in str(n.name).split(JOINT)}
    constants = [(m, name) for name in model.graph.initializers for m in name.rpartition(".")[0].split(JOINT)]
    kept = [(module, name) for module, names in known.items() for name in names if name in tensors]
    modules = group_by_module([*kept, *((m, name) for m, name in constants if m in known)])
    write_layer_map(folder, modules, kept_intermediates(read_intermediates(folder), {**joint, **given}))


def save(model: ir.Model, folder: Path) -> None:
    """Write the model, the same bytes for the same graph."""
    import onnx_ir as ir

    used = {node.domain for node in model.graph}
    for domain in used - model.graph.opset_imports.keys():
        model.graph.opset_imports[domain] = 1
    for domain in [d for d in model.graph.opset_imports if d and d not in used]:
        del model.graph.opset_imports[domain]
    if any(v.dtype == ir.DataType.UINT4 for v in model.graph.initializers.values()):
        # Operators of this graph are the same in both; Cast takes the type from here on.
        model.graph.opset_imports[""] = max(model.graph.opset_imports[""], _OPSET_OF_UINT4)
    content = ir.to_proto(model).SerializeToString(deterministic=True)
    (folder / MODEL).write_bytes(content)


def operator_counts(model: ir.Model) -> Mapping[str, int]:
    """Return how many operators of each kind a graph has, the most frequent first."""
    return dict(Counter(n.op_type for n in model.graph).most_common())


def write_graph_optimization(folder: Path, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Write what rewriting did to the operators, beside the artifact."""
    (folder / GRAPH_OPTIMIZATION).write_text(json.dumps({"before": before, "after": after}, indent=1))


def describe(job: ExportJob[TracedPart]) -> Artifact:
    """Return what a manifest says of the model that was written."""
    return described(job.out, "main", job.part.signature)


def described(folder: Path, graph: str, signature: Signature) -> Artifact:
    """Return what a manifest says of the model in a folder, whose one graph has a name and a signature."""
    import onnx_ir as ir

    model = ir.load(folder / MODEL)
    opsets = model.graph.opset_imports
    counts = Counter((n.domain or "ai.onnx", n.op_type, opsets[n.domain]) for n in model.graph)
    total = counts.total()
    minimum = max(
        _MIN_RUNTIME.get(model.ir_version, (1, 22)),
        *(_MIN_FOR_OPERATOR.get(operator, (1, 14)) for _, operator, _ in counts),
    )
    return Artifact(
        files=(MODEL,),
        graphs={graph: Graph(MODEL, "main", signature)},
        operators=count_operators(counts),
        expected_placement=ExpectedPlacement("cpu", "CPUExecutionProvider", total, total),
        requires=Requirement(_ENGINE, ".".join(map(str, minimum)), (), ()),
    )
